//! A Kubernetes control plane of one's own: etcd, kube-apiserver and
//! kube-controller-manager as child processes on loopback.
//!
//! There is no kubelet and no scheduler: pods stay pending.

use std::fs;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{anyhow, ensure};
use kube::Client;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::binaries::binaries;
use super::components::Components;
use super::people::{ADMIN, Tokens};
use super::process::{Guard, Guarded};
use super::ready::{READY, controllers_work, server_is_ready};
use super::{kubeconfig, service_account};

/// How long a process may take to end by itself.
const STOP: Duration = Duration::from_secs(20);
/// How many lines of a log to show with a failure.
const TAIL: usize = 15;

/// What may differ between planes.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlaneOptions {
    /// Whether etcd waits for the disk, as in production. Tests need not.
    pub fsync: bool,
}

/// The state of a cluster, for planes to start from. It goes when dropped.
#[derive(Debug)]
pub struct SavedState {
    // Removes the folder if the harness is killed; ends before the folder is removed.
    _keeper: Guarded,
    folder: TempDir,
}

impl SavedState {
    /// An empty folder that goes with the harness, however that ends.
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("curfew-state-").tempdir()?;
        let keeper = Guard {
            name: "keeper",
            log: &folder.path().join("keeper.log"),
            sweep: Some(folder.path()),
        };
        let keeper = keeper.start(Path::new("tail"), &["-f", "/dev/null"], &[])?;
        Ok(Self {
            _keeper: keeper,
            folder,
        })
    }
}

/// A place in the audit log.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditMark(u64);

/// A running control plane; it ends when dropped.
#[derive(Debug)]
pub struct Plane {
    // In the order in which they have to end when dropped.
    controller_manager: Mutex<Option<Guarded>>,
    api_server: Mutex<Option<Guarded>>,
    etcd: Mutex<Option<Guarded>>,
    components: Components,
    tokens: Tokens,
    keep: AtomicBool,
    folder: TempDir,
}

impl Plane {
    /// Starts a plane and waits until it is ready for tests.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(PlaneOptions::default()).await
    }

    /// Starts a plane whose etcd waits for the disk, for measurements.
    pub async fn start_durable() -> anyhow::Result<Self> {
        Self::start_with(PlaneOptions { fsync: true }).await
    }

    /// Starts a plane as told.
    pub async fn start_with(options: PlaneOptions) -> anyhow::Result<Self> {
        Self::begin(options, None).await
    }

    /// Starts a plane with a copy of that state. The tokens of people are its own, a service account's count on
    /// each plane of that state.
    pub async fn start_from(state: &SavedState) -> anyhow::Result<Self> {
        Self::begin(PlaneOptions::default(), Some(state.folder.path())).await
    }

    /// Stops the plane and saves what the cluster holds.
    pub async fn into_state(self) -> anyhow::Result<SavedState> {
        let state = SavedState::new()?;
        end(&self.controller_manager).await?;
        end(&self.api_server).await?;
        end(&self.etcd).await?;
        self.components.save_state(state.folder.path())?;
        Ok(state)
    }

    async fn begin(options: PlaneOptions, state: Option<&Path>) -> anyhow::Result<Self> {
        let binaries = binaries().await?;
        let folder = tempfile::Builder::new().prefix("curfew-plane-").tempdir()?;
        let keep = std::env::var_os("CURFEW_KEEP").is_some();
        let tokens = Tokens::new()?;
        let components = Components::prepare(binaries, folder.path(), &tokens, options.fsync, state)?;
        let plane = Self {
            controller_manager: Mutex::new(None),
            api_server: Mutex::new(None),
            etcd: Mutex::new(Some(components.start_etcd(!keep)?)),
            components,
            tokens,
            keep: AtomicBool::new(keep),
            folder,
        };
        if keep {
            plane.say_where();
        }
        plane.start_api_server().await?;
        plane.start_controller_manager().await?;
        Ok(plane)
    }

    /// The API server's address.
    #[must_use]
    pub fn url(&self) -> String {
        self.components.url()
    }

    /// The certificates to trust the API server by.
    pub fn ca_pem(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.components.certificate())?)
    }

    /// The folder with the plane's logs; a test may put files there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client that may do everything.
    pub async fn admin(&self) -> anyhow::Result<Client> {
        self.client_as(ADMIN).await
    }

    /// A client for one of [`PEOPLE`](super::PEOPLE).
    pub async fn client_as(&self, person: &str) -> anyhow::Result<Client> {
        self.client_for_token(self.tokens.of(person)?, &self.url()).await
    }

    /// A client with a token, for the API server or a proxy before it.
    pub async fn client_for_token(&self, token: &str, server_url: &str) -> anyhow::Result<Client> {
        kubeconfig::client(token, server_url, &self.components.certificate()).await
    }

    /// A kubeconfig for one of [`PEOPLE`](super::PEOPLE) or `admin`.
    pub fn kubeconfig_for(&self, person: &str) -> anyhow::Result<PathBuf> {
        self.kubeconfig_with_token(self.tokens.of(person)?, &self.url(), person)
    }

    /// A kubeconfig with a token, for the API server or a proxy before it.
    pub fn kubeconfig_with_token(
        &self,
        token: &str,
        server_url: &str,
        name: &str,
    ) -> anyhow::Result<PathBuf> {
        let file = self.folder().join(format!("{name}.kubeconfig"));
        kubeconfig::write(file, token, server_url, &self.components.certificate())
    }

    /// A person's token, for a client of the test's own.
    pub fn token_of(&self, person: &str) -> anyhow::Result<&str> {
        self.tokens.of(person)
    }

    /// A new token of a ServiceAccount.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> anyhow::Result<String> {
        service_account::token(self.admin().await?, namespace, name).await
    }

    /// A binary of the control plane, by its name.
    #[must_use]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.components.binary(name)
    }

    /// The file of the audit log. It is there once a ServiceAccount of `curfew-system` was answered.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.components.audit_log()
    }

    /// The audit log's events so far: every answered request by a
    /// ServiceAccount of `curfew-system`. A watch has an event when it starts
    /// (stage `ResponseStarted`) and one when it ends (`ResponseComplete`).
    pub fn audit_events(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        self.audit_events_since(AuditMark::default())
    }

    /// The audit log's events since a mark.
    pub fn audit_events_since(&self, mark: AuditMark) -> anyhow::Result<Vec<serde_json::Value>> {
        let log = self.components.audit_log();
        if !log.exists() {
            return Ok(Vec::new());
        }
        let mut file = fs::File::open(log)?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that is still being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let events = whole.lines().map(serde_json::from_str);
        Ok(events.collect::<Result<_, _>>()?)
    }

    /// Where the audit log ends now. Take it when nothing is being asked:
    /// it may lie within a line otherwise.
    pub fn audit_mark(&self) -> anyhow::Result<AuditMark> {
        match fs::metadata(self.components.audit_log()) {
            Ok(log) => Ok(AuditMark(log.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(AuditMark::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// The processor time that each of the three processes has used.
    pub async fn cpu_seconds(&self) -> anyhow::Result<[(&'static str, f64); 3]> {
        let of = async |slot: &Mutex<Option<Guarded>>| {
            let slot = slot.lock().await;
            slot.as_ref().map_or(Ok(0.0), Guarded::cpu_seconds)
        };
        Ok([
            ("etcd", of(&self.etcd).await?),
            ("kube-apiserver", of(&self.api_server).await?),
            ("kube-controller-manager", of(&self.controller_manager).await?),
        ])
    }

    /// Ends the API server, and waits until it is gone.
    pub async fn stop_api_server(&self) -> anyhow::Result<()> {
        end(&self.api_server).await
    }

    /// Starts the API server at the same port with the same data, and waits
    /// until it is ready.
    pub async fn start_api_server(&self) -> anyhow::Result<()> {
        let mut slot = self.api_server.lock().await;
        ensure!(slot.is_none(), "the API server is running already");
        let process = slot.insert(self.components.start_api_server()?);
        let ready = server_is_ready(|| self.admin());
        self.while_running(process, ready).await
    }

    /// Ends the API server and starts it again.
    pub async fn restart_api_server(&self) -> anyhow::Result<()> {
        self.stop_api_server().await?;
        self.start_api_server().await
    }

    /// Does something while nobody starts or burns fuses, or collects garbage. It is there again before any verdict: other
    /// tests need it.
    pub async fn without_controller_manager<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        self.stop_controller_manager().await?;
        let outcome = work.await;
        self.start_controller_manager().await?;
        outcome
    }

    /// Ends the controller-manager, and waits until it is gone: from then on
    /// nothing is garbage-collected and no ClusterRole aggregated.
    pub async fn stop_controller_manager(&self) -> anyhow::Result<()> {
        end(&self.controller_manager).await
    }

    /// Starts the controller-manager, and waits until it has done something.
    pub async fn start_controller_manager(&self) -> anyhow::Result<()> {
        let mut slot = self.controller_manager.lock().await;
        ensure!(slot.is_none(), "the controller-manager is running already");
        let process = slot.insert(self.components.start_controller_manager()?);
        let admin = self.admin().await?;
        self.while_running(process, controllers_work(admin)).await
    }

    /// Copies what etcd holds, as a backup does, while nothing is written: etcd and the API server end for it and start
    /// again. A later copy replaces an earlier one.
    pub async fn back_up(&self) -> anyhow::Result<()> {
        self.between_two_stores(Components::back_up_store).await
    }

    /// Has the cluster go on from the last copy: everything that was written since has never been.
    pub async fn restore(&self) -> anyhow::Result<()> {
        self.between_two_stores(Components::restore_store).await
    }

    async fn between_two_stores(
        &self,
        deed: impl Fn(&Components) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        end(&self.api_server).await?;
        end(&self.etcd).await?;
        deed(&self.components)?;
        let keep = self.keep.load(Ordering::Relaxed);
        *self.etcd.lock().await = Some(self.components.start_etcd(!keep)?);
        self.start_api_server().await
    }

    /// Leaves the plane's folder where it is, and says where.
    pub fn keep_logs(&self) {
        if !self.keep.swap(true, Ordering::Relaxed) {
            self.say_where();
        }
    }

    /// Ends everything in order, and waits until it is gone.
    pub async fn stop(self) -> anyhow::Result<()> {
        end(&self.controller_manager).await?;
        end(&self.api_server).await?;
        end(&self.etcd).await
    }

    #[expect(clippy::print_stderr, reason = "for whoever looks at a failed test")]
    fn say_where(&self) {
        eprintln!("the plane's logs stay in {}", self.folder().display());
    }

    /// Waits for `ready`, but not for a process that has ended; shows the
    /// logs with a failure.
    async fn while_running(
        &self,
        process: &Guarded,
        ready: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            outcome = ready => outcome,
            Some(code) = process.gone_within(READY) => Err(anyhow!("it ended with {code}")),
        };
        let Err(error) = outcome else { return Ok(()) };
        let etcd = self.etcd.lock().await;
        let etcds = etcd.as_ref().map(|etcd| etcd.log_tail(TAIL));
        Err(error.context(format!(
            "{}\n{}",
            process.log_tail(TAIL),
            etcds.unwrap_or_default()
        )))
    }
}

/// Ends what is in the slot, if anything.
async fn end(slot: &Mutex<Option<Guarded>>) -> anyhow::Result<()> {
    let mut slot = slot.lock().await;
    if let Some(process) = slot.as_ref() {
        process.terminate(STOP).await?;
    }
    *slot = None;
    Ok(())
}

impl Drop for Plane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        let keep = self.keep.load(Ordering::Relaxed);
        self.folder.disable_cleanup(keep);
    }
}
