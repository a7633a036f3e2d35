//! The files, ports and flags of a plane's three processes.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};

use super::kubeconfig;
use super::people::{CONTROLLER_MANAGER, Tokens};
use super::process::{Guard, Guarded};

/// Ports below those that Linux and macOS give to outgoing connections, so
/// that a port stays free over a restart.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// What a plane needs of another one to go on from its state: etcd's data, the certificates by which the cluster knows
/// the API server, and the keys of its ServiceAccount tokens.
const STATE: [&str; 4] = [
    "etcd",
    "certificates",
    "service-accounts.key",
    "service-accounts.pub",
];
/// The audit policy's only rule: every request by a ServiceAccount of the
/// operator's namespace, once it is answered.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: [system:serviceaccounts:curfew-system]
";

/// Where a plane's binaries, files and ports are.
#[derive(Debug)]
pub struct Components {
    binaries: PathBuf,
    folder: PathBuf,
    etcd_port: u16,
    peer_port: u16,
    api_port: u16,
    fsync: bool,
}

impl Components {
    /// Picks ports and writes what the processes read into `folder`: a copy of `state`, which
    /// [`Components::save_state`] wrote, or an empty cluster.
    pub fn prepare(
        binaries: PathBuf,
        folder: &Path,
        tokens: &Tokens,
        fsync: bool,
        state: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut free = free_ports();
        let mut port = || free.next().context("no free port on loopback");
        let components = Self {
            binaries,
            folder: folder.to_owned(),
            etcd_port: port()?,
            peer_port: port()?,
            api_port: port()?,
            fsync,
        };
        if let Some(state) = state {
            copy_state(state, folder)?;
        } else {
            let key = rcgen::KeyPair::generate()?;
            fs::write(components.file("service-accounts.key"), key.serialize_pem())?;
            fs::write(components.file("service-accounts.pub"), key.public_key_pem())?;
        }
        fs::write(components.file("tokens.csv"), tokens.file())?;
        fs::write(components.file("audit-policy.yaml"), AUDIT_POLICY)?;
        kubeconfig::write(
            components.file("controller-manager.kubeconfig"),
            tokens.of(CONTROLLER_MANAGER)?,
            &components.url(),
            &components.certificate(),
        )?;
        Ok(components)
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    /// The API server's certificate and its CA, which it makes at its first
    /// start.
    pub fn certificate(&self) -> PathBuf {
        self.file("certificates/apiserver.crt")
    }

    /// The API server's audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.file("audit.log")
    }

    /// A binary by its name.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// Starts etcd. It is the last to die with the harness, so it takes the
    /// folder with it.
    pub fn start_etcd(&self, sweep: bool) -> anyhow::Result<Guarded> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut args = vec![
            "--name=plane".into(),
            "--log-level=warn".into(),
            format!("--data-dir={}", self.file("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=plane={peer}"),
        ];
        if !self.fsync {
            args.push("--unsafe-no-fsync".into());
        }
        self.start("etcd", &args, sweep)
    }

    /// Writes into `folder` what other planes can start from. Nothing may be running.
    pub fn save_state(&self, folder: &Path) -> anyhow::Result<()> {
        copy_state(&self.folder, folder)
    }

    /// Copies etcd's data while it is not running, in place of an earlier copy.
    pub fn back_up_store(&self) -> std::io::Result<()> {
        replace(&self.file("etcd.backup"), &self.file("etcd"))
    }

    /// Puts the copy of etcd's data in place of the data while it is not running.
    pub fn restore_store(&self) -> std::io::Result<()> {
        replace(&self.file("etcd"), &self.file("etcd.backup"))
    }

    /// Starts the API server.
    pub fn start_api_server(&self) -> anyhow::Result<Guarded> {
        let issuer = "https://kubernetes.default.svc.cluster.local";
        let folder = self.folder.display();
        let args = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", self.api_port),
            format!("--cert-dir={folder}/certificates"),
            "--authorization-mode=RBAC".into(),
            format!("--token-auth-file={folder}/tokens.csv"),
            format!("--service-account-issuer={issuer}"),
            format!("--service-account-signing-key-file={folder}/service-accounts.key"),
            format!("--service-account-key-file={folder}/service-accounts.pub"),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--endpoint-reconciler-type=none".into(),
            format!("--audit-policy-file={folder}/audit-policy.yaml"),
            format!("--audit-log-path={}", self.audit_log().display()),
            // Of one piece: after 100 MB the log would be begun anew.
            "--audit-log-maxsize=10000".into(),
            // Without this, an open watch holds up the end for a minute.
            "--shutdown-watch-termination-grace-period=1s".into(),
            "--profiling=false".into(),
        ];
        self.start("kube-apiserver", &args, false)
    }

    /// Starts the controller-manager, each controller with its own
    /// ServiceAccount. The controllers of nodes are off: there are none, and
    /// a test's make-believe node must not be found dead.
    pub fn start_controller_manager(&self) -> anyhow::Result<Guarded> {
        let folder = self.folder.display();
        let args = [
            format!("--kubeconfig={folder}/controller-manager.kubeconfig"),
            "--authentication-skip-lookup=true".into(),
            "--secure-port=0".into(),
            "--leader-elect=false".into(),
            "--use-service-account-credentials=true".into(),
            "--controllers=*,-node-ipam-controller,-node-lifecycle-controller,\
             -cloud-node-lifecycle-controller"
                .into(),
            format!("--service-account-private-key-file={folder}/service-accounts.key"),
            format!("--root-ca-file={}", self.certificate().display()),
            "--kube-api-qps=200".into(),
            "--kube-api-burst=400".into(),
            "--profiling=false".into(),
        ];
        self.start("kube-controller-manager", &args, false)
    }

    fn start(&self, name: &str, args: &[String], sweep: bool) -> anyhow::Result<Guarded> {
        let binary = self.binary(name);
        if !binary.is_file() {
            bail!("there is no {}", binary.display());
        }
        let guard = Guard {
            name,
            log: &self.file(&format!("{name}.log")),
            sweep: sweep.then_some(&self.folder),
        };
        guard.start(&binary, args, &[])
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn copy_state(from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in STATE {
        let (source, target) = (from.join(name), to.join(name));
        let copied = if source.is_dir() {
            copy(&source, &target)
        } else {
            fs::copy(&source, &target).map(drop)
        };
        copied.with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(())
}

/// Makes `target` a copy of the folder `source`, whatever it was.
fn replace(target: &Path, source: &Path) -> std::io::Result<()> {
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    copy(source, target)
}

fn copy(source: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// The ports that this process has given away: a plane listens on its ports only after a while.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Ports that nobody listens on, from a place that differs by process and
/// time, so that planes of different processes which start together seldom meet.
fn free_ports() -> impl Iterator<Item = u16> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let seed = now.map_or(0, |since| since.subsec_micros()) + std::process::id() * 61;
    let size = u32::from(PORTS.end - PORTS.start);
    let start = u16::try_from(seed % size).unwrap_or_default();
    (PORTS.start + start..PORTS.end)
        .chain(PORTS.start..PORTS.start + start)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .filter(|port| {
            let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
            given.insert(*port)
        })
}
