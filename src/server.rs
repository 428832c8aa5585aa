//! Puts the rooms together and runs them: recovery, start, reload, housekeeping, and an orderly end.

mod housekeeping;
mod reload;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ams2_core::{
    At, Input, Machine, Position, Record,
    config::{Install, RULE_VERSION},
    effect::Decided,
    input::{OwnEvent, Started},
};
use smol_str::SmolStr;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use housekeeping::{Beside, keeper, snapshot_thread};
use reload::{Reloader, settings};

use crate::{
    alertmanager::{self, Fate, SecretsTo},
    config::{self, Loaded, Overrides},
    console::{self, Api, NotAppended, ReloadOrder},
    denied::Denied,
    flight::Flights,
    handler::{Attempt, Handler, Texts},
    journal::{
        Clock, Health, Journal, OpenError, Options, Refused, SnapshotWriter, SystemClock,
        storage::{Folder, Storage},
    },
    originator::{self, Listener, OriginatorMetrics, Serving},
    pool::Pool,
    router::{Append, Follow, Router, log},
    upkeep::{self, Recovered},
    wording::Wording,
};

/// The disk and the threads are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// How long attempts under way may go on at an orderly end.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);
/// File descriptors that connections may not use: far ends, programs, event logs, snapshots, the journal.
const DESCRIPTORS_RESERVED: u64 = 256;
/// Threads that read texts of alerts for deliveries, and as many for the console: more would wait for the same disk.
const TEXT_READERS: usize = 4;
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

    /// Reads it.
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, config::Wrong> {
        match self {
            Source::Default => {
                config::load_text(&self.name(), config::DEFAULT, std::path::Path::new("."), overrides)
            }
            Source::File(path) => config::load(path, overrides),
            Source::Alertmanager(path) => {
                let imported = alertmanager::read(path, SecretsTo::Variables)?;
                for entry in imported.report.iter().filter(|entry| entry.fate != Fate::Translated) {
                    tracing::warn!(line = entry.line, setting = %entry.setting, fate = ?entry.fate, "{}", ams2_handlers::text::one_line(&entry.words));
                }
                let overrides = Overrides { variables: imported.secrets, ..overrides.clone() };
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let name = format!("{} (brought over)", path.display());
                config::load_text(
                    &name,
                    &imported.text,
                    folder.unwrap_or(std::path::Path::new(".")),
                    &overrides,
                )
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
    /// The data folder.
    pub data_dir: PathBuf,
}

/// Takes the addresses that the config names.
async fn bind(loaded: &Loaded) -> Result<(Announced, Vec<Listener>), ServerError> {
    let prefix = loaded.http.as_ref().map(|http| http.prefix.clone()).unwrap_or_default();
    let mut ready = Announced { http: None, prefix, socket: None, data_dir: loaded.data_dir.clone() };
    let mut bound = Vec::new();
    if let Some(http) = &loaded.http {
        let listen = |error| ServerError::Listen { address: http.listen, error };
        let listener = tokio::net::TcpListener::bind(http.listen).await.map_err(listen)?;
        ready.http = Some((listener.local_addr().map_err(listen)?, http.tls.is_some()));
        bound.push(Listener::Tcp(listener));
    }
    if let Some(socket) = &loaded.socket {
        bound.push(Listener::Socket(originator::listen(socket)?));
        ready.socket = Some(socket.path.clone());
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

    let read = upkeep::read(storage, &options, random()?)?;
    // A start that is refused leaves the journal as it was.
    refuse_orphans(&read.folded.machine, &loaded)?;
    let recovered = read.begin(unix_ms())?;
    let Recovered { folded, writer, reader, snapshots, panics, damage, covered, .. } = recovered;
    tracing::info!(
        sequence = folded.machine.next_seq() - 1,
        alerts = folded.machine.sizes().0,
        ms = began.elapsed().as_millis() as u64,
        "recovered"
    );
    let damaged = damage.len() as u64;
    let covered = match damage.is_empty() {
        true => covered,
        false => cover_damage(&folded.machine, &snapshots).unwrap_or(covered),
    };

    // What the process before said of the disk goes on until this one takes it back.
    let nearly_full = folded.machine.says_disk_nearly_full();
    let clock = Arc::new(SystemClock::from(folded.machine.at()));
    let offset = unix_ms().saturating_sub_unsigned(clock.now().0);
    let [incarnation, ..] = random()?;
    let [_, a, b] = random()?;
    let started = Started {
        incarnation: incarnation.max(1),
        seed: [a, b],
        wall_offset_ms: offset,
        version: SmolStr::new_static(env!("CARGO_PKG_VERSION")),
        damage,
        install: None,
    };
    let first = upkeep::first_input(&folded, &reader, started, install(&loaded, "start"));
    let router = Router::new();
    let (droppable, drops) = mpsc::sync_channel::<u64>(1);
    let to_router = router.clone();
    let (journal, journal_thread) = Journal::start(
        writer,
        options,
        clock,
        move |batch| to_router.flushed(batch),
        // One request at a time is enough: the next look asks again.
        Box::new(move |keep_from| {
            let _ = droppable.try_send(keep_from);
        }),
    )?;
    journal.metrics().damaged.fetch_add(damaged, Ordering::Relaxed);
    journal.metrics().set_aside.store(panics.set_aside() as u64, Ordering::Relaxed);

    let outcomes_to = journal.clone();
    let outcomes = Arc::new(move |outcome| {
        if let Err(error) = outcomes_to.keep(Input::Outcome(outcome)) {
            // The attempt is made again after the next start, with the same delivery id.
            tracing::error!(%error, "an outcome was not kept");
        }
    });
    let wording = Arc::new(Wording::new(reader.clone()));
    let handler = Arc::new(Handler::new(
        Arc::new(reader.clone()),
        wording.clone(),
        outcomes,
        tokio::runtime::Handle::current(),
        Pool::new("ams2-texts", TEXT_READERS)?,
    ));
    match (&first, folded.machine.config()) {
        (Input::Started(Started { install: None, .. }), Some((_, position))) => {
            wording.install(position, loaded.clone(), &handler);
        }
        // It takes effect with the start itself.
        _ => wording.prepare(loaded.clone()),
    }
    let counts = Arc::new(Counts::default());
    let follow = Following { handler: handler.clone(), wording: wording.clone(), counts: counts.clone() };
    let router_thread =
        router.start(folded, panics.clone(), Arc::new(KeepIn(journal.clone())), Box::new(follow))?;
    let began_with = journal.append(first).await.map_err(|_| ServerError::JournalFailed)?;
    // Who is let in finds the actions and routes of this config.
    router.folded(began_with).await.map_err(|_| ServerError::RouterStopped)?;

    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(OriginatorMetrics::default());
    let connections = connections_max(descriptors, bound.len());
    let reloader = Arc::new(Reloader {
        source,
        overrides,
        journal: journal.clone(),
        router: router.clone(),
        wording: wording.clone(),
        handler: handler.clone(),
        serving: RwLock::new(None),
        running: loaded.clone(),
        bound: ready.http.map(|(address, _)| address),
        connections,
        busy: tokio::sync::Mutex::new(()),
    });
    let in_flight = Flights::default();
    let api = api(&router, &journal, &handler, &reloader, Arc::new(reader.clone()))?;
    let routes = console::routes(api.clone())
        .merge(console::status_routes(console::Status {
            router: router.clone(),
            journal: journal.clone(),
            originator: metrics.clone(),
            counts: counts.clone(),
            flights: in_flight.clone(),
        }))
        .merge(
            axum::Router::new().route("/api/v1/alerts", axum::routing::get(console::alerts)).with_state(api),
        )
        .fallback(console::no_such_path)
        .method_not_allowed_fallback(console::no_such_method);
    let denied = Denied::new(journal.clone());
    let serving = Arc::new(Serving {
        intake: journal.clone(),
        routes,
        settings: RwLock::new(Arc::new(settings(&loaded, connections))),
        metrics,
        on_denied: Box::new(move |from, what| denied.note(from, what)),
        in_flight,
        body_readers: originator::BodyReaders::new()?,
    });
    *reloader.serving.write().unwrap_or_else(|e| e.into_inner()) = Some(serving.clone());
    let mut listeners = tokio::task::JoinSet::new();
    for listener in bound {
        listeners.spawn(originator::serve(listener, serving.clone(), stopped.clone()));
    }
    let beside = Beside {
        journal: journal.clone(),
        router: router.clone(),
        reader: reader.clone(),
        snapshots: snapshots.clone(),
        panics: panics.clone(),
    };
    let snapshot_thread = snapshot_thread(beside, covered, tokio::runtime::Handle::current())?;
    let keeper_stop = stopped.clone();
    let keeper = tokio::spawn(keeper(drops, router.clone(), journal.clone(), reader, keeper_stop));
    // Before anybody is told that we run: what comes first may be the word to stop.
    announce(&ready);
    tracing::info!(ms = began.elapsed().as_millis() as u64, "ready");

    let gone = || match (snapshot_thread.has_ended(), keeper.is_finished()) {
        (true, _) => Some("the thread that makes snapshots"),
        (_, true) => Some("the task that lets old segments go"),
        _ => None,
    };
    let why = wait_for_end(&mut signals, &journal, &router, &reloader, &gone, nearly_full).await;
    let _ = stop.send(true);
    let ending = async {
        while listeners.join_next().await.is_some() {}
        if let Some(path) = &ready.socket {
            // Gone already is as good.
            drop(std::fs::remove_file(path));
        }
        snapshot_thread.stop();
        keeper.abort();
        match why {
            Why::JournalFailed => {
                router.stop();
                return Err(ServerError::JournalFailed);
            }
            Why::RouterStopped => return Err(ServerError::RouterStopped),
            Why::Asked | Why::PartStopped(_) => {}
        }
        end(&journal, &router, &snapshots).await;
        journal.stop();
        join(journal_thread).await;
        router.stop();
        join(router_thread).await;
        Ok(())
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

async fn join(thread: std::thread::JoinHandle<()>) {
    if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
        tracing::error!("a thread ended by a panic; what was accepted is in the journal");
    }
}

/// The second fold cannot get past what is damaged: a snapshot of what recovery made of it lets it begin behind.
fn cover_damage(machine: &Machine, snapshots: &SnapshotWriter) -> Option<u64> {
    let covers = machine.next_seq() - 1;
    match snapshots.write(covers, &machine.snapshot()) {
        Ok(()) => Some(covers),
        Err(error) => {
            tracing::error!(%error, "no snapshot behind the damage; restarts take longer until one is made");
            None
        }
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

fn install(loaded: &Loaded, by: &str) -> Install {
    Install {
        config: loaded.core.clone(),
        text: loaded.text.clone(),
        rule_version: RULE_VERSION,
        removed: loaded.removed.clone(),
        by: by.into(),
    }
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

struct Following {
    handler: Arc<Handler>,
    wording: Arc<Wording>,
    counts: Arc<Counts>,
}

impl Follow for Following {
    fn deliver(&mut self, attempt: Attempt) {
        self.handler.submit(attempt);
    }

    fn installed(&mut self, position: Position, text: &str) {
        self.wording.take_effect(position, text, &self.handler);
    }

    fn decided(&mut self, record: &Record) {
        self.counts.count(record);
        log(record);
    }
}

struct KeepIn(Journal);

impl Append for KeepIn {
    fn keep(&self, input: Input) {
        if let Err(error) = self.0.keep(input) {
            tracing::error!(%error, "an input of our own was not kept");
        }
    }

    fn now(&self) -> At {
        self.0.now()
    }
}

fn api(
    router: &Router,
    journal: &Journal,
    handler: &Arc<Handler>,
    reloader: &Arc<Reloader>,
    texts: Arc<dyn Texts>,
) -> io::Result<Api> {
    let inputs_to = journal.clone();
    let reloader = reloader.clone();
    Ok(Api {
        router: router.clone(),
        inputs: Arc::new(move |input| {
            let journal = inputs_to.clone();
            Box::pin(async move {
                journal.append(input).await.map_err(|refused| match refused {
                    Refused::Busy { retry_after }
                    | Refused::DiskFull { retry_after }
                    | Refused::Stalled { retry_after } => NotAppended { retry_after },
                    Refused::TooLarge { .. } | Refused::Failed | Refused::Stopping => {
                        NotAppended { retry_after: Duration::from_secs(30) }
                    }
                })
            })
        }),
        reload: Arc::new(move |order| {
            let reloader = reloader.clone();
            // A caller that hangs up leaves no half of it: the router by the new config, the ways in by the old.
            let whole = tokio::spawn(async move { reloader.reload(order).await });
            Box::pin(async move { whole.await.unwrap_or_else(|error| Err(error.to_string())) })
        }),
        handler: handler.clone(),
        texts,
        clock: Arc::new({
            let journal = journal.clone();
            move || journal.now()
        }),
        started: journal.now(),
        text_readers: Arc::new(Pool::new("ams2-console", TEXT_READERS)?),
    })
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

/// The orderly end: a last word to the journal, a little time for attempts under way, and a snapshot, so that the next
/// start is quick.
async fn end(journal: &Journal, router: &Router, snapshots: &SnapshotWriter) {
    let seq = match journal.append(Input::Stopping).await {
        Ok(seq) => seq,
        Err(error) => {
            tracing::error!(%error, "the end was not kept; the next start counts this as a crash");
            return;
        }
    };
    if router.folded(seq).await.is_err() {
        return;
    }
    let deadline = Instant::now() + LAST_ATTEMPTS;
    while Instant::now() < deadline {
        let under_way =
            router.ask(|folded| folded.machine.pending().iter().map(|of| of.in_flight).sum::<u32>()).await;
        if under_way.unwrap_or(0) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let state = router.ask_whole(|folded| (folded.machine.next_seq() - 1, folded.machine.snapshot())).await;
    let written = match state {
        Ok((covers, body)) => {
            let snapshots = snapshots.clone();
            // Whoever is asked to stop once more must hear it meanwhile.
            let written = tokio::task::spawn_blocking(move || snapshots.write(covers, &body));
            written
                .await
                .map_err(|error| error.to_string())
                .and_then(|done| done.map_err(|error| error.to_string()))
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = written {
        tracing::warn!(error, "no snapshot at the end; the next start reads more of the journal");
    }
}

/// Says where what is accepted may be lost all the same.
fn warn_of_loss(data_dir: &std::path::Path, unsafe_no_sync: bool) {
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

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn random() -> Result<[u64; 3], ServerError> {
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(number)
    };
    Ok([number(0), number(8), number(16)])
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
