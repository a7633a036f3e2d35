//! Child processes that cannot outlive the harness.
//!
//! Each child has a small shell as its parent, which holds the read end of a
//! pipe. The write end is ours alone and closes however we end (return,
//! panic, SIGINT, SIGKILL); the shell then ends the child, by SIGKILL if it
//! does not listen. See `supervise.sh`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to be gone after SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// How long to sleep between two looks at a process that is to end.
const PAUSE: Duration = Duration::from_millis(5);

/// What to run, and where its output goes.
#[derive(Debug)]
pub struct Guard<'a> {
    /// A short name for messages.
    pub name: &'a str,
    /// The file that stdout and stderr are appended to.
    pub log: &'a Path,
    /// A folder to remove when the harness dies without stopping the child.
    pub sweep: Option<&'a Path>,
}

/// A running child process; killed when dropped.
#[derive(Debug)]
pub struct Guarded {
    name: String,
    log: PathBuf,
    pid: Pid,
    supervisor: Arc<Mutex<Supervisor>>,
}

/// The shell between us and the child, and how it ended.
#[derive(Debug)]
struct Supervisor {
    shell: Child,
    /// Held open: closing it ends the child.
    _pipe: ChildStdin,
    ended: Option<ExitStatus>,
}

impl Supervisor {
    fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.shell.try_wait().ok().flatten();
        }
        self.ended
    }
}

impl Guard<'_> {
    /// Starts `program` with `args` and these environment variables on top of
    /// our own. Returns when the child's pid is known.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        args: &[A],
        env: &[(&str, &OsStr)],
    ) -> anyhow::Result<Guarded> {
        let mut shell = Command::new("sh")
            .args(["-c", include_str!("supervise.sh"), "sh"])
            .arg(program)
            .args(args)
            .envs(env.iter().copied())
            .env("CURFEW_LOG", self.log)
            .env("CURFEW_SWEEP", self.sweep.map_or(OsStr::new(""), Path::as_os_str))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for the harness; the pipe tells the rest.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{}: cannot start a shell", self.name))?;
        let (Some(pipe), Some(stdout)) = (shell.stdin.take(), shell.stdout.take()) else {
            bail!("{}: the shell has no pipes", self.name);
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{}: the shell told no pid: {line:?}", self.name))?;
        Ok(Guarded {
            name: self.name.to_owned(),
            log: self.log.to_owned(),
            pid,
            supervisor: Arc::new(Mutex::new(Supervisor {
                shell,
                _pipe: pipe,
                ended: None,
            })),
        })
    }
}

impl Guarded {
    /// The pid of the child itself.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Everything that the child has printed.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last `lines` lines of the log, with the process's name above them.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let skipped = log.lines().count().saturating_sub(lines);
        let tail: Vec<&str> = log.lines().skip(skipped).collect();
        format!("--- the end of {}'s log:\n{}", self.name, tail.join("\n"))
    }

    /// The child's exit code (128 + n for signal n), once it is gone.
    #[must_use]
    pub fn exited(&self) -> Option<i32> {
        let status = lock(&self.supervisor).ended()?;
        Some(status.code().or(status.signal()).unwrap_or(-1))
    }

    /// Whether the child is still there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exited().is_none()
    }

    /// SIGTERM, then SIGKILL at `deadline`; returns the exit code when the
    /// child is gone.
    pub async fn terminate(&self, deadline: Duration) -> anyhow::Result<i32> {
        self.signal(Signal::TERM);
        match self.gone_within(deadline).await {
            Some(code) => Ok(code),
            None => self.kill9().await,
        }
    }

    /// SIGKILL; returns the exit code when the child is gone.
    pub async fn kill9(&self) -> anyhow::Result<i32> {
        self.signal(Signal::KILL);
        self.gone_within(KILL_DEADLINE)
            .await
            .with_context(|| format!("{} (pid {}) survives SIGKILL", self.name, self.pid()))
    }

    /// SIGSTOP: it does nothing until it is told to go on, and does not know.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// A function that sends SIGKILL and does not wait, for a proxy's hook.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        let (supervisor, pid) = (Arc::clone(&self.supervisor), self.pid);
        move || signal(&supervisor, pid, Signal::KILL)
    }

    /// Waits for the child to be gone by itself.
    pub async fn gone_within(&self, deadline: Duration) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(code) = self.exited() {
                return Some(code);
            }
            if began.elapsed() >= deadline {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn signal(&self, which: Signal) {
        signal(&self.supervisor, self.pid, which);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let began = Instant::now();
        while self.is_running() && began.elapsed() < KILL_DEADLINE {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Sends a signal unless the child is known to be gone (its pid may then be
/// somebody else's).
fn signal(supervisor: &Mutex<Supervisor>, pid: Pid, which: Signal) {
    if lock(supervisor).ended().is_none() {
        // It may end in this very moment: then there is nothing to tell.
        kill_process(pid, which).ok();
    }
}

fn lock(supervisor: &Mutex<Supervisor>) -> std::sync::MutexGuard<'_, Supervisor> {
    supervisor.lock().unwrap_or_else(PoisonError::into_inner)
}
