//! The operator as a process, with the permissions that it ships with.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use super::get::get;
use super::plane::Plane;
use super::process::{Guard, Guarded};
use super::wait::eventually;

/// How long the operator may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// How long it may take to end by itself.
const STOP: Duration = Duration::from_secs(30);
/// The namespace and the name of its ServiceAccount.
const ACCOUNT: (&str, &str) = ("curfew-system", "curfew");

/// How many operators this process has started: each has a log of its own.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// What may differ between operators.
#[derive(Debug, Clone, Default)]
pub struct OperatorOptions {
    /// The proxy to reach the API server through; none: directly.
    pub via: Option<String>,
    /// More arguments of `curfew run`.
    pub extra_args: Vec<String>,
    /// More environment variables.
    pub env: Vec<(String, String)>,
    /// Whether to return without waiting for it to be ready (a standby, or
    /// one that a proxy keeps from being ready).
    pub unready: bool,
}

/// A running operator; it is killed when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Guarded,
    address: SocketAddr,
}

impl Operator {
    /// Starts `binary run` with a token of the ServiceAccount
    /// `curfew-system/curfew`, which has to be there.
    pub async fn start(plane: &Plane, binary: &Path, options: OperatorOptions) -> anyhow::Result<Self> {
        let name = format!("curfew-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let token = plane.service_account_token(ACCOUNT.0, ACCOUNT.1).await?;
        let server = options.via.unwrap_or_else(|| plane.url());
        let kubeconfig = plane.kubeconfig_with_token(&token, &server, &name)?;
        let mut args = ["run", "--listen", "127.0.0.1:0", "--log-format", "json"]
            .map(String::from)
            .to_vec();
        args.extend(options.extra_args);
        let mut env = vec![("KUBECONFIG", kubeconfig.as_os_str())];
        let more = options.env.iter();
        env.extend(more.map(|(key, value)| (key.as_str(), OsStr::new(value))));
        let guard = Guard {
            name: &name,
            log: &plane.folder().join(format!("{name}.log")),
            sweep: None,
        };
        let process = guard.start(binary, &args, &env)?;

        let ready = async {
            let address = eventually("the operator tells where it listens", READY, async || {
                listening(&process.log()).ok_or_else(|| "it does not".into())
            })
            .await?;
            if !options.unready {
                eventually("the operator is ready", READY, async || {
                    match get(address, "/readyz").await {
                        Ok((200, _)) => Ok(()),
                        Ok((status, text)) => Err(format!("{status}: {text}")),
                        Err(error) => Err(format!("{error:#}")),
                    }
                })
                .await?;
            }
            anyhow::Ok(address)
        };
        let outcome = tokio::select! {
            outcome = ready => outcome,
            Some(code) = process.gone_within(READY * 2) => {
                Err(anyhow::anyhow!("the operator ended with {code}"))
            }
        };
        match outcome {
            Ok(address) => Ok(Self { process, address }),
            Err(error) => Err(error.context(process.log_tail(30))),
        }
    }

    /// Where its endpoints are.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its metrics, in the text format.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let (status, text) = get(self.address, "/metrics").await?;
        ensure!(status == 200, "/metrics answers {status}: {text}");
        Ok(text)
    }

    /// The status and the text of its readiness.
    pub async fn ready(&self) -> anyhow::Result<(u16, String)> {
        get(self.address, "/readyz").await
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill9(&self) -> anyhow::Result<()> {
        self.process.kill9().await.map(drop)
    }

    /// A function that sends SIGKILL and does not wait, for
    /// [`Fault::kill_after`](super::Fault::kill_after).
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        self.process.killer()
    }

    /// SIGSTOP: it does nothing until it is told to go on, and does not know.
    pub fn suspend(&self) {
        self.process.suspend();
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.process.go_on();
    }

    /// SIGTERM; returns the exit code when it is gone.
    pub async fn terminate(&self) -> anyhow::Result<i32> {
        self.process.terminate(STOP).await
    }

    /// Waits for it to be gone by itself, and returns the exit code.
    pub async fn gone_within(&self, deadline: Duration) -> Option<i32> {
        self.process.gone_within(deadline).await
    }

    /// Whether it is still there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The records of its audit log.
    pub fn audit_records(&self) -> Vec<Value> {
        let json = |text: &str| serde_json::from_str::<Value>(text).ok();
        self.log()
            .lines()
            .filter_map(json)
            .filter(|line| line.pointer("/target") == Some(&"curfew::audit".into()))
            .filter_map(|line| json(line.pointer("/fields/record")?.as_str()?))
            .collect()
    }

    /// The memory that it holds now, in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        self.process.resident_kib()
    }

    /// The most memory that it has held, in KiB.
    pub fn peak_kib(&self) -> anyhow::Result<u64> {
        self.process.peak_kib()
    }

    /// The processor time that it has used.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.process.cpu_seconds()
    }
}

/// The address in the line that says `listening`.
fn listening(log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = line.get("fields")?;
        let listening = fields.get("message")?.as_str()? == "listening";
        let address = fields.get("address")?.as_str()?;
        listening.then(|| address.parse().ok())?
    })
}
