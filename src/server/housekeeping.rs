//! What runs beside the router: snapshots behind it, and old segments that go once nothing needs them.

use std::{
    io,
    sync::mpsc,
    time::{Duration, Instant},
};

use ams2_core::{Input, machine::Search};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    journal::{Journal, JournalReader, SnapshotWriter},
    poison::Panics,
    router::{Router, Unanswered},
    upkeep::{self, NotMade},
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
/// One that could not be made is tried again after this: a disk that is full will not have room in a moment.
const SNAPSHOT_AGAIN: Duration = Duration::from_secs(30);
/// How often the snapshot thread looks.
const SNAPSHOT_LOOK: Duration = Duration::from_secs(2);
/// Rows that a search for needed texts looks through at once: well below a millisecond of the router's time.
const SEARCH_ROWS: u32 = 8_192;

/// What the thread that makes snapshots works with.
pub(super) struct Beside {
    pub journal: Journal,
    pub router: Router,
    pub reader: JournalReader,
    pub snapshots: SnapshotWriter,
    pub panics: Panics,
}

impl Beside {
    /// Tells the journal what may go: what every snapshot covers that a start may fall back on.
    fn report_covered(&self) {
        match self.snapshots.covered() {
            Ok(covered) => self.journal.covered(covered),
            Err(error) => tracing::warn!(%error, "old segments stay: the snapshots cannot be read"),
        }
    }

    /// Whether room is scarce, and snapshots would let some of the journal go.
    fn would_make_room(&self) -> bool {
        self.journal.is_pressed() && self.reader.segments_behind(self.journal.covered_seq()) > 1
    }

    /// A snapshot of the live state, where what one behind it is made of has rotted: what comes behind this one can be folded
    /// again. Who sends alerts waits for it this once.
    fn of_live_state(&self, runtime: &Handle, why: &str) -> Result<u64, NotMade> {
        tracing::error!(why, "the journal has rotted: a snapshot of the live state covers that");
        let failed = |error: String| NotMade::Failed(error);
        let state =
            self.router.ask_whole(|folded| (folded.machine.next_seq() - 1, folded.machine.snapshot()));
        let (covers, body) = runtime.block_on(state).map_err(|error| failed(error.to_string()))?;
        self.snapshots.write(covers, &body).map_err(|error| failed(error.to_string()))?;
        self.journal.note_damage(why);
        Ok(covers)
    }
}

/// The thread that makes snapshots: a second fold, behind the live one, so that nobody waits for it.
pub(super) struct SnapshotThread {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl SnapshotThread {
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn stop(&self) {
        // A thread that has ended needs no word.
        let _ = self.stop.send(());
    }
}

pub(super) fn snapshot_thread(beside: Beside, covered: u64, runtime: Handle) -> io::Result<SnapshotThread> {
    let (stop, stopped) = mpsc::channel();
    let thread = std::thread::Builder::new().name("ams2-snapshot".into()).spawn(move || {
        beside.report_covered();
        let (mut covered, mut rest_until) = (covered, Instant::now());
        // The first look comes at once: a process that is killed again and again must get there, too.
        let mut wait = Duration::ZERO;
        while stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
            wait = SNAPSHOT_LOOK;
            let Beside { journal, reader, snapshots, panics, .. } = &beside;
            for what in reader.take_damage() {
                journal.note_damage(&what);
            }
            let flushed = journal.flushed_seq();
            let many = flushed > covered && reader.segments_behind(covered) > SNAPSHOT_SEGMENTS;
            let makes_room = beside.would_make_room();
            if !many && !makes_room && flushed < covered + SNAPSHOT_EVERY || Instant::now() < rest_until {
                continue;
            }
            if flushed <= covered {
                // Two snapshots let segments go: the second needs something to cover.
                if let Err(error) = journal.keep(Input::Advanced) {
                    tracing::debug!(%error, "no snapshot makes room");
                }
                continue;
            }
            let nice = if makes_room || flushed >= covered + SNAPSHOT_LATE { 0 } else { SNAPSHOT_NICE };
            let make = || match upkeep::snapshot_behind(reader, snapshots, panics, covered, flushed) {
                Err(NotMade::Damaged(why)) => beside.of_live_state(&runtime, &why),
                made => made,
            };
            let (made, processor) = stepping_back(nice, make);
            rest_until = Instant::now() + processor * SNAPSHOT_REST;
            match made {
                Ok(now) => {
                    covered = now;
                    beside.report_covered();
                }
                Err(error) => {
                    tracing::error!(%error, "no snapshot was made; restarts take longer until one is");
                    rest_until = rest_until.max(Instant::now() + SNAPSHOT_AGAIN);
                }
            }
        }
    })?;
    Ok(SnapshotThread { stop, thread })
}

/// Does some work in a thread of its own, which lets others go first by so much: a thread that has stepped back cannot
/// come forward again. Answers also the processor time that it took.
fn stepping_back<T: Send>(
    nice: i32,
    work: impl FnOnce() -> Result<T, NotMade> + Send,
) -> (Result<T, NotMade>, Duration) {
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
            Err(error) => (Err(NotMade::Failed(error.to_string())), Duration::ZERO),
        }
    })
}

/// Lets old segments go, once what is still needed from them is written again.
pub(super) async fn keeper(
    drops: mpsc::Receiver<u64>,
    router: Router,
    journal: Journal,
    reader: JournalReader,
    stopped: watch::Receiver<bool>,
) {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    // Said once, and again when it changes: the reason lasts for hours on a full disk.
    let mut said = None;
    while !*stopped.borrow() {
        look.tick().await;
        let Ok(keep_from) = drops.try_recv() else { continue };
        let carried = carry(&router, &journal, &reader, keep_from).await;
        match (carried.err(), &said) {
            (Some(error), said) if said.as_ref() == Some(&error) => {}
            (Some(error), _) => {
                tracing::warn!(
                    error,
                    "old segments stay: what is needed from them cannot be carried forward"
                );
                said = Some(error);
            }
            (None, Some(_)) => {
                tracing::info!("what is needed from old segments is carried forward again");
                said = None;
            }
            (None, None) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steps_back_does_so_alone_and_its_processor_time_counts() {
        let failed = |words: String| NotMade::Failed(words);
        let priority =
            || rustix::process::getpriority_process(None).map_err(|error| failed(error.to_string()));
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
        let (made, _) = stepping_back(0, || Err::<(), _>(failed("no disk".into())));
        assert_eq!(made, Err(failed("no disk".into())));
    }
}
