//! Speaks to the API server as the canary.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::time::Instant;

use super::edges::{call, client};
use super::error::Error;
use crate::core::CANARY;

/// How long the canary's token lives: the shortest that Kubernetes gives.
const TOKEN_SECONDS: i64 = 600;

/// When it is asked for anew: an API server that is away for minutes must not leave the canary without one.
const RENEW_AFTER: Duration = Duration::from_mins(5);

/// The canary: its token is asked for when it is needed, and kept in memory only.
pub struct Canary {
    config: Config,
    operator: Client,
    namespace: String,
    current: Mutex<Option<(Client, Instant)>>,
}

impl Canary {
    /// The canary in the operator's namespace, at the API server of that configuration. `operator` asks for its token.
    pub fn new(config: &Config, operator: Client, namespace: &str) -> Self {
        let mut config = config.clone();
        // Nothing of the operator's own: no certificate and no token.
        config.auth_info = AuthInfo::default();
        Self {
            config,
            operator,
            namespace: namespace.to_owned(),
            current: Mutex::default(),
        }
    }

    /// A client with a token that is valid for some minutes yet.
    pub async fn client(&self) -> Result<Client, Error> {
        if let Some(client) = self.current() {
            return Ok(client);
        }
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let asked_at = Instant::now();
        let what = "ask for the canary's token";
        let accounts = Api::<ServiceAccount>::namespaced(self.operator.clone(), &self.namespace);
        let made = call(
            what,
            accounts.create_token_request(CANARY, &PostParams::default(), &request),
        )
        .await?;
        let token = made.status.map(|status| status.token).unwrap_or_default();
        let client = self
            .client_with(&token)
            .map_err(|source| Error::of(what, source))?;
        self.put(Some((client.clone(), asked_at)));
        Ok(client)
    }

    /// Asks for another token next time: this one is not taken any more.
    pub fn forget_token(&self) {
        self.put(None);
    }

    fn current(&self) -> Option<Client> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (client, since) = current.as_ref()?;
        (since.elapsed() < RENEW_AFTER).then(|| client.clone())
    }

    fn put(&self, current: Option<(Client, Instant)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn client_with(&self, token: &str) -> Result<Client, kube::Error> {
        let mut config = self.config.clone();
        config.auth_info =
            serde_json::from_value(json!({"token": token})).map_err(kube::Error::SerdeError)?;
        client(config)
    }
}
