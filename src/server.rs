//! Puts the rooms together and runs them: recovery, start, reload, housekeeping, and an orderly end.

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
    config::{ActionId, Install, RULE_VERSION, Removed},
    effect::Decided,
    input::{OwnEvent, Started},
    machine::Search,
};
use smol_str::SmolStr;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    alertmanager::{self, Fate, SecretsTo},
    config::{self, Loaded, Overrides},
    console::{self, Api, NotAppended, ReloadOrder},
    denied::Denied,
    handler::{Attempt, Handler, Texts},
    journal::{
        Clock, Health, Journal, JournalReader, OpenError, Options, Refused, SnapshotWriter, SystemClock,
        storage::{Folder, Storage},
    },
    originator::{self, Listener, OriginatorMetrics, Serving, Settings},
    poison::Panics,
    router::{Append, Follow, Router, Unanswered, log},
    upkeep::{self, Recovered},
    wording::Wording,
};

/// A snapshot is made after so many sequence numbers: what a restart must replay is bounded by it.
const SNAPSHOT_EVERY: u64 = 1_000_000;
/// Or after so many segments: large alerts fill them with few sequence numbers, and each start begins a new one.
const SNAPSHOT_SEGMENTS: usize = 8;
/// One snapshot follows another after this many times the processor time that it took: under a load that lasts, snapshots
/// leave the processor to the clients.
const SNAPSHOT_REST: u32 = 4;
/// How far a snapshot steps back behind all other threads: whoever accepts alerts does not wait for a turn of the processor.
const SNAPSHOT_NICE: i32 = 19;
/// A snapshot that is so many sequence numbers late does not step back any more: where others take all of the processor,
/// the journal would grow for ever behind it.
const SNAPSHOT_LATE: u64 = 8 * SNAPSHOT_EVERY;
/// How often the snapshot thread looks.
const SNAPSHOT_LOOK: Duration = Duration::from_secs(2);
/// Rows that a search for needed texts looks through at once: well below a millisecond of the router's time.
const SEARCH_ROWS: u32 = 8_192;
/// The wall clock, the disk and the threads are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// A change of the wall clock of more than this is journaled.
const WALL_CHANGE_MS: i64 = 500;
/// How long attempts under way may go on at an orderly end.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);
/// File descriptors that connections may not use: far ends, programs, event logs, snapshots.
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
    /// Where HTTP listens.
    pub http: Option<(SocketAddr, bool)>,
    /// The socket.
    pub socket: Option<PathBuf>,
    /// The data folder.
    pub data_dir: PathBuf,
}

/// Takes the addresses that the config names.
async fn bind(loaded: &Loaded) -> Result<(Announced, Vec<Listener>), ServerError> {
    let mut ready = Announced { http: None, socket: None, data_dir: loaded.data_dir.clone() };
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

/// Takes as many file descriptors as the system gives, and answers how many. Segments, far ends and programs need
/// some whatever clients do.
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
fn connections_max(descriptors: u64, options: &Options, listeners: usize) -> usize {
    let segments = options.retention.bytes / options.segment_bytes.max(1);
    let left = descriptors.saturating_sub(DESCRIPTORS_RESERVED + segments) / listeners.max(1) as u64;
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
    // Whatever can refuse the start does so before anything is journaled; clients wait in the listeners' queues.
    let (ready, bound) = bind(&loaded).await?;

    let recovered = upkeep::recover(storage, &options, random()?, unix_ms())?;
    let Recovered { folded, writer, reader, snapshots, panics, damage, covered, .. } = recovered;
    tracing::info!(
        sequence = folded.machine.next_seq() - 1,
        alerts = folded.machine.sizes().0,
        ms = began.elapsed().as_millis() as u64,
        "recovered"
    );
    refuse_orphans(&folded.machine, &loaded)?;
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
    report_covered(&journal, &snapshots);
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
    journal.append(first).await.map_err(|_| ServerError::JournalFailed)?;

    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(OriginatorMetrics::default());
    let connections = connections_max(descriptors, &loaded.journal, bound.len());
    let reloader = Arc::new(Reloader {
        source,
        overrides,
        journal: journal.clone(),
        router: router.clone(),
        wording: wording.clone(),
        handler: handler.clone(),
        serving: RwLock::new(None),
        running: loaded.clone(),
        connections,
        busy: tokio::sync::Mutex::new(()),
    });
    let api = api(&router, &journal, &handler, &reloader, Arc::new(reader.clone()));
    let routes = console::routes(api.clone())
        .merge(console::status_routes(console::Status {
            router: router.clone(),
            journal: journal.clone(),
            originator: metrics.clone(),
            counts: counts.clone(),
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
        in_flight: Arc::default(),
        readers: originator::readers(),
    });
    *reloader.serving.write().unwrap_or_else(|e| e.into_inner()) = Some(serving.clone());
    let mut listeners = tokio::task::JoinSet::new();
    for listener in bound {
        listeners.spawn(originator::serve(listener, serving.clone(), stopped.clone()));
    }
    let snapshot_thread = snapshot_thread(&journal, &reader, &snapshots, &panics, covered)?;
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
    let why = wait_for_end(&mut signals, &journal, &router, &reloader, &gone, offset, nearly_full).await;
    let _ = stop.send(true);
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
    tokio::select! {
        () = end(&journal, &router, &snapshots) => {}
        () = signals.stop() => {
            tracing::warn!("asked twice to stop: attempts under way are made again at the next start");
            return Ok(());
        }
    }
    journal.stop();
    join(journal_thread).await;
    router.stop();
    join(router_thread).await;
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

/// Tells the journal what may go: what every snapshot covers that a start may fall back on.
fn report_covered(journal: &Journal, snapshots: &SnapshotWriter) {
    match snapshots.covered() {
        Ok(covered) => journal.covered(covered),
        Err(error) => tracing::warn!(%error, "old segments stay: the snapshots cannot be listed"),
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

/// Loads the configuration again.
struct Reloader {
    source: Source,
    overrides: Overrides,
    journal: Journal,
    router: Router,
    wording: Arc<Wording>,
    handler: Arc<Handler>,
    serving: RwLock<Option<Arc<Serving<Journal>>>>,
    /// What the process was started with: some of it cannot change while it runs.
    running: Loaded,
    connections: usize,
    busy: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// Puts the file in force, or says every mistake. Answers what may not be as meant.
    async fn reload(&self, order: ReloadOrder) -> Result<String, String> {
        let _one_at_a_time = self.busy.lock().await;
        let refused = |why: String| {
            tracing::error!("the new configuration is refused, the old one stays:\n{why}");
            let first = why.lines().next().unwrap_or_default().to_owned();
            if let Err(error) = self.journal.keep(Input::Own(OwnEvent::ConfigRefused { why: first })) {
                tracing::error!(%error, "an own alert was not kept");
            }
            why
        };
        let name = self.source.name();
        let mut loaded =
            self.source.load(&self.overrides).map_err(|wrong| refused(config::lines(&wrong.found)))?;
        let words = |error: Unanswered| error.to_string();
        if let Some(fate) = order.removed {
            self.see_to_orphans(&mut loaded, fate).await.map_err(refused)?;
        }
        let asked = loaded.clone();
        let orphans = self.router.ask(move |folded| refuse_orphans(&folded.machine, &asked)).await;
        orphans.map_err(words)?.map_err(|error| refused(error.to_string()))?;
        let mut warnings = config::lines(&loaded.warnings);
        for setting in self.need_a_restart(&loaded) {
            warnings.push_str(&format!("{name}: {setting} takes effect at the next start\n"));
        }
        for warning in warnings.lines() {
            tracing::warn!("{warning}");
        }
        // Whatever the file says, this process stays with its folder.
        let loaded = Loaded { data_dir: self.running.data_dir.clone(), ..loaded };
        let settings = settings(&loaded, self.connections);
        let in_force = self.router.ask(|folded| {
            let rules = folded.machine.rule_version();
            folded.machine.config().map(|(core, at)| (core.clone(), at, rules))
        });
        match in_force.await.map_err(words)? {
            // Nothing to decide anew: what files and the environment hold may be new all the same.
            Some((core, position, RULE_VERSION))
                if core == loaded.core && self.wording.is_in_force(&loaded.text) =>
            {
                self.wording.install(position, loaded, &self.handler);
            }
            _ => {
                let input = Input::ConfigInstalled(install(&loaded, &order.by).into());
                let text = loaded.text.clone();
                self.wording.prepare(loaded);
                let seq = self.journal.append(input).await.map_err(|error| {
                    self.wording.forget(&text);
                    error.to_string()
                })?;
                self.router.folded(seq).await.map_err(words)?;
            }
        }
        if let Some(serving) = &*self.serving.read().unwrap_or_else(|e| e.into_inner()) {
            *serving.settings.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(settings);
        }
        Ok(warnings)
    }

    /// Adds to the config what becomes of deliveries about whose actions it says nothing.
    async fn see_to_orphans(&self, loaded: &mut Loaded, fate: Removed) -> Result<(), String> {
        if let Removed::MoveTo(receiver) = &fate
            && loaded.core.receivers.iter().all(|known| known.name != *receiver)
        {
            return Err(format!("no receiver is called `{receiver}`"));
        }
        let known: Vec<ActionId> = loaded.actions.iter().map(|(id, ..)| id.clone()).collect();
        let removed = loaded.removed.clone();
        let asked = self
            .router
            .ask(move |folded| upkeep::orphans(&folded.machine, |id| known.contains(id), &removed))
            .await;
        let orphans = asked.map_err(|error| error.to_string())?;
        loaded.removed.extend(orphans.into_iter().map(|(action, _)| (action, fate.clone())));
        Ok(())
    }

    /// Settings that differ from those of the start and cannot change before the next.
    fn need_a_restart(&self, loaded: &Loaded) -> Vec<&'static str> {
        let old = &self.running;
        let listen = |loaded: &Loaded| loaded.http.as_ref().map(|http| http.listen);
        let connections = |loaded: &Loaded| loaded.http.as_ref().map(|http| http.limits.connections);
        let changed = [
            ("journal.dir", old.data_dir != loaded.data_dir),
            ("journal", old.journal != loaded.journal),
            ("originator.http.listen", listen(old) != listen(loaded)),
            ("originator.http.limits.connections", connections(old) != connections(loaded)),
            ("originator.socket", old.socket != loaded.socket),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }
}

/// What a config says of the ways in. A listener has at most `connections`, however many the config allows.
fn settings(loaded: &Loaded, connections: usize) -> Settings {
    let mut limits = loaded.http.as_ref().map(|http| http.limits.clone()).unwrap_or_default();
    if connections < limits.connections {
        tracing::warn!(connections, "fewer connections than configured: the limit of open files is low");
        limits.connections = connections;
    }
    Settings {
        clients: loaded.clients.clone(),
        limits,
        alert_limits: loaded.alert_limits.clone(),
        hosts: loaded.http.as_ref().map(|http| http.hosts.clone()).unwrap_or_default(),
        tls: loaded.http.as_ref().and_then(|http| http.tls.clone()),
    }
}

fn api(
    router: &Router,
    journal: &Journal,
    handler: &Arc<Handler>,
    reloader: &Arc<Reloader>,
    texts: Arc<dyn Texts>,
) -> Api {
    let inputs_to = journal.clone();
    let reloader = reloader.clone();
    Api {
        router: router.clone(),
        inputs: Arc::new(move |input| {
            let journal = inputs_to.clone();
            Box::pin(async move {
                journal.append(input).await.map_err(|refused| match refused {
                    Refused::Busy { retry_after } | Refused::DiskFull { retry_after } => {
                        NotAppended { retry_after }
                    }
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
    }
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
        (false, Health::Well | Health::DiskFull) => gone.map(Why::PartStopped),
    }
}

/// Waits for a signal to stop; reloads on SIGHUP, and looks after the wall clock, the disk and the threads meanwhile.
async fn wait_for_end(
    signals: &mut Signals,
    journal: &Journal,
    router: &Router,
    reloader: &Arc<Reloader>,
    gone: &dyn Fn() -> Option<&'static str>,
    offset: i64,
    nearly_full: bool,
) -> Why {
    let mut look = tokio::time::interval(LOOK);
    let (mut offset, mut nearly_full) = (offset, nearly_full);
    let keep = |input, what| {
        if let Err(error) = journal.keep(input) {
            tracing::error!(%error, "{what} was not kept");
        }
    };
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
                let now = unix_ms().saturating_sub_unsigned(journal.now().0);
                if (now - offset).abs() > WALL_CHANGE_MS {
                    offset = now;
                    keep(Input::WallClock(now), "a change of the wall clock");
                }
                if let Some((full, free_bytes)) = journal.disk_turned(nearly_full) {
                    nearly_full = full;
                    let event = OwnEvent::DiskNearlyFull { resolved: !full, free_bytes };
                    keep(Input::Own(event), "an own alert");
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
    let written = state
        .map_err(|error| error.to_string())
        .and_then(|(covers, body)| snapshots.write(covers, &body).map_err(|error| error.to_string()));
    if let Err(error) = written {
        tracing::warn!(error, "no snapshot at the end; the next start reads more of the journal");
    }
}

/// The thread that makes snapshots: a second fold, behind the live one, so that nobody waits for it.
struct SnapshotThread {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl SnapshotThread {
    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn stop(&self) {
        // A thread that has ended needs no word.
        let _ = self.stop.send(());
    }
}

fn snapshot_thread(
    journal: &Journal,
    reader: &JournalReader,
    snapshots: &SnapshotWriter,
    panics: &Panics,
    covered: u64,
) -> io::Result<SnapshotThread> {
    let (journal, reader, snapshots) = (journal.clone(), reader.clone(), snapshots.clone());
    let panics = panics.clone();
    let (stop, stopped) = mpsc::channel();
    let thread = std::thread::Builder::new().name("ams2-snapshot".into()).spawn(move || {
        let (mut covered, mut rest_until) = (covered, Instant::now());
        // The first look comes at once: a process that is killed again and again must get there, too.
        let mut wait = Duration::ZERO;
        while stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
            wait = SNAPSHOT_LOOK;
            let flushed = journal.flushed_seq();
            let many = flushed > covered && reader.segments_behind(covered) > SNAPSHOT_SEGMENTS;
            if !many && flushed < covered + SNAPSHOT_EVERY || Instant::now() < rest_until {
                continue;
            }
            let nice = if flushed < covered + SNAPSHOT_LATE { SNAPSHOT_NICE } else { 0 };
            let make = || upkeep::snapshot_behind(&reader, &snapshots, &panics, covered, flushed);
            let (made, processor) = stepping_back(nice, make);
            match made {
                Ok(now) => {
                    covered = now;
                    report_covered(&journal, &snapshots);
                }
                Err(error) => {
                    tracing::error!(error, "no snapshot was made; restarts take longer until one is")
                }
            }
            rest_until = Instant::now() + processor * SNAPSHOT_REST;
        }
    })?;
    Ok(SnapshotThread { stop, thread })
}

/// Does some work in a thread of its own, which lets others go first by so much: a thread that has stepped back cannot
/// come forward again. Answers also the processor time that it took.
fn stepping_back<T: Send>(
    nice: i32,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> (Result<T, String>, Duration) {
    let work = move || {
        if let Err(error) = rustix::process::nice(nice) {
            tracing::debug!(%error, "a snapshot cannot step back behind other threads");
        }
        let made = work();
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        (made, Duration::new(used.tv_sec as u64, used.tv_nsec as u32))
    };
    std::thread::scope(|scope| {
        match std::thread::Builder::new().name("ams2-fold".into()).spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => (Err(error.to_string()), Duration::ZERO),
        }
    })
}

/// Lets old segments go, once what is still needed from them is written again.
async fn keeper(
    drops: mpsc::Receiver<u64>,
    router: Router,
    journal: Journal,
    reader: JournalReader,
    stopped: watch::Receiver<bool>,
) {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    while !*stopped.borrow() {
        look.tick().await;
        let Ok(keep_from) = drops.try_recv() else { continue };
        if let Err(error) = carry(&router, &journal, &reader, keep_from).await {
            tracing::warn!(error, "old segments stay: what is needed from them cannot be carried forward");
        }
    }
}

async fn carry(
    router: &Router,
    journal: &Journal,
    reader: &JournalReader,
    keep_from: u64,
) -> Result<(), String> {
    let words = |error: Unanswered| error.to_string();
    // A router that lags behind does not know yet what it needs.
    router.folded(keep_from.saturating_sub(1)).await.map_err(words)?;
    let mut search = Search::default();
    loop {
        let asked = router.ask_whole(move |folded| {
            let found = folded.machine.needed_before(keep_from, &mut search, SEARCH_ROWS);
            (found, search)
        });
        let (found, on) = asked.await.map_err(words)?;
        search = on;
        let Some(mut needed) = found else { break };
        while !needed.is_empty() {
            let (reader, all) = (reader.clone(), needed.clone());
            let read = tokio::task::spawn_blocking(move || upkeep::carried(&all, &reader));
            let carried = read.await.map_err(|error| error.to_string())??;
            needed.drain(..carried.items.len());
            let kept = journal.append(Input::Carried(carried)).await;
            router.folded(kept.map_err(|error| error.to_string())?).await.map_err(words)?;
        }
    }
    journal.drop_before(keep_from).await.map_err(|error| error.to_string())
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
    fn what_steps_back_does_so_alone_and_its_processor_time_counts() {
        let priority = || rustix::process::getpriority_process(None).map_err(|error| error.to_string());
        let before = priority().expect("readable");
        let work = || {
            // A mebibyte of sums: more than nothing, less than a moment.
            let sum: u64 = (0..1u64 << 20).map(std::hint::black_box).sum();
            Ok((priority()?, sum))
        };
        let (made, used) = stepping_back(SNAPSHOT_NICE, work);
        assert_eq!(made.expect("readable").0, 19);
        assert_eq!(priority().expect("readable"), before, "nobody else stepped back");
        assert!(used > Duration::ZERO);
        let (failed, _) = stepping_back(0, || Err::<(), _>("no disk".to_owned()));
        assert_eq!(failed, Err("no disk".to_owned()));
    }

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
