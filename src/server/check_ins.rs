//! Says now and then to the servers that this one forwards to how it is: right after the start, and then once in each period
//! that they ask for, at a place in it that the journal's name decides. So five thousand that start together make no wave but
//! the first seconds'.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ams2_core::{
    At, Position,
    config::{ActionId, CheckIns as Rules},
    machine::Tally,
};
use ams2_handlers::{Answer, Report, text::one_line};
use sha2::{Digest, Sha256};
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    handler::Handler,
    journal::{Journal, JournalReader},
    router::Router,
};

/// The first check-in comes within so long after the start, in milliseconds.
const FIRST_MS: u64 = 10_000;
/// Shortest period that is followed, whatever a far end asks for, in milliseconds; and the longest.
const PERIOD_MS_MIN: u64 = 1_000;
const PERIOD_MS_MAX: u64 = 30 * 86_400_000;
/// The wait after a check-in that failed, in milliseconds: doubling, and no more than a quarter of the period.
const AGAIN_MS: u64 = 60_000;
const AGAIN_MS_MAX: u64 = 15 * 60_000;
/// Longest time for one.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longest wait in one piece: it does not count while the machine sleeps, the journal's clock does.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Most digits of a configuration's hash that are said.
const HASH_DIGITS: usize = 16;

/// What it takes to say it.
#[derive(Clone)]
pub(super) struct CheckIns {
    router: Router,
    journal: Journal,
    reader: JournalReader,
    handler: Arc<Handler>,
}

/// What one action's far end said, and when it is to hear from us.
#[derive(Debug)]
struct Rhythm {
    /// Names our journal.
    incarnation: u64,
    period_ms: u64,
    failures: u32,
    due: At,
}

impl Rhythm {
    /// Due soon.
    fn new(incarnation: u64, now: At) -> Rhythm {
        let first_ms = mixed(incarnation, 0) % FIRST_MS;
        Rhythm { incarnation, period_ms: Rules::default().period_ms, failures: 0, due: now.plus(first_ms) }
    }

    /// It was heard: the next time is at this journal's place in the period.
    fn heard(&mut self, period_ms: u64, now: At) {
        self.period_ms = period_ms.clamp(PERIOD_MS_MIN, PERIOD_MS_MAX);
        self.failures = 0;
        let place = mixed(self.incarnation, 1) % self.period_ms;
        let since_place = (now.0 % self.period_ms + self.period_ms - place) % self.period_ms;
        self.due = now.plus(self.period_ms - since_place);
    }

    /// It was not: soon again, each at another time.
    fn failed(&mut self, now: At) {
        let longest = (AGAIN_MS << self.failures.min(4)).min(AGAIN_MS_MAX).min(self.period_ms / 4);
        self.failures = self.failures.saturating_add(1);
        let jitter = mixed(self.incarnation, 1 + u64::from(self.failures)) % (longest / 2 + 1);
        self.due = now.plus(longest / 2 + jitter);
    }
}

/// A number that looks like chance and is the same each time (the finalizer of SplitMix64).
fn mixed(incarnation: u64, which: u64) -> u64 {
    let mut mixed = incarnation.wrapping_add(which.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl CheckIns {
    pub fn new(router: Router, journal: Journal, reader: JournalReader, handler: Arc<Handler>) -> CheckIns {
        CheckIns { router, journal, reader, handler }
    }

    /// Runs until it is aborted: a task for each action, so that none waits for another's far end.
    pub async fn run(self) {
        let mut installed = self.handler.installed();
        // They end with this.
        let mut tasks = JoinSet::new();
        let mut running: HashMap<ActionId, AbortHandle> = HashMap::new();
        loop {
            let actions = self.handler.actions();
            running.retain(|id, task| {
                let stays = actions.contains(id);
                if !stays {
                    task.abort();
                }
                // One that has ended is asked again: the action may be another now.
                stays && !task.is_finished()
            });
            for id in actions {
                if !running.contains_key(&id) {
                    running.insert(id.clone(), tasks.spawn(self.clone().of(id)));
                }
            }
            while tasks.try_join_next().is_some() {}
            if installed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Those of one action; ends if its far end does not want to know.
    async fn of(self, id: ActionId) {
        let mut rhythm = Rhythm::new(self.handler.server().journal, self.journal.now());
        let (mut last, mut said, mut hash) = (None, String::new(), None);
        loop {
            self.wait_until(rhythm.due).await;
            let Some(report) = self.report(&id, &last, &mut hash).await else { return };
            let Some(ready) = self.handler.ready(&id) else { return };
            let call = ready.action.check_in(&report, DEADLINE);
            let answered = match tokio::time::timeout(DEADLINE, call).await {
                Ok(None) => return,
                Ok(Some(answered)) => answered,
                Err(_) => Err(format!("no answer within {DEADLINE:?}")),
            };
            let words = match answered {
                Ok(Answer { router, period_ms, warnings, .. }) => {
                    rhythm.heard(period_ms, self.journal.now());
                    last = Some(router);
                    warnings.join("; ")
                }
                Err(error) => {
                    rhythm.failed(self.journal.now());
                    error
                }
            };
            // Once, and again when it changes: it lasts for hours.
            if words != said && !words.is_empty() {
                tracing::warn!(action = %one_line(&id.to_string()), words = %one_line(&words), "check-in");
            }
            said = words;
        }
    }

    async fn wait_until(&self, due: At) {
        loop {
            let left = Duration::from_millis(due.since(self.journal.now()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(WAIT_MAX)).await;
        }
    }

    /// How this server is, as far as it concerns the far end of this action; `None` once the router has stopped.
    async fn report(
        &self,
        id: &ActionId,
        last: &Option<String>,
        hash: &mut Option<(Position, String)>,
    ) -> Option<Report> {
        let asked = id.clone();
        let server = self.handler.server();
        let (config, (waiting, tally)) = self
            .router
            .ask(move |folded| {
                let machine = &folded.machine;
                let of = machine.pending().into_iter().find(|of| of.action == asked);
                let counts = of.map_or((0, Tally::default()), |of| (of.pending, of.tally));
                (machine.config().map(|(_, position)| position), counts)
            })
            .await
            .ok()?;
        Some(Report {
            server: server.name.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            config: self.config_hash(config, hash).await,
            incarnation: server.journal,
            waiting: waiting.into(),
            held_back: tally.held_back,
            delayed: tally.delayed,
            dropped: tally.dropped,
            clock_ms: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_millis() as i64),
            router: last.clone(),
            leaves_for: None,
        })
    }

    /// The hash of the configuration's text, which is read again only when it is another.
    async fn config_hash(&self, config: Option<Position>, known: &mut Option<(Position, String)>) -> String {
        let Some(position) = config else { return String::new() };
        if let Some((known, hash)) = known
            && *known == position
        {
            return hash.clone();
        }
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.config_text(position)).await;
        // A disk that cannot be read is said elsewhere.
        let Ok(Ok(text)) = read else { return String::new() };
        let digest = Sha256::digest(text.as_bytes());
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = hash[..HASH_DIGITS].to_owned();
        *known = Some((position, hash.clone()));
        hash
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ams2_handlers::{Action, Delivery, Failure, Receipt};

    use super::*;
    use crate::{
        config::{self, Overrides},
        handler::{Ready, Site},
        journal::storage::Folder,
        server::start::{Inner, recovered},
    };

    const MINUTE_MS: u64 = 60_000;
    const PERIOD_MS: u64 = 200 * MINUTE_MS;

    /// When clients that all start at once, on journals that are as old, check in within so long.
    fn check_ins(clients: u64, until_ms: u64) -> Vec<u64> {
        let mut all = Vec::new();
        for client in 0..clients {
            let mut rhythm = Rhythm::new(mixed(client, 99), At(0));
            while rhythm.due.0 < until_ms {
                all.push(rhythm.due.0);
                rhythm.heard(PERIOD_MS, rhythm.due);
            }
        }
        all
    }

    #[test]
    fn five_thousand_clients_that_start_together_make_no_wave() {
        let days = 10;
        let all = check_ins(5_000, days * 1_440 * MINUTE_MS);
        let first = all.iter().filter(|at| **at < FIRST_MS).count();
        assert!(first >= 5_000, "each checks in within ten seconds: {first}");
        let later: Vec<u64> = all.into_iter().filter(|at| *at >= FIRST_MS).collect();
        let a_second = later.len() as f64 / (days * 86_400) as f64;
        assert!((0.41..0.43).contains(&a_second), "{a_second} a second");
        // 25 a minute on average: chance makes no more than twice as many of them, in any.
        let mut minutes: HashMap<u64, u32> = HashMap::new();
        later.iter().for_each(|at| *minutes.entry(at / MINUTE_MS).or_default() += 1);
        let most = minutes.values().max().copied().unwrap_or(0);
        assert!((26..=50).contains(&most), "{most} in one minute");
        assert!(minutes.len() as u64 >= days * 1_440 - 1, "no minute without any");
    }

    #[test]
    fn the_time_between_two_is_never_more_than_the_period_and_stays_that() {
        for incarnation in [0, 1, u64::MAX, 12_345_678_901] {
            let mut rhythm = Rhythm::new(incarnation, At(7_777_777));
            let first = rhythm.due;
            assert!(first.since(At(7_777_777)) < FIRST_MS);
            rhythm.heard(PERIOD_MS, first);
            assert!(rhythm.due > first && rhythm.due.since(first) <= PERIOD_MS);
            let second = rhythm.due;
            // The answer takes a while.
            rhythm.heard(PERIOD_MS, second.plus(250));
            assert_eq!(rhythm.due.since(second), PERIOD_MS);
            // What a far end asks for has bounds.
            rhythm.heard(0, second);
            assert!(rhythm.due > second && rhythm.due.since(second) <= PERIOD_MS_MIN);
            rhythm.heard(u64::MAX, second);
            assert!(rhythm.due.since(second) <= PERIOD_MS_MAX);
        }
    }

    #[test]
    fn what_failed_is_tried_again_within_the_grace_and_each_client_at_another_time() {
        let mut rhythm = Rhythm::new(7, At(0));
        rhythm.heard(PERIOD_MS, At(0));
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                rhythm.failed(At(0));
                rhythm.due.0
            })
            .collect();
        for (wait, longest) in waits.iter().zip([1, 2, 4, 8, 15, 15, 15, 15]) {
            assert!((longest * MINUTE_MS / 2..=longest * MINUTE_MS).contains(wait), "{waits:?}");
        }
        rhythm.heard(4_000, At(0));
        rhythm.failed(At(0));
        assert!((500..=1_000).contains(&rhythm.due.0), "a quarter of a short period");
        let mut other = Rhythm::new(8, At(0));
        other.failed(At(0));
        assert_ne!(other.due.0, waits[0]);
    }

    /// A far end that wants to hear from us every second, and tells the test what it heard.
    #[derive(Debug)]
    struct FarEnd(tokio::sync::mpsc::UnboundedSender<Report>);

    #[async_trait::async_trait]
    impl Action for FarEnd {
        async fn deliver(&self, batch: &[Delivery], _: Duration) -> Vec<Result<Receipt, Failure>> {
            batch.iter().map(|_| Ok(Receipt::Sent)).collect()
        }

        async fn check_in(&self, report: &Report, _: Duration) -> Option<Result<Answer, String>> {
            self.0.send(report.clone()).ok()?;
            let router = if report.router.is_some() { "second" } else { "first" };
            Some(Ok(Answer { router: router.into(), period_ms: 1_000, ..Answer::default() }))
        }

        async fn probe(&self, _: Duration) -> Result<String, String> {
            Ok(String::new())
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_far_end_that_wants_to_know_hears_from_us_again_and_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "receivers: [{name: up}]\nroute: {receiver: up}\nserver: {name: ws-1}\njournal: {free_bytes_min: 0B}\n";
        let loaded = config::load_text("f", text, folder.path(), &Overrides::default());
        let loaded = loaded.unwrap_or_else(|wrong| panic!("{}", config::lines(&wrong.found)));
        let storage = Arc::new(Folder::open(folder.path()).expect("free"));
        let recovered = recovered(storage, &loaded.journal, &loaded, Instant::now()).expect("it starts");
        let (inner, _drops) =
            Inner::start(recovered, loaded.journal.clone(), &loaded).await.expect("it runs");
        let task = tokio::spawn(inner.check_ins().run());
        let server = inner.handler.server();
        let site = || Site { server: server.clone(), ..Site::default() };
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let id = ActionId { receiver: "up".into(), kind: "forward".into(), name: "0".into() };
        let ready = Ready {
            action: Arc::new(FarEnd(sender)),
            slots: 1,
            timeout: Duration::from_secs(1),
            max_alerts: 0,
        };
        inner.handler.install(vec![(id, ready)], site());
        let mut next = async || {
            let next = tokio::time::timeout(Duration::from_secs(60), heard.recv()).await;
            next.expect("in time").expect("it goes on")
        };
        let (first, second, third) = (next().await, next().await, next().await);
        assert_eq!((first.server.as_str(), first.version.as_str()), ("ws-1", env!("CARGO_PKG_VERSION")));
        assert!(first.config.len() == HASH_DIGITS && first.incarnation != 0 && first.clock_ms.is_some());
        assert_eq!(
            [&first, &second, &third].map(|said| said.router.as_deref()),
            [None, Some("first"), Some("second")]
        );
        assert_eq!((second.config, second.incarnation), (first.config, first.incarnation));
        // Without the action nobody is told any more.
        inner.handler.install(vec![], site());
        assert!(
            tokio::time::timeout(Duration::from_secs(60), heard.recv())
                .await
                .is_ok_and(|left| left.is_none())
        );
        task.abort();
    }
}
