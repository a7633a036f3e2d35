//! `make bench-guards`: time that the guards add to requests that have nothing to do with Curfew.
//!
//! The comparison is paired: the same person makes the same requests on the same control plane, in turns with the
//! guards in force and without guards.
//!
//! The benchmark removes the guards by deleting their bindings, and brings them back with `kubectl apply`. The API
//! server needs a moment to apply either change. Measurement starts after a dry run has shown the new state.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::{Plane, eventually, in_repository, install};
use crate::progress::Teller;
use crate::readings::percentile;

/// Namespace of the requests.
const NAMESPACE: &str = "cost";
/// Person who makes the requests. Holds `admin` in the namespace, as a team lead does, and the verb `bind` on the role
/// that the requests bind. The administrator would be wrong: the API server does not check the administrator's rights.
/// Without `bind`, the API server would first list all rights of the person. That takes 100 ms here and would hide the
/// result.
const PERSON: &str = "bob";
/// Requests of each kind in one turn.
const REQUESTS: usize = 60;
/// Turns with guards; there are as many without guards.
const TURNS: usize = 4;
/// Numbers of people with elevated access in the namespace: one measurement for each number.
const HOLDERS: [usize; 3] = [0, 200, 3_000];
/// Deadline for the API server to apply a change.
const EFFECTIVE: Duration = Duration::from_mins(1);

/// Kinds of objects that the requests create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    RoleBinding,
    Job,
    Secret,
}

impl Made {
    const ALL: [Self; 3] = [Self::RoleBinding, Self::Job, Self::Secret];
}

/// Times of the requests of one kind with one number of holders, in milliseconds.
#[derive(Debug, Serialize)]
struct Row {
    made: String,
    holders: usize,
    with_guards: Vec<f64>,
    without: Vec<f64>,
}

/// Measures, writes all times to the file `json`, and prints the table.
pub async fn run(json: &std::path::Path) -> anyhow::Result<()> {
    let mut teller = Teller::new(1 + HOLDERS.len());
    teller.phase("starting a control plane with a durable etcd, and installing Curfew");
    let plane = Plane::start_durable().await?;
    let outcome = measure(&plane, &mut teller).await;
    if outcome.is_err() {
        plane.keep_logs();
    }
    plane.stop().await?;
    let rows = outcome?;
    std::fs::write(json, serde_json::to_vec_pretty(&rows)?)?;
    std::io::stdout().write_all(table(&rows)?.as_bytes())?;
    Ok(())
}

async fn measure(plane: &Plane, teller: &mut Teller) -> anyhow::Result<Vec<Row>> {
    install(plane).await?;
    let admin = plane.admin().await?;
    create(
        &Api::<Namespace>::all(admin.clone()),
        json!({"metadata": {"name": NAMESPACE}}),
    )
    .await?;
    create(
        &Api::<RoleBinding>::namespaced(admin.clone(), NAMESPACE),
        binding("lead", "admin", PERSON),
    )
    .await?;
    create(
        &Api::<ClusterRole>::all(admin.clone()),
        json!({"metadata": {"name": "binds-view"}, "rules": [{"apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]}]}),
    )
    .await?;
    create(
        &Api::<RoleBinding>::namespaced(admin.clone(), NAMESPACE),
        binding("binder", "binds-view", PERSON),
    )
    .await?;
    let person = plane.client_as(PERSON).await?;
    let mut rows = Vec::new();
    let mut present = 0;
    for holders in HOLDERS {
        teller.phase(format!(
            "with {holders} holders of elevated access in the namespace"
        ));
        give_elevated_access(&admin, present..holders).await?;
        present = holders;
        let mut measured: Vec<Row> = Made::ALL
            .iter()
            .filter(|made| holders == 0 || **made == Made::RoleBinding)
            .map(|made| Row {
                made: format!("{made:?}"),
                holders,
                with_guards: Vec::new(),
                without: Vec::new(),
            })
            .collect();
        for turn in 0..TURNS {
            teller.step(format!("turn {} of {TURNS}", turn + 1));
            // The order alternates: a fixed order would favour one side.
            for guarded in [turn % 2 == 0, turn % 2 != 0] {
                set_guards(plane, &person, guarded).await?;
                for (row, made) in measured.iter_mut().zip(Made::ALL) {
                    let times = requests(&person, made).await?;
                    let column = if guarded {
                        &mut row.with_guards
                    } else {
                        &mut row.without
                    };
                    column.extend(times);
                }
            }
        }
        rows.extend(measured);
    }
    Ok(rows)
}

/// Removes the guards or brings them back, and waits until the API server applies the change.
async fn set_guards(plane: &Plane, person: &Client, wanted: bool) -> anyhow::Result<()> {
    if wanted {
        plane.apply(&in_repository("manifests/guards.yaml")).await?;
    } else {
        let kinds = "validatingadmissionpolicybindings,mutatingadmissionpolicybindings";
        let label = "app.kubernetes.io/name=curfew";
        plane.run_kubectl(&["delete", kinds, "--selector", label]).await?;
    }
    let jobs = Api::<Job>::namespaced(person.clone(), NAMESPACE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let what = if wanted {
        "guards are in force"
    } else {
        "no guard is in force"
    };
    let in_effect = async || {
        let reserved_name =
            serde_json::from_value(job("curfew-not-by-curfew")).map_err(|error| error.to_string())?;
        match jobs.create(&dry_run, &reserved_name).await {
            Ok(_) if !wanted => Ok(()),
            Err(kube::Error::Api(status))
                if wanted && status.message.contains("ValidatingAdmissionPolicy") =>
            {
                Ok(())
            }
            other => Err(format!("{:?}", other.map(|_| "accepted"))),
        }
    };
    eventually(what, EFFECTIVE, in_effect).await
}

async fn requests(person: &Client, made: Made) -> anyhow::Result<Vec<f64>> {
    match made {
        Made::RoleBinding => timed::<RoleBinding>(person, |name| binding(name, "view", "someone")).await,
        Made::Job => timed::<Job>(person, job).await,
        Made::Secret => timed::<Secret>(person, |name| json!({"metadata": {"name": name}})).await,
    }
}

/// Creates [`REQUESTS`] objects one after the other, then deletes them. Returns the time of each creation.
async fn timed<K>(person: &Client, object_named: impl Fn(&str) -> Value) -> anyhow::Result<Vec<f64>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api = Api::<K>::namespaced(person.clone(), NAMESPACE);
    let mut times = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        let mut object = object_named(&format!("cost-{number}"));
        label(&mut object);
        let object: K = serde_json::from_value(object)?;
        let began = Instant::now();
        api.create(&PostParams::default(), &object).await?;
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    let measured = ListParams::default().labels("measured=yes");
    api.delete_collection(&DeleteParams::background(), &measured)
        .await?;
    eventually("the measured objects are gone", EFFECTIVE, async || {
        match api.list_metadata(&measured).await {
            Ok(list) if list.items.is_empty() => Ok(()),
            Ok(list) => Err(format!("{} are left", list.items.len())),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    Ok(times)
}

fn label(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".to_owned(), json!({"measured": "yes"}));
    }
}

/// Gives elevated access to one person for each number.
async fn give_elevated_access(admin: &Client, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let bindings = Api::<RoleBinding>::namespaced(admin.clone(), NAMESPACE);
    stream::iter(numbers)
        .map(|number| {
            let name = format!("holder-{number}");
            let object = binding(&name, "curfew-elevated", &name);
            let bindings = bindings.clone();
            async move { create(&bindings, object).await }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
}

async fn create<K>(api: &Api<K>, object: Value) -> anyhow::Result<()>
where
    K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await.map(drop)?;
    Ok(())
}

fn binding(name: &str, role: &str, person: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person}],
    })
}

/// A Job without pods, because only the creation of the Job is measured.
fn job(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"parallelism": 0, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "none", "image": "none"}]}}},
    })
}

fn table(rows: &[Row]) -> anyhow::Result<String> {
    let mut text = format!(
        "Time that the guards add to a request that has nothing to do with Curfew:\n\
         {} requests with guards and {} without, in {TURNS} turns each\n\n",
        REQUESTS * TURNS,
        REQUESTS * TURNS
    );
    writeln!(
        text,
        "{:<14}{:>10}{:>16}{:>16}{:>12}{:>12}",
        "created", "holders", "without p50", "with p50", "added", "with p99"
    )?;
    for row in rows {
        let (mut unguarded, mut guarded) = (row.without.clone(), row.with_guards.clone());
        unguarded.sort_by(f64::total_cmp);
        guarded.sort_by(f64::total_cmp);
        let without = percentile(&unguarded, 50).context("no request without guards was measured")?;
        let with = percentile(&guarded, 50).context("no request with guards was measured")?;
        let high = percentile(&guarded, 99).context("no request with guards was measured")?;
        let added = (with / without - 1.0) * 100.0;
        writeln!(
            text,
            "{:<14}{:>10}{without:>13.2} ms{with:>13.2} ms{added:>10.1} %{high:>9.2} ms",
            row.made, row.holders
        )?;
    }
    Ok(text)
}
