//! Client of the API server with the identity of the canary.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client, Config};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::cluster::client::error::Error;
use crate::cluster::client::{call, client};
use crate::core::guard::CANARY;

/// Lifetime of the canary's token, in seconds: the shortest that Kubernetes issues.
const TOKEN_SECONDS: i64 = 600;

/// Age at which a token is replaced: half its lifetime, so that the canary keeps a valid token if the API server is
/// unavailable for minutes.
const RENEW_AFTER: Duration = Duration::from_mins(5);

/// The canary. Requests its token when it needs one, and keeps the token in memory only.
pub struct Canary {
    config: Config,
    operator: Client,
    namespace: String,
    current: Mutex<Option<(Client, Instant)>>,
}

impl Canary {
    /// The canary in the operator's namespace, at the API server of `config`. The client `operator` requests its token.
    pub fn new(config: &Config, operator: Client, namespace: &str) -> Self {
        let mut config = config.clone();
        // Without the operator's credentials: no certificate and no token.
        config.auth_info = AuthInfo::default();
        Self {
            config,
            operator,
            namespace: namespace.to_owned(),
            current: Mutex::default(),
        }
    }

    /// A client whose token is valid for at least 5 more minutes.
    ///
    /// # Errors
    /// The API server refused or could not answer the token request.
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

    /// Drops the token, because the API server does not accept it. The next call requests another token.
    pub fn forget_token(&self) {
        self.put(None);
    }

    fn current(&self) -> Option<Client> {
        let current = self.current.lock();
        let (client, since) = current.as_ref()?;
        (since.elapsed() < RENEW_AFTER).then(|| client.clone())
    }

    fn put(&self, current: Option<(Client, Instant)>) {
        *self.current.lock() = current;
    }

    fn client_with(&self, token: &str) -> Result<Client, kube::Error> {
        let mut config = self.config.clone();
        config.auth_info =
            serde_json::from_value(json!({"token": token})).map_err(kube::Error::SerdeError)?;
        client(config)
    }
}
