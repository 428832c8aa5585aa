//! The rooms behind the ways in: recovered, started in their order, wired to each other, and ended in order.

use std::{
    io,
    sync::{Arc, RwLock, atomic::Ordering, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ams2_core::{
    At, Input, Machine, Position, Record,
    config::{Install, RULE_VERSION},
    input::Started,
};
use smol_str::SmolStr;

use super::{
    Counts, ServerError, Why,
    check_ins::CheckIns,
    housekeeping::Beside,
    refuse_orphans,
    reload::{Reloader, settings, within},
};
use crate::{
    config::Loaded,
    console::{self, Api, NotAppended},
    denied::Denied,
    flight::Flights,
    handler::{Attempt, Handler, Texts},
    journal::{
        Clock, Journal, JournalReader, Options, Refused, SnapshotWriter, SystemClock, storage::Storage,
    },
    originator::{
        self, OriginatorMetrics, Serving,
        snmp::{Snmp, SnmpMetrics},
        syslog::{Syslog, SyslogMetrics},
    },
    poison::Panics,
    pool::Pool,
    router::{Append, Follow, Router, log},
    upkeep::{self, Recovered},
    wording::Wording,
};

/// How long attempts under way may go on at an orderly end.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);
/// Threads that read texts of alerts for deliveries, and as many for the console: more would wait for the same disk.
const TEXT_READERS: usize = 4;

/// Recovers what the data folder holds. A start that is refused leaves the journal as it was.
pub(super) fn recovered(
    storage: Arc<dyn Storage>,
    options: &Options,
    loaded: &Loaded,
    began: Instant,
) -> Result<Recovered, ServerError> {
    let read = upkeep::read(storage, options, random()?)?;
    refuse_orphans(&read.folded.machine, loaded)?;
    let recovered = read.begin(unix_ms())?;
    let machine = &recovered.folded.machine;
    tracing::info!(
        sequence = machine.next_seq() - 1,
        alerts = machine.sizes().0,
        ms = began.elapsed().as_millis() as u64,
        "recovered"
    );
    let covered = match recovered.damage.is_empty() {
        true => recovered.covered,
        false => {
            let covers = recovered.writer.next_seq() - 1;
            cover_damage(machine, covers, &recovered.snapshots).unwrap_or(recovered.covered)
        }
    };
    Ok(Recovered { covered, ..recovered })
}

/// The second fold cannot get past what is damaged: a snapshot of what recovery made of it lets it begin behind, and behind
/// numbers that are not given because files that were left alone may hold them.
fn cover_damage(machine: &Machine, covers: u64, snapshots: &SnapshotWriter) -> Option<u64> {
    match snapshots.write(covers, &machine.snapshot()) {
        Ok(()) => Some(covers),
        Err(error) => {
            tracing::error!(%error, "no snapshot behind the damage; restarts take longer until one is made");
            None
        }
    }
}

/// What runs behind the ways in.
pub(super) struct Inner {
    pub journal: Journal,
    pub router: Router,
    pub handler: Arc<Handler>,
    pub wording: Arc<Wording>,
    pub reader: JournalReader,
    /// The last sequence number that a snapshot covered at the start.
    pub covered: u64,
    snapshots: SnapshotWriter,
    panics: Panics,
    counts: Arc<Counts>,
    syslog_metrics: Arc<SyslogMetrics>,
    snmp_metrics: Arc<SnmpMetrics>,
    denied: Arc<Denied>,
    loaded: Loaded,
    journal_thread: JoinHandle<()>,
    router_thread: JoinHandle<()>,
}

impl Inner {
    /// Starts the journal, the handler and the router, and puts the config in force. With where the journal says from which
    /// sequence number on it is kept.
    pub async fn start(
        recovered: Recovered,
        options: Options,
        loaded: &Loaded,
    ) -> Result<(Inner, mpsc::Receiver<u64>), ServerError> {
        let Recovered { folded, writer, reader, snapshots, panics, damage, covered, .. } = recovered;
        let damaged = damage.len() as u64;
        let clock = Arc::new(SystemClock::from(folded.machine.at()));
        let started = started(damage, unix_ms().saturating_sub_unsigned(clock.now().0))?;
        // A journal gets its name with its first start.
        let journal_name = match folded.machine.incarnation() {
            0 => ams2_core::machine::journal_of(started.seed),
            _ => folded.machine.journal(),
        };
        let first = upkeep::first_input(&folded, &reader, started, install(loaded, "start"));
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

        let wording = Arc::new(Wording::new(reader.clone(), journal_name));
        let handler = Arc::new(handler(&journal, &reader, &wording)?);
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
        let loaded = loaded.clone();
        let (syslog_metrics, denied) = (Arc::default(), Arc::new(Denied::new(journal.clone())));
        let inner = Inner {
            journal,
            router,
            handler,
            wording,
            reader,
            covered,
            snapshots,
            panics,
            counts,
            syslog_metrics,
            snmp_metrics: Arc::default(),
            denied,
            loaded,
            journal_thread,
            router_thread,
        };
        Ok((inner, drops))
    }

    /// What the listeners share.
    pub fn serving(&self, reloader: &Arc<Reloader>) -> Result<Arc<Serving<Journal>>, ServerError> {
        let Inner { journal, router, handler, .. } = self;
        let (metrics, in_flight) = (Arc::new(OriginatorMetrics::default()), Flights::default());
        let api = api(router, journal, handler, reloader, Arc::new(self.reader.clone()))?;
        let status = console::Status {
            router: router.clone(),
            journal: journal.clone(),
            originator: metrics.clone(),
            syslog: self.loaded.syslog.is_some().then(|| self.syslog_metrics.clone()),
            snmp: self.loaded.snmp.is_some().then(|| self.snmp_metrics.clone()),
            counts: self.counts.clone(),
            flights: in_flight.clone(),
        };
        let alerts = axum::Router::new()
            .route("/api/v1/alerts", axum::routing::get(console::alerts))
            .with_state(api.clone());
        let routes = console::routes(api)
            .merge(console::status_routes(status))
            .merge(alerts)
            .fallback(console::no_such_path)
            .method_not_allowed_fallback(console::no_such_method);
        let denied = self.denied.clone();
        Ok(Arc::new(Serving {
            intake: journal.clone(),
            routes,
            settings: RwLock::new(Arc::new(settings(
                &self.loaded,
                self.wording.journal(),
                reloader.connections,
            ))),
            metrics,
            on_denied: Box::new(move |from, what| denied.note(from, what)),
            refusals: originator::Refusals::default(),
            in_flight,
            body_readers: originator::BodyReaders::new()?,
        }))
    }

    /// What the listeners of syslog share; `None` where the config has none.
    pub fn syslog(&self, connections: usize) -> Result<Option<Arc<Syslog<Journal>>>, ServerError> {
        let Some(config) = &self.loaded.syslog else { return Ok(None) };
        let denied = self.denied.clone();
        let [random, ..] = random()?;
        Ok(Some(Arc::new(Syslog::new(
            self.journal.clone(),
            within(config.settings.clone(), connections),
            self.syslog_metrics.clone(),
            Box::new(move |from, what| denied.note(from, what)),
            random,
        ))))
    }

    /// What the listener of SNMP goes by; `None` where the config has none.
    pub fn snmp(&self) -> Result<Option<Arc<Snmp<Journal>>>, ServerError> {
        let Some(config) = &self.loaded.snmp else { return Ok(None) };
        if config.settings.clients.has_users() {
            // Boots grow with each start, before anything is answered.
            ams2_handlers::snmp_trap::own_engine(&self.loaded.data_dir).map_err(ServerError::SnmpEngine)?;
        }
        let denied = self.denied.clone();
        let [random, ..] = random()?;
        Ok(Some(Arc::new(Snmp::new(
            self.journal.clone(),
            config.settings.clone(),
            self.snmp_metrics.clone(),
            Box::new(move |from, what| denied.note(from, what)),
            random,
            self.loaded.data_dir.clone(),
            !config.listen.ip().is_loopback(),
        ))))
    }

    /// What runs beside it all.
    pub fn beside(&self) -> Beside {
        Beside {
            journal: self.journal.clone(),
            router: self.router.clone(),
            reader: self.reader.clone(),
            snapshots: self.snapshots.clone(),
            panics: self.panics.clone(),
        }
    }

    /// What says to other servers how this one is.
    pub fn check_ins(&self) -> CheckIns {
        let (router, journal) = (self.router.clone(), self.journal.clone());
        CheckIns::new(router, journal, self.reader.clone(), self.handler.clone())
    }

    /// Ends it, once nobody is let in any more.
    pub async fn end(self, why: Why) -> Result<(), ServerError> {
        match why {
            Why::JournalFailed => {
                self.router.stop();
                return Err(ServerError::JournalFailed);
            }
            Why::RouterStopped => return Err(ServerError::RouterStopped),
            Why::Asked | Why::PartStopped(_) => {}
        }
        last_words(&self.journal, &self.router, &self.snapshots).await;
        self.journal.stop();
        join(self.journal_thread).await;
        self.router.stop();
        join(self.router_thread).await;
        Ok(())
    }
}

/// What the journal is told of this start.
fn started(damage: Vec<String>, wall_offset_ms: i64) -> Result<Started, ServerError> {
    let [incarnation, ..] = random()?;
    let [_, a, b] = random()?;
    Ok(Started {
        incarnation: incarnation.max(1),
        seed: [a, b],
        wall_offset_ms,
        version: SmolStr::new_static(env!("CARGO_PKG_VERSION")),
        damage,
        install: None,
    })
}

/// A handler whose outcomes go into the journal.
fn handler(journal: &Journal, reader: &JournalReader, wording: &Arc<Wording>) -> io::Result<Handler> {
    let outcomes_to = journal.clone();
    let outcomes = Arc::new(move |outcome| {
        if let Err(error) = outcomes_to.keep(Input::Outcome(outcome)) {
            // The attempt is made again after the next start, with the same delivery id.
            tracing::error!(%error, "an outcome was not kept");
        }
    });
    Ok(Handler::new(
        Arc::new(reader.clone()),
        wording.clone(),
        outcomes,
        tokio::runtime::Handle::current(),
        Pool::new("ams2-texts", TEXT_READERS)?,
    ))
}

/// A configuration as the router gets it, and by whom.
pub(super) fn install(loaded: &Loaded, by: &str) -> Install {
    Install {
        config: loaded.core.clone(),
        text: loaded.text.clone(),
        rule_version: RULE_VERSION,
        removed: loaded.removed.clone(),
        by: by.into(),
    }
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
    let (inputs_to, intake_to) = (journal.clone(), journal.clone());
    let reloader = reloader.clone();
    Ok(Api {
        router: router.clone(),
        inputs: Arc::new(move |input| {
            let journal = inputs_to.clone();
            Box::pin(async move { journal.append(input).await.map_err(not_appended) })
        }),
        intake: Arc::new(move |input| {
            let journal = intake_to.clone();
            Box::pin(async move {
                let kept = journal.accept_other(input).await;
                kept.map(|accepted| accepted.last).map_err(not_appended)
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

fn not_appended(refused: Refused) -> NotAppended {
    match refused {
        Refused::Busy { retry_after }
        | Refused::DiskFull { retry_after }
        | Refused::Stalled { retry_after } => NotAppended { retry_after },
        Refused::TooLarge { .. } | Refused::Failed | Refused::Stopping => {
            NotAppended { retry_after: Duration::from_secs(30) }
        }
    }
}

/// The orderly end: a last word to the journal, a little time for attempts under way, and a snapshot, so that the next
/// start is quick.
async fn last_words(journal: &Journal, router: &Router, snapshots: &SnapshotWriter) {
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

async fn join(thread: JoinHandle<()>) {
    if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
        tracing::error!("a thread ended by a panic; what was accepted is in the journal");
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
