//! Puts the rooms together and runs them: recovery, start, reload, housekeeping, and an orderly end.

mod check_ins;
mod housekeeping;
mod reload;
mod start;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ams2_core::{Input, Machine, Record, effect::Decided, input::OwnEvent};
use smol_str::SmolStr;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use housekeeping::{keeper, snapshot_thread};
use reload::Reloader;
use start::{Inner, recovered};

use crate::{
    alertmanager::{self, Fate, Imported, SecretsTo},
    config::{self, Loaded, Overrides},
    console::ReloadOrder,
    journal::{
        Health, Journal, OpenError, Options,
        storage::{Folder, Storage},
    },
    originator::{
        self, Listener, snmp,
        syslog::{self, Transport},
    },
    router::Router,
    upkeep,
};

/// The disk and the threads are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// File descriptors that connections may not use: far ends, programs, event logs, snapshots, the journal.
const DESCRIPTORS_RESERVED: u64 = 256;
/// Connections that a listener has, however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;
/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The built-in default.
    Default,
    /// A file.
    File(PathBuf),
    /// A configuration of Alertmanager, which is brought over each time that it is read.
    Alertmanager(PathBuf),
}

impl Source {
    /// Its name in messages.
    pub fn name(&self) -> String {
        match self {
            Source::Default => "the built-in default".into(),
            Source::File(path) | Source::Alertmanager(path) => path.display().to_string(),
        }
    }

    /// Reads it, for a start.
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, config::Wrong> {
        self.load_by(overrides, |path| alertmanager::read(path, SecretsTo::Variables))
    }

    /// Reads it, for a router that runs: no action that runs is left out for a file that cannot be read.
    pub fn load_again(&self, overrides: &Overrides) -> Result<Loaded, config::Wrong> {
        self.load_by(overrides, alertmanager::read_again)
    }

    fn load_by(
        &self,
        overrides: &Overrides,
        import: impl Fn(&Path) -> Result<Imported, config::Wrong>,
    ) -> Result<Loaded, config::Wrong> {
        match self {
            Source::Default => config::load_text(&self.name(), config::DEFAULT, Path::new("."), overrides),
            Source::File(path) => config::load(path, overrides),
            Source::Alertmanager(path) => {
                let imported = import(path)?;
                for entry in imported.report.iter().filter(|entry| entry.fate != Fate::Translated) {
                    let (words, fate) = (ams2_handlers::text::one_line(&entry.words), entry.fate);
                    let (line, setting) = (entry.line, &entry.setting);
                    match entry.is_left_out() {
                        true => tracing::error!(line, %setting, ?fate, "{words}"),
                        false => tracing::warn!(line, %setting, ?fate, "{words}"),
                    }
                }
                let overrides = Overrides { variables: imported.secrets, ..overrides.clone() };
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let name = format!("{} (brought over)", path.display());
                config::load_text(&name, &imported.text, folder.unwrap_or(Path::new(".")), &overrides)
            }
        }
    }
}

/// Why the server does not run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used: {error}", path.display())]
    DataFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The socket cannot be listened on.
    #[error(transparent)]
    Socket(#[from] originator::SocketError),
    /// The config drops actions that deliveries wait for.
    #[error("{0}")]
    Waiting(String),
    /// The system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The router's thread ended by a panic.
    #[error(
        "the router stopped by a fault of its own: nothing more was told; what was accepted is kept and told after the next start"
    )]
    RouterStopped,
    /// A part without which the journal grows for ever ended by a panic.
    #[error(
        "{0} stopped by a fault of its own: the router ended in order, so that the next start has it again; please report what the log says"
    )]
    PartStopped(&'static str),
    /// SNMP's engine could not be started.
    #[error("{0}")]
    SnmpEngine(String),
    /// The journal could not be written any more.
    #[error("the journal cannot be written: nothing more was accepted; what was accepted is kept")]
    JournalFailed,
}

/// What the server says when it is ready.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Where HTTP listens, and whether with TLS.
    pub http: Option<(SocketAddr, bool)>,
    /// What stands before its paths; may be empty.
    pub prefix: SmolStr,
    /// The socket.
    pub socket: Option<PathBuf>,
    /// Where syslog listens, by its transport.
    pub syslog: Vec<(Transport, SocketAddr)>,
    /// Where SNMP listens.
    pub snmp: Option<SocketAddr>,
    /// The data folder.
    pub data_dir: PathBuf,
}

/// Sockets that are listened on.
struct Bound {
    listeners: Vec<Listener>,
    syslog: Vec<syslog::Bound>,
    snmp: Option<snmp::Bound>,
}

impl Bound {
    /// Listeners that share the descriptors.
    fn with_connections(&self) -> usize {
        let syslog = self.syslog.iter().any(|bound| bound.transport() != Transport::Udp);
        self.listeners.len() + usize::from(syslog)
    }
}

/// Takes the addresses that the config names.
async fn bind(loaded: &Loaded) -> Result<(Announced, Bound), ServerError> {
    let prefix = loaded.http.as_ref().map(|http| http.prefix.clone()).unwrap_or_default();
    let data_dir = loaded.data_dir.clone();
    let mut ready = Announced { http: None, prefix, socket: None, syslog: Vec::new(), snmp: None, data_dir };
    let mut bound = Bound { listeners: Vec::new(), syslog: Vec::new(), snmp: None };
    if let Some(http) = &loaded.http {
        let listen = |error| ServerError::Listen { address: http.listen, error };
        let listener = tokio::net::TcpListener::bind(http.listen).await.map_err(listen)?;
        ready.http = Some((listener.local_addr().map_err(listen)?, http.tls.is_some()));
        bound.listeners.push(Listener::Tcp(listener));
    }
    if let Some(socket) = &loaded.socket {
        bound.listeners.push(Listener::Socket(originator::listen(socket)?));
        ready.socket = Some(socket.path.clone());
    }
    for (transport, address) in loaded.syslog.iter().flat_map(|syslog| syslog.listen.iter().copied()) {
        let listen = |error| ServerError::Listen { address, error };
        let limits = loaded.syslog.as_ref().map(|syslog| &syslog.settings.limits);
        let receive_bytes = limits.map_or(0, |limits| limits.receive_bytes);
        let taken = syslog::Bound::bind(transport, address, receive_bytes).await.map_err(listen)?;
        ready.syslog.push((transport, taken.address().map_err(listen)?));
        bound.syslog.push(taken);
    }
    if let Some(config) = &loaded.snmp {
        let listen = |error| ServerError::Listen { address: config.listen, error };
        let taken = snmp::Bound::bind(config.listen, config.settings.limits.receive_bytes).map_err(listen)?;
        ready.snmp = Some(taken.address().map_err(listen)?);
        bound.snmp = Some(taken);
    }
    Ok((ready, bound))
}

/// Takes as many file descriptors as the system gives, and answers how many. Far ends and programs need some whatever
/// clients do.
fn take_descriptors() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections a listener may have, so that the descriptors reach for all else, too.
fn connections_max(descriptors: u64, listeners: usize) -> usize {
    let left = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / listeners.max(1) as u64;
    usize::try_from(left).unwrap_or(usize::MAX).max(CONNECTIONS_MIN)
}

/// Runs until a signal says stop. `announce` is called once it is ready.
pub async fn run(
    source: Source,
    overrides: Overrides,
    loaded: Loaded,
    unsafe_no_sync: bool,
    announce: impl FnOnce(&Announced),
) -> Result<(), ServerError> {
    let began = Instant::now();
    let descriptors = take_descriptors();
    let mut signals = Signals::listen()?;
    let options = Options { unsafe_no_sync, ..loaded.journal.clone() };
    let data_dir = loaded.data_dir.clone();
    let folder_error = |error| ServerError::DataFolder { path: data_dir.clone(), error };
    let storage: Arc<dyn Storage> = Arc::new(Folder::open(&data_dir).map_err(folder_error)?);
    warn_of_loss(&data_dir, unsafe_no_sync);
    // Whatever can refuse the start does so before anything is journaled; clients wait in the listeners' queues.
    let (ready, bound) = bind(&loaded).await?;
    let recovered = recovered(storage, &options, &loaded, began)?;
    // What the process before said of the disk goes on until this one takes it back.
    let nearly_full = recovered.folded.machine.says_disk_nearly_full();
    let (inner, drops) = Inner::start(recovered, options, &loaded).await?;

    let reloader = Arc::new(Reloader {
        source,
        overrides,
        journal: inner.journal.clone(),
        router: inner.router.clone(),
        wording: inner.wording.clone(),
        handler: inner.handler.clone(),
        serving: RwLock::new(None),
        syslog: OnceLock::new(),
        snmp: OnceLock::new(),
        running: loaded.clone(),
        bound: ready.http.map(|(address, _)| address),
        connections: connections_max(descriptors, bound.with_connections()),
        busy: tokio::sync::Mutex::new(()),
    });
    let serving = inner.serving(&reloader)?;
    *reloader.serving.write().unwrap_or_else(|e| e.into_inner()) = Some(serving.clone());
    let (stop, stopped) = watch::channel(false);
    let mut listeners = tokio::task::JoinSet::new();
    for listener in bound.listeners {
        listeners.spawn(originator::serve(listener, serving.clone(), stopped.clone()));
    }
    if let Some(syslog) = inner.syslog(reloader.connections)? {
        for bound in bound.syslog {
            listeners.spawn(syslog::serve(bound, syslog.clone(), stopped.clone()));
        }
        drop(reloader.syslog.set(syslog));
    }
    if let (Some(bound), Some(snmp)) = (bound.snmp, inner.snmp()?) {
        listeners.spawn(snmp::serve(bound, snmp.clone(), stopped.clone()));
        drop(reloader.snmp.set(snmp));
    }
    let snapshot_thread = snapshot_thread(inner.beside(), inner.covered, tokio::runtime::Handle::current())?;
    let Inner { router, journal, reader, .. } = &inner;
    let check_ins = tokio::spawn(inner.check_ins().run());
    let keeper = tokio::spawn(keeper(drops, router.clone(), journal.clone(), reader.clone(), stopped));
    // Before anybody is told that we run: what comes first may be the word to stop.
    announce(&ready);
    tracing::info!(ms = began.elapsed().as_millis() as u64, "ready");

    let gone = || match (snapshot_thread.has_ended(), keeper.is_finished()) {
        (true, _) => Some("the thread that makes snapshots"),
        (_, true) => Some("the task that lets old segments go"),
        _ => None,
    };
    let why = wait_for_end(&mut signals, journal, router, &reloader, &gone, nearly_full).await;
    let _ = stop.send(true);
    let ending = async {
        while listeners.join_next().await.is_some() {}
        if let Some(path) = &ready.socket {
            // Gone already is as good.
            drop(std::fs::remove_file(path));
        }
        snapshot_thread.stop();
        keeper.abort();
        check_ins.abort();
        inner.end(why).await
    };
    tokio::select! {
        ended = ending => ended?,
        () = signals.stop() => {
            tracing::warn!("asked twice to stop: attempts under way are made again at the next start");
        }
    }
    match why {
        Why::PartStopped(part) => Err(ServerError::PartStopped(part)),
        _ => Ok(()),
    }
}

/// A start or reload that leaves deliveries without their action is refused unless the config says what becomes of
/// them.
fn refuse_orphans(machine: &Machine, loaded: &Loaded) -> Result<(), ServerError> {
    let has = |id: &_| loaded.actions.iter().any(|(known, ..)| known == id);
    let orphans: Vec<String> = upkeep::orphans(machine, has, &loaded.removed)
        .into_iter()
        .map(|(action, waiting)| format!("{action} ({waiting} deliveries)"))
        .collect();
    if orphans.is_empty() {
        return Ok(());
    }
    Err(ServerError::Waiting(format!(
        "the configuration has no action any more for deliveries that wait: {}\n  help: say what becomes of them under `removed:`, with `- {{ action: RECEIVER/KIND/NAME, move_to: RECEIVER }}` or `drop: true`; or reload with --move-to RECEIVER or --drop",
        orphans.join(", ")
    )))
}

/// Counts of decisions, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Notifications by reason.
    pub notified: Mutex<HashMap<&'static str, u64>>,
    /// Holds by reason.
    pub held: Mutex<HashMap<String, u64>>,
    /// Attempts by action and outcome.
    pub attempts: Mutex<HashMap<(String, &'static str), u64>>,
    /// Attempts whose outcome nobody knows, by action.
    pub maybe_duplicates: Mutex<HashMap<String, u64>>,
    /// Dead letters by action and reason.
    pub dead: Mutex<HashMap<(String, &'static str), u64>>,
    /// Decisions in all.
    pub decisions: AtomicU64,
}

impl Counts {
    fn count(&self, record: &Record) {
        use ams2_core::{effect::AttemptResult, input::FailureKind};
        self.decisions.fetch_add(1, Ordering::Relaxed);
        match &record.what {
            Decided::Notify { reason, .. } => add(&self.notified, reason.word()),
            Decided::Hold { reason, .. } => add(&self.held, reason.word().to_owned()),
            Decided::Attempt { action, result, .. } => {
                use FailureKind::{Deferred, Permanent, Transient, Uncertain};
                if let AttemptResult::Unknown | AttemptResult::Failed(Uncertain, _) = result {
                    add(&self.maybe_duplicates, action.to_string());
                }
                let outcome = match result {
                    AttemptResult::Sent => "sent",
                    AttemptResult::Delivered(_) => "delivered",
                    AttemptResult::Failed(Transient | Deferred | Uncertain, _) => "transient",
                    AttemptResult::Failed(Permanent, _) => "permanent",
                    AttemptResult::Unknown => "unknown",
                };
                add(&self.attempts, (action.to_string(), outcome));
            }
            Decided::DeadLetter { action, reason, .. } => {
                add(&self.dead, (action.to_string(), reason.word()))
            }
            _ => {}
        }
    }
}

fn add<K: std::hash::Hash + Eq>(counts: &Mutex<HashMap<K, u64>>, key: K) {
    *counts.lock().unwrap_or_else(|e| e.into_inner()).entry(key).or_default() += 1;
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stop,
    Reload,
}

/// The signals that we obey.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Sent where a file may grow no further. Caught, so that it does not end the process: the write fails, too.
    _file_size: Signal,
}

/// SIGXFSZ, on every Linux that Rust runs on but MIPS.
const SIGNAL_FILE_SIZE: i32 = 25;

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(SIGNAL_FILE_SIZE))?,
        })
    }

    /// The next one's wish.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    /// Waits until one asks to stop.
    async fn stop(&mut self) {
        while self.next().await != Wish::Stop {}
    }
}

/// Why the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// A signal asked for it.
    Asked,
    /// The journal cannot be written.
    JournalFailed,
    /// The router's thread is gone.
    RouterStopped,
    /// Another part is gone.
    PartStopped(&'static str),
}

/// What ended by itself. A router that is gone takes the journal's thread with it: then the cause is said, and not that the
/// disk failed.
fn cause(health: Health, router_stopped: bool, gone: Option<&'static str>) -> Option<Why> {
    match (router_stopped, health) {
        (true, _) => Some(Why::RouterStopped),
        (false, Health::Failed) => Some(Why::JournalFailed),
        (false, Health::Well | Health::DiskFull | Health::Stalled) => gone.map(Why::PartStopped),
    }
}

/// Waits for a signal to stop; reloads on SIGHUP, and looks after the disk and the threads meanwhile.
async fn wait_for_end(
    signals: &mut Signals,
    journal: &Journal,
    router: &Router,
    reloader: &Arc<Reloader>,
    gone: &dyn Fn() -> Option<&'static str>,
    mut nearly_full: bool,
) -> Why {
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            wish = signals.next() => {
                if wish == Wish::Stop {
                    return Why::Asked;
                }
                let reloader = reloader.clone();
                // Every mistake is in the log already.
                tokio::spawn(async move { drop(reloader.reload(ReloadOrder { by: "signal".into(), removed: None }).await) });
            }
            _ = look.tick() => {
                // In this order: whatever ended the router ended it before the journal.
                let health = journal.health();
                if let Some(why) = cause(health, router.has_stopped(), gone()) {
                    if let Why::PartStopped(part) = why {
                        tracing::error!(part, "stopped by a fault of its own");
                    }
                    return why;
                }
                if let Some((full, free_bytes)) = journal.disk_turned(nearly_full) {
                    nearly_full = full;
                    let event = OwnEvent::DiskNearlyFull { resolved: !full, free_bytes };
                    if let Err(error) = journal.keep(Input::Own(event)) {
                        tracing::error!(%error, "an own alert was not kept");
                    }
                }
            }
        }
    }
}

/// Says where what is accepted may be lost all the same.
fn warn_of_loss(data_dir: &Path, unsafe_no_sync: bool) {
    if unsafe_no_sync {
        tracing::warn!("--unsafe-no-sync: what is accepted is lost if the machine fails");
    }
    // What Linux calls file systems that are memory, and those of other machines (statfs(2)).
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    const RAMFS: rustix::fs::FsWord = 0x8584_58f6;
    const NFS: rustix::fs::FsWord = 0x6969;
    const SMB2: rustix::fs::FsWord = 0xfe53_4d42;
    const CIFS: rustix::fs::FsWord = 0xff53_4d42;
    match rustix::fs::statfs(data_dir) {
        Ok(found) if [TMPFS, RAMFS].contains(&found.f_type) => {
            tracing::warn!(data = %data_dir.display(), "the data folder is in memory: what is accepted is lost if the machine fails");
        }
        Ok(found) if [NFS, SMB2, CIFS].contains(&found.f_type) => {
            tracing::warn!(data = %data_dir.display(), "the data folder is on another machine: it is as durable as its server and the way to it");
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "the file system of the data folder is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_is_gone_is_not_taken_for_a_broken_disk() {
        let part = Some("a part");
        for (health, router_stopped, gone, expected) in [
            (Health::Well, false, None, None),
            (Health::DiskFull, false, None, None),
            (Health::DiskFull, false, part, Some(Why::PartStopped("a part"))),
            (Health::Failed, false, part, Some(Why::JournalFailed)),
            (Health::Well, true, None, Some(Why::RouterStopped)),
            (Health::Failed, true, part, Some(Why::RouterStopped)),
        ] {
            assert_eq!(
                cause(health, router_stopped, gone),
                expected,
                "{health:?}, {router_stopped}, {gone:?}"
            );
        }
    }
}
