//! An attack: a request, its caller and the expected outcome; and the code that tries it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use anyhow::Context as _;
use curfew::core::guard::CANARY;
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use crate::support::json::CURFEW;
use crate::support::{Suite, merge};

/// One attempt and its expected outcome.
#[derive(Clone, Debug)]
pub struct Attack {
    /// The attempt: a sentence without its subject, such as "deletes a fuse". Printed on failure.
    pub what: String,
    /// The caller. RBAC allows the request, unless the expected outcome is [`Holds::Rbac`].
    pub who: Who,
    /// The request to the API server.
    pub request: Request,
    /// The expected outcome.
    pub holds: Holds,
}

/// Caller of the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A person of [`crate::harness::PEOPLE`], or `admin`.
    Person(&'static str),
    /// The holder of a token of this ServiceAccount in `curfew-system`.
    Stolen(&'static str),
    /// A person, or `admin`, who impersonates this user.
    As(&'static str, String),
    /// The administrator, who impersonates this user in the group `system:masters`: RBAC allows everything.
    AlmightyAs(String),
}

/// Expected outcome of an attack.
#[derive(Clone, Debug)]
pub enum Holds {
    /// This guard refuses, and its message contains these words.
    Guard(&'static str, &'static str),
    /// Each of these guards refuses. The API server names only one of them: the first that it evaluated.
    EachOf(&'static [&'static str]),
    /// The schema of the object refuses (`Invalid`), and its message contains these words.
    Schema(&'static str),
    /// RBAC refuses.
    Rbac,
    /// The request is accepted, and no access becomes larger or longer. The test checks that separately.
    Harmless,
}

/// HTTP request to the API server.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    query: Vec<String>,
    content: &'static str,
    body: Value,
}

impl Request {
    fn new(method: Method, path: impl Into<String>, content: &'static str, body: Value) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            content,
            body,
        }
    }

    /// Create in a collection.
    pub fn create(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, path, "application/json", body)
    }

    /// Replace: the whole object.
    pub fn replace(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PUT, path, "application/json", body)
    }

    /// JSON merge patch (RFC 7386).
    pub fn merge(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path, "application/merge-patch+json", body)
    }

    /// Strategic merge patch, as `kubectl edit` sends it.
    pub fn strategic(path: impl Into<String>, body: Value) -> Self {
        Self::new(
            Method::PATCH,
            path,
            "application/strategic-merge-patch+json",
            body,
        )
    }

    /// JSON patch (RFC 6902).
    pub fn json(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path, "application/json-patch+json", body)
    }

    /// Server-side apply with `force`: takes over the fields of other managers, as GitOps tools do.
    pub fn apply(path: impl Into<String>, manager: &str, body: Value) -> Self {
        let mut request = Self::new(Method::PATCH, path, "application/apply-patch+yaml", body);
        request.query = vec![format!("fieldManager={manager}"), "force=true".to_owned()];
        request
    }

    /// Delete with these `DeleteOptions`. On a collection, delete all of it.
    pub fn delete(path: impl Into<String>, options: Value) -> Self {
        Self::new(Method::DELETE, path, "application/json", options)
    }

    /// The same request with a label selector.
    pub fn selecting(mut self, labels: &str) -> Self {
        self.query.push(format!("labelSelector={labels}"));
        self
    }

    /// Opens a connection through the API server, as `kubectl exec` does. It has no dry run.
    pub fn connect(path: impl Into<String>, query: &str) -> Self {
        let mut request = Self::new(Method::POST, path, "application/json", Value::Null);
        request.query = vec![query.to_owned()];
        request
    }

    /// True for a request that opens a connection: it has no body.
    pub fn connects(&self) -> bool {
        self.body.is_null()
    }

    /// The same request as a dry run. A connection stays as it is.
    pub fn dry(&self) -> Self {
        let mut dry = self.clone();
        if dry.method == Method::DELETE {
            merge(&mut dry.body, json!({"dryRun": ["All"]}));
        } else if !dry.connects() && !dry.is_dry() {
            dry.query.push(DRY.to_owned());
        }
        dry
    }

    fn is_dry(&self) -> bool {
        self.query.iter().any(|part| part == DRY)
    }
}

const DRY: &str = "dryRun=All";

/// Path of `rest` in a namespace; of a cluster-scoped object if `namespace` is empty.
///
/// Examples of `rest`: `jobs`, `jobs/name`, `jobs/name/status`.
pub fn at(group_version: &str, namespace: &str, rest: &str) -> String {
    let root = if group_version == "v1" { "api" } else { "apis" };
    if namespace.is_empty() {
        format!("/{root}/{group_version}/{rest}")
    } else {
        format!("/{root}/{group_version}/namespaces/{namespace}/{rest}")
    }
}

/// One change of an object by each kind of request that can make it, with the name of the kind.
///
/// Server-side apply is left out if the change removes something: apply keeps fields that the request omits.
pub fn every_way(path: &str, object: &Value, change: &Value) -> Vec<(&'static str, Request)> {
    let mut whole = object.clone();
    merge(&mut whole, change.clone());
    let mut operations = Vec::new();
    operations_for(object, change, "", &mut operations);
    let mut ways = vec![
        ("merge patch", Request::merge(path, change.clone())),
        ("JSON patch", Request::json(path, Value::Array(operations))),
        ("replace", Request::replace(path, whole)),
    ];
    if object["apiVersion"] != CURFEW {
        // The API server does not support this patch for custom resources.
        ways.push(("strategic merge patch", Request::strategic(path, change.clone())));
    }
    if !removes_something(change) {
        let mut applied = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {"name": object["metadata"]["name"]},
        });
        merge(&mut applied, change.clone());
        ways.push(("forced apply", Request::apply(path, "argocd-controller", applied)));
    }
    ways
}

fn removes_something(change: &Value) -> bool {
    match change {
        Value::Null => true,
        Value::Object(fields) => fields.values().any(removes_something),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn operations_for(object: &Value, change: &Value, path: &str, operations: &mut Vec<Value>) {
    for (key, value) in change.as_object().into_iter().flatten() {
        let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        let current = &object[key];
        if value.is_null() {
            operations.push(json!({"op": "remove", "path": path}));
        } else if value.is_object() && current.is_object() {
            operations_for(current, value, &path, operations);
        } else {
            operations.push(json!({"op": "add", "path": path, "value": value}));
        }
    }
}

/// All callers, each with one client.
pub struct Callers<'a> {
    suite: &'a Suite,
    clients: tokio::sync::Mutex<HashMap<Who, Client>>,
}

impl<'a> Callers<'a> {
    /// No clients yet: the first request of a caller creates one.
    pub fn new(suite: &'a Suite) -> Self {
        Self {
            suite,
            clients: tokio::sync::Mutex::default(),
        }
    }

    async fn client(&self, who: &Who) -> anyhow::Result<Client> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(who) {
            return Ok(client.clone());
        }
        let plane = &self.suite.plane;
        let client = match who {
            Who::Person(name) | Who::As(name, _) => plane.client_as(name).await?,
            Who::AlmightyAs(_) => plane.admin().await?,
            Who::Stolen(account) => {
                let token = plane.service_account_token("curfew-system", account).await?;
                plane.client_for_token(&token, &plane.url()).await?
            }
        };
        clients.insert(who.clone(), client.clone());
        Ok(client)
    }

    /// Sends the request as this caller and returns the answer of the API server.
    ///
    /// # Errors
    /// The outer error: no request was sent. The inner error: the API server refused, or the connection failed.
    pub async fn ask(&self, who: &Who, request: &Request) -> anyhow::Result<kube::Result<Value>> {
        let uri = format!("{}?{}", request.path, request.query.join("&"));
        let mut http = http::Request::builder()
            .method(request.method.clone())
            .uri(uri)
            .header("Content-Type", request.content);
        match who {
            Who::As(_, name) => http = http.header("Impersonate-User", name),
            Who::AlmightyAs(name) => {
                http = http
                    .header("Impersonate-User", name)
                    .header("Impersonate-Group", "system:masters");
            }
            Who::Person(_) | Who::Stolen(_) => {}
        }
        let body = if request.connects() {
            Vec::new()
        } else {
            request.body.to_string().into_bytes()
        };
        let client = self.client(who).await?;
        Ok(client.request(http.body(body)?).await)
    }

    /// Tries an attack, then tries it again as a dry run: a dry run must not get past a guard either.
    ///
    /// There is no dry run of a harmless request or of a connection, nor against the guard of the canary, which may
    /// make dry runs.
    ///
    /// # Errors
    /// The difference from the expected outcome.
    pub async fn try_out(&self, attack: &Attack) -> Result<(), String> {
        let really = self.answer(attack, &attack.request).await?;
        check(&attack.holds, &really)?;
        if matches!(attack.holds, Holds::Harmless | Holds::Guard(CANARY, _)) || attack.request.connects() {
            return Ok(());
        }
        let dry = self.answer(attack, &attack.request.dry()).await?;
        check(&attack.holds, &dry).map_err(|error| format!("as a dry run: {error}"))
    }

    /// Checks by a dry run that nothing refuses this request now.
    ///
    /// # Errors
    /// The refusal.
    pub async fn lets_through(&self, attack: &Attack) -> Result<(), String> {
        match self.answer(attack, &attack.request.dry()).await? {
            Ok(_) => Ok(()),
            // No connection succeeds here. An error other than "forbidden" comes after admission, which let it through.
            Err(error) if attack.request.connects() && !error.contains("forbidden") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn answer(&self, attack: &Attack, request: &Request) -> Result<Result<Value, String>, String> {
        let answer = self.ask(&attack.who, request).await;
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        Ok(answer.map_err(|error| error.to_string()))
    }
}

fn check(holds: &Holds, answer: &Result<Value, String>) -> Result<(), String> {
    let expected = match (holds, answer) {
        (Holds::Harmless, Ok(_)) => true,
        (Holds::Harmless, Err(_)) | (_, Ok(_)) => false,
        (Holds::Guard(guard, words), Err(error)) => {
            error.contains(&format!("'{guard}'")) && error.contains(words)
        }
        (Holds::EachOf(guards), Err(error)) => {
            guards.iter().any(|guard| error.contains(&format!("'{guard}'")))
        }
        (Holds::Schema(words), Err(error)) => error.contains("is invalid") && error.contains(words),
        (Holds::Rbac, Err(error)) => error.contains("cannot"),
    };
    match answer {
        _ if expected => Ok(()),
        Ok(_) => Err(format!("accepted, expected {holds:?}")),
        Err(error) => Err(format!("expected {holds:?}, got: {error}")),
    }
}

/// Number of attacks of each family: tried, and as expected.
static COUNTS: Mutex<BTreeMap<&'static str, (usize, usize)>> = Mutex::new(BTreeMap::new());

/// Adds to the counts of a family; `held` is the number of attacks with the expected outcome.
pub fn count(family: &'static str, tried: usize, held: usize) {
    if let Ok(mut counts) = COUNTS.lock() {
        let (all, good) = counts.entry(family).or_default();
        *all += tried;
        *good += held;
    }
}

/// The counts: one line for all attacks, then one line for each family. Empty if no attack was tried.
pub fn summary() -> String {
    let counts = COUNTS.lock().map(|counts| counts.clone()).unwrap_or_default();
    if counts.is_empty() {
        return String::new();
    }
    let (mut tried, mut held) = (0, 0);
    let mut lines = Vec::new();
    for (family, (all, good)) in counts {
        tried += all;
        held += good;
        lines.push(format!("  {family}: {all} tried, {good} held\n"));
    }
    format!("attacks: {tried} tried, {held} held\n{}", lines.concat())
}

/// Tries and counts all attacks of a family.
///
/// # Errors
/// Every attack without the expected outcome, one on each line; or an empty list of attacks.
pub async fn try_all(callers: &Callers<'_>, family: &'static str, attacks: &[Attack]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for attack in attacks {
        if let Err(error) = callers.try_out(attack).await {
            failed.push(format!("{:?} {}: {error}", attack.who, attack.what));
        }
    }
    count(family, attacks.len(), attacks.len() - failed.len());
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    (!attacks.is_empty())
        .then_some(())
        .context("the list of attacks is empty")
}
