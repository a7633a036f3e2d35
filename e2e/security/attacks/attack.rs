//! What an attack is, and how it is tried.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use anyhow::Context as _;
use curfew::core::CANARY;
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use crate::support::json::CURFEW;
use crate::support::{Suite, merge};

/// Something that somebody tries, and what must come of it.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What is tried, as a sentence without its subject.
    pub what: String,
    /// Who tries. RBAC lets them, unless it is what must hold.
    pub who: Who,
    /// What is asked of the API server.
    pub request: Request,
    /// What must hold.
    pub holds: Holds,
}

/// Somebody who calls the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// One of the people, or `admin`.
    Person(&'static str),
    /// Whoever has a token of that ServiceAccount in Curfew's namespace.
    Stolen(&'static str),
    /// One of the people, or `admin`, in the name of somebody else.
    As(&'static str, String),
    /// The administrator, in the name of somebody else and with every right there is.
    AlmightyAs(String),
}

/// What must come of an attack.
#[derive(Clone, Debug)]
pub enum Holds {
    /// That guard refuses, with a sentence that holds these words.
    Guard(&'static str, &'static str),
    /// Each of those guards refuses: the API server tells the first that it asked.
    EachOf(&'static [&'static str]),
    /// The rules of the CRD refuse, with these words.
    Schema(&'static str),
    /// RBAC refuses.
    Rbac,
    /// It is accepted, and no access becomes larger or longer by it; what shows that is checked beside it.
    Harmless,
}

/// One request.
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

    /// Creates, in a collection.
    pub fn create(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, path, "application/json", body)
    }

    /// Replaces.
    pub fn replace(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PUT, path, "application/json", body)
    }

    /// Patches as in RFC 7386.
    pub fn merge(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path, "application/merge-patch+json", body)
    }

    /// Patches as `kubectl edit` does.
    pub fn strategic(path: impl Into<String>, body: Value) -> Self {
        Self::new(
            Method::PATCH,
            path,
            "application/strategic-merge-patch+json",
            body,
        )
    }

    /// Patches as in RFC 6902.
    pub fn json(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path, "application/json-patch+json", body)
    }

    /// Applies server-side and takes over what others own, as GitOps tools do.
    pub fn apply(path: impl Into<String>, manager: &str, body: Value) -> Self {
        let mut request = Self::new(Method::PATCH, path, "application/apply-patch+yaml", body);
        request.query = vec![format!("fieldManager={manager}"), "force=true".to_owned()];
        request
    }

    /// Deletes, with these `DeleteOptions`.
    pub fn delete(path: impl Into<String>, options: Value) -> Self {
        Self::new(Method::DELETE, path, "application/json", options)
    }

    /// The same with a label selector.
    pub fn selecting(mut self, labels: &str) -> Self {
        self.query.push(format!("labelSelector={labels}"));
        self
    }

    /// Opens a connection through the API server. It cannot be tried without doing it.
    pub fn connect(path: impl Into<String>, query: &str) -> Self {
        let mut request = Self::new(Method::POST, path, "application/json", Value::Null);
        request.query = vec![query.to_owned()];
        request
    }

    /// Whether it opens a connection.
    pub fn connects(&self) -> bool {
        self.body.is_null()
    }

    /// The same, without doing it.
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

/// The path of objects of a namespace: `jobs`, `jobs/name`, `jobs/name/status`.
pub fn at(group_version: &str, namespace: &str, rest: &str) -> String {
    let root = if group_version == "v1" { "api" } else { "apis" };
    if namespace.is_empty() {
        format!("/{root}/{group_version}/{rest}")
    } else {
        format!("/{root}/{group_version}/namespaces/{namespace}/{rest}")
    }
}

/// The same change in every way in which an object can be changed. A change that takes something away cannot be
/// applied: what is left out stays.
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
        // Custom resources know no such patch.
        ways.push(("strategic merge patch", Request::strategic(path, change.clone())));
    }
    if !takes_away(change) {
        let mut applied = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {"name": object["metadata"]["name"]},
        });
        merge(&mut applied, change.clone());
        ways.push(("forced apply", Request::apply(path, "argocd-controller", applied)));
    }
    ways
}

fn takes_away(change: &Value) -> bool {
    match change {
        Value::Null => true,
        Value::Object(fields) => fields.values().any(takes_away),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn operations_for(object: &Value, change: &Value, path: &str, operations: &mut Vec<Value>) {
    for (key, value) in change.as_object().into_iter().flatten() {
        let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        let there = &object[key];
        if value.is_null() {
            operations.push(json!({"op": "remove", "path": path}));
        } else if value.is_object() && there.is_object() {
            operations_for(there, value, &path, operations);
        } else {
            operations.push(json!({"op": "add", "path": path, "value": value}));
        }
    }
}

/// Everybody who attacks, each with one client.
pub struct Callers<'a> {
    suite: &'a Suite,
    clients: tokio::sync::Mutex<HashMap<Who, Client>>,
}

impl<'a> Callers<'a> {
    /// Nobody yet.
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

    /// Asks; what the API server answers.
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

    /// Tries an attack: really, and as a dry run, which must be no way around but for the canary, who is there to make
    /// some. What did not hold, if anything.
    pub async fn try_out(&self, attack: &Attack) -> Result<(), String> {
        let really = self.answer(attack, &attack.request).await?;
        judge(&attack.holds, &really)?;
        if matches!(attack.holds, Holds::Harmless | Holds::Guard(CANARY, _)) || attack.request.connects() {
            return Ok(());
        }
        let dry = self.answer(attack, &attack.request.dry()).await?;
        judge(&attack.holds, &dry).map_err(|error| format!("as a dry run: {error}"))
    }

    /// Whether nothing refuses an attack now, without doing it.
    pub async fn lets_through(&self, attack: &Attack) -> Result<(), String> {
        match self.answer(attack, &attack.request.dry()).await? {
            Ok(_) => Ok(()),
            // Whoever gets as far as being told so was let through.
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

fn judge(holds: &Holds, answer: &Result<Value, String>) -> Result<(), String> {
    let as_it_must = match (holds, answer) {
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
        _ if as_it_must => Ok(()),
        Ok(_) => Err("accepted".to_owned()),
        Err(error) => Err(format!("instead of {holds:?}: {error}")),
    }
}

/// How many attacks of each family were tried, and how many of them held.
static TALLY: Mutex<BTreeMap<&'static str, (usize, usize)>> = Mutex::new(BTreeMap::new());

/// Counts attacks of a family.
pub fn count(family: &'static str, tried: usize, held: usize) {
    if let Ok(mut tally) = TALLY.lock() {
        let (all, good) = tally.entry(family).or_default();
        *all += tried;
        *good += held;
    }
}

/// What was counted, as one line for each family and one for all; none where nothing was tried.
pub fn summary() -> String {
    let tally = TALLY.lock().map(|tally| tally.clone()).unwrap_or_default();
    if tally.is_empty() {
        return String::new();
    }
    let (mut tried, mut held) = (0, 0);
    let mut lines = Vec::new();
    for (family, (all, good)) in tally {
        tried += all;
        held += good;
        lines.push(format!("  {family}: {all} tried, {good} held\n"));
    }
    format!("attacks: {tried} tried, {held} held\n{}", lines.concat())
}

/// Tries all attacks of a family, counts them, and tells every one that did not hold.
pub async fn try_all(callers: &Callers<'_>, family: &'static str, attacks: &[Attack]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for attack in attacks {
        if let Err(error) = callers.try_out(attack).await {
            failed.push(format!("{:?} {}: {error}", attack.who, attack.what));
        }
    }
    count(family, attacks.len(), attacks.len() - failed.len());
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    (!attacks.is_empty()).then_some(()).context("no attack at all")
}
