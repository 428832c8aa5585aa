//! The router's thread: folds flushed records, hands attempts to the handler, keeps the newest decisions, and
//! appends `advanced` when a timer is due and nothing else came.
//!
//! Records come from the journal's thread through a bounded mailbox: when the router is behind, the journal waits,
//! and so do its clients. Questions overtake records, and are answered between steps of at most some milliseconds.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ams2_core::{
    At, Effect, Input, Machine, Position, Record,
    effect::{Decided, Deliver},
    input::{JournalRecord, OwnEvent},
    machine::Step,
};

use ams2_handlers::text;

use crate::{handler::Attempt, poison::Panics};

/// Flushed batches that may wait for the router. A batch is at most what one flush of the journal carries.
const BATCHES_MAX: usize = 64;
/// Questions that may wait; more are refused.
const QUESTIONS_MAX: usize = 1024;
/// Decisions kept in memory for questions, until there is a history.
const DECISIONS_MAX: usize = 10_000;
/// Units of work between two looks at the questions: some milliseconds.
const STEP_BUDGET: u32 = 2_000;
/// Effects that are handed on between two looks at the questions: some milliseconds at most.
const EFFECTS_AT_ONCE: usize = 256;
/// Longest wait for a timer: the wait does not count while the machine sleeps, the journal's clock does.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often to look whether a record is folded.
const FOLDED_LOOK: Duration = Duration::from_millis(2);
/// How long to wait for an appended `advanced` before it is appended again.
const ADVANCE_AGAIN: Duration = Duration::from_secs(1);

/// What the router's thread needs of the journal.
pub trait Append: Send + Sync + 'static {
    /// Appends an input of our own; does not wait for the flush.
    fn keep(&self, input: Input);
    /// The journal's clock.
    fn now(&self) -> At;
}

/// What the router's thread tells others.
pub trait Follow: Send {
    /// An attempt is to be made.
    fn deliver(&mut self, attempt: Attempt);
    /// The config that stands at `position` took effect; called before any attempt that follows from it.
    fn installed(&mut self, position: Position, text: &str);
    /// Something was decided.
    fn decided(&mut self, record: &Record);
}

/// The machine and its newest decisions, as questions see them.
#[derive(Debug, Default)]
pub struct Folded {
    /// The router.
    pub machine: Machine,
    /// The newest decisions, oldest first.
    pub decisions: VecDeque<Arc<Record>>,
    /// Whether what followed from the last record is still being handed on.
    pub(crate) hands_on: bool,
}

/// When a question may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Between two steps, unless a config change is half done.
    Settled,
    /// Between two records.
    Whole,
}

struct Question {
    when: When,
    answer: Box<dyn FnOnce(&Folded) + Send>,
}

impl When {
    fn has_come(self, folded: &Folded) -> bool {
        match self {
            When::Settled => folded.machine.is_settled(),
            When::Whole => folded.machine.is_between_records() && !folded.hands_on,
        }
    }
}

/// A way to the router's thread. Clones lead to the same one.
#[derive(Clone)]
pub struct Router {
    mailbox: Arc<Mailbox>,
}

/// Why a question was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many questions wait.
    #[error("too many questions wait for the router")]
    Busy,
    /// The router has stopped.
    #[error("the router has stopped")]
    Stopped,
}

struct Mailbox {
    state: Mutex<Waiting>,
    /// Something came.
    filled: Condvar,
    /// A batch was taken.
    taken: Condvar,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Vec<JournalRecord>>,
    questions: VecDeque<Question>,
    stop: bool,
    stopped: bool,
}

enum Work {
    Batch(Vec<JournalRecord>),
    Question(Question),
    TimedOut,
    Stop,
}

impl Folded {
    /// Folds a record in recovery: attempts and wake-ups that followed from it are history.
    pub fn recover(&mut self, record: JournalRecord) {
        self.machine.apply_whole(record);
        while let Some(effect) = self.machine.next_effect() {
            if let Effect::Record(record) = effect {
                self.keep(record);
            }
        }
    }

    /// Folds a record with all that follows from it, in steps of about `budget` units of work. `between` is called
    /// between them.
    pub fn fold(
        &mut self,
        record: JournalRecord,
        budget: u32,
        mut between: impl FnMut(&Folded),
        follow: &mut dyn Follow,
    ) {
        let seq = record.seq;
        let installed = match &record.input {
            Input::ConfigInstalled(install) => Some(install.text.clone()),
            Input::Started(started) => started.install.as_ref().map(|install| install.text.clone()),
            _ => None,
        };
        self.machine.apply(record);
        self.hands_on = true;
        loop {
            let step = self.machine.step(budget);
            between(self);
            if step == Step::Done {
                break;
            }
        }
        if let Some(text) = installed {
            follow.installed(Position::arrived(seq), &text);
        }
        let mut handed_on = 0usize;
        while let Some(effect) = self.machine.next_effect() {
            handed_on += 1;
            if handed_on.is_multiple_of(EFFECTS_AT_ONCE) {
                between(self);
            }
            match effect {
                Effect::Deliver(deliver) => {
                    let own_texts = self.own_texts(&deliver);
                    follow.deliver(Attempt { deliver, own_texts });
                }
                Effect::Record(record) => {
                    follow.decided(&record);
                    self.keep(record);
                }
                Effect::Wake(_) => {}
            }
        }
        self.hands_on = false;
    }

    fn own_texts(&self, deliver: &Deliver) -> Vec<(Position, Arc<ams2_core::AlertBatch>)> {
        let noted = deliver.notifications.iter().flat_map(|told| told.alerts.iter());
        noted
            .filter(|noted| noted.position.is_raised())
            .filter_map(|noted| Some((noted.position, self.machine.own_text(noted.position)?)))
            .collect()
    }

    fn keep(&mut self, record: Record) {
        if self.decisions.len() == DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(Arc::new(record));
    }
}

impl Router {
    /// A way to a router that [`Router::start`] will run. Flushed records may wait in it already.
    pub fn new() -> Router {
        let mailbox = Mailbox { state: Mutex::default(), filled: Condvar::new(), taken: Condvar::new() };
        Router { mailbox: Arc::new(mailbox) }
    }

    /// Starts the thread on what recovery folded. A panic at a record is noted in `panics`, and ends the thread.
    pub fn start(
        &self,
        folded: Folded,
        panics: Panics,
        journal: Arc<dyn Append>,
        follow: Box<dyn Follow>,
    ) -> std::io::Result<JoinHandle<()>> {
        let mailbox = self.mailbox.clone();
        std::thread::Builder::new().name("ams2-router".into()).spawn(move || {
            // Whatever ends the thread, nobody waits for it for ever.
            let guard = StoppedOnDrop(mailbox.clone());
            let (queue, turns) = (VecDeque::new(), Turns::new());
            Loop { folded, journal, follow, mailbox, queue, asked_for: None, turns, panics }.run();
            drop(guard);
        })
    }

    /// Hands flushed records over, in order. Waits while the router is behind; `false` once it has stopped.
    pub fn flushed(&self, batch: Vec<JournalRecord>) -> bool {
        let mut state = self.mailbox.lock();
        while state.batches.len() >= BATCHES_MAX && !state.stopped {
            state = self.mailbox.taken.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        if state.stopped {
            return false;
        }
        state.batches.push_back(batch);
        self.mailbox.filled.notify_one();
        true
    }

    /// Asks the router something; the answer comes between two steps of its work.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Folded) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.enter(When::Settled, question).await
    }

    /// Asks something that only a whole state can answer, such as a snapshot; the answer comes between two records.
    pub async fn ask_whole<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Folded) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.enter(When::Whole, question).await
    }

    /// Waits until the record that has this sequence number is folded: questions overtake records.
    pub async fn folded(&self, seq: u64) -> Result<(), Unanswered> {
        while !self.ask_whole(move |folded| folded.machine.next_seq() > seq).await? {
            tokio::time::sleep(FOLDED_LOOK).await;
        }
        Ok(())
    }

    /// Whether the thread has ended, whatever the reason.
    pub fn has_stopped(&self) -> bool {
        self.mailbox.lock().stopped
    }

    async fn enter<T: Send + 'static>(
        &self,
        when: When,
        question: impl FnOnce(&Folded) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (sender, answer) = tokio::sync::oneshot::channel();
        {
            let mut state = self.mailbox.lock();
            if state.stopped {
                return Err(Unanswered::Stopped);
            }
            if state.questions.len() >= QUESTIONS_MAX {
                return Err(Unanswered::Busy);
            }
            // Who asked may have gone away: then nobody misses the answer.
            let answer = Box::new(move |folded: &Folded| drop(sender.send(question(folded))));
            state.questions.push_back(Question { when, answer });
            self.mailbox.filled.notify_one();
        }
        answer.await.map_err(|_| Unanswered::Stopped)
    }

    /// Ends the thread once it has folded what was handed over.
    pub fn stop(&self) {
        self.mailbox.lock().stop = true;
        self.mailbox.filled.notify_one();
    }
}

impl Default for Router {
    fn default() -> Router {
        Router::new()
    }
}

struct StoppedOnDrop(Arc<Mailbox>);

impl Drop for StoppedOnDrop {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stopped = true;
        state.questions.clear();
        self.0.taken.notify_all();
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The next piece of work. `fair`: records first, since a question was answered last; however many questions come,
    /// the router goes on.
    fn take(&self, wait: Option<Duration>, fair: bool) -> Work {
        let mut state = self.lock();
        loop {
            if (!fair || state.batches.is_empty())
                && let Some(question) = state.questions.pop_front()
            {
                return Work::Question(question);
            }
            if let Some(batch) = state.batches.pop_front() {
                // A notification costs a system call even when nobody waits for it.
                if state.batches.len() + 1 >= BATCHES_MAX {
                    self.taken.notify_one();
                }
                return Work::Batch(batch);
            }
            if state.stop {
                return Work::Stop;
            }
            let Some(wait) = wait else {
                state = self.filled.wait(state).unwrap_or_else(|e| e.into_inner());
                continue;
            };
            let (next, timeout) = self.filled.wait_timeout(state, wait).unwrap_or_else(|e| e.into_inner());
            state = next;
            let idle = state.questions.is_empty() && state.batches.is_empty() && !state.stop;
            if timeout.timed_out() && idle {
                return Work::TimedOut;
            }
        }
    }

    /// The first question that may be answered between two steps: one that waits for the record's end holds up no other.
    fn question(&self, folded: &Folded) -> Option<Question> {
        let questions = &mut self.lock().questions;
        let place = questions.iter().position(|question| question.when.has_come(folded))?;
        questions.remove(place)
    }
}

struct Loop {
    folded: Folded,
    journal: Arc<dyn Append>,
    follow: Box<dyn Follow>,
    mailbox: Arc<Mailbox>,
    queue: VecDeque<JournalRecord>,
    /// The due time that an `advanced` was appended for.
    asked_for: Option<At>,
    turns: Turns,
    panics: Panics,
}

impl Loop {
    fn run(&mut self) {
        loop {
            while let Some(record) = self.queue.pop_front() {
                self.fold(record);
            }
            self.advance_if_due();
            let wait = self.wait();
            match self.mailbox.take(wait, self.turns.is_resting()) {
                Work::Batch(batch) => self.queue.extend(batch),
                Work::Question(question) => self.turns.answer(question, &self.folded),
                Work::TimedOut => self.advance_again(),
                Work::Stop => return,
            }
        }
    }

    /// How long until the earliest timer is due; `None` without one.
    fn wait(&mut self) -> Option<Duration> {
        let due = self.folded.machine.next_due();
        if due == At::NEVER {
            return None;
        }
        if self.asked_for == Some(due) {
            return Some(ADVANCE_AGAIN);
        }
        Some(Duration::from_millis(due.since(self.journal.now())).min(WAIT_MAX))
    }

    /// Appends an `advanced` for a timer that is due, once.
    fn advance_if_due(&mut self) {
        let due = self.folded.machine.next_due();
        if due != At::NEVER && self.asked_for != Some(due) && due <= self.journal.now() {
            self.asked_for = Some(due);
            self.journal.keep(Input::Advanced);
        }
    }

    /// The same, though it was appended before: it may not have been kept.
    fn advance_again(&mut self) {
        self.asked_for = None;
        self.advance_if_due();
    }

    fn fold(&mut self, record: JournalRecord) {
        let Loop { folded, follow, mailbox, turns, panics, .. } = self;
        let answer = |folded: &Folded| {
            if !turns.is_resting()
                && let Some(question) = mailbox.question(folded)
            {
                turns.answer(question, folded);
            }
        };
        // The number that the next start finds it by.
        let noted = JournalRecord { input: record.input.clone(), ..record };
        let fold = || folded.fold(record, STEP_BUDGET, answer, &mut **follow);
        match panics.watch(&noted, fold) {
            Ok(true) => {}
            Ok(false) => {
                let what = format!("the record {} is left out: the router panicked at it", noted.seq);
                self.journal.keep(Input::Own(OwnEvent::JournalDamaged { what }));
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Takes turns between records and questions: after a question as much time is left to records as it took, so that
/// those who ask never stop those who are to be told.
struct Turns {
    rest_until: Instant,
}

impl Turns {
    fn new() -> Turns {
        Turns { rest_until: Instant::now() }
    }

    fn is_resting(&self) -> bool {
        Instant::now() < self.rest_until
    }

    fn answer(&mut self, question: Question, folded: &Folded) {
        let began = Instant::now();
        (question.answer)(folded);
        let ended = Instant::now();
        self.rest_until = ended + (ended - began);
    }
}

/// Says a decision in the log, if it is worth a line to those who watch. Words of far ends stay on that line.
pub fn log(record: &Record) {
    match &record.what {
        Decided::DeadLetter { delivery, action, reason } => {
            let reason = reason.to_string();
            let reason = text::one_line(&reason);
            tracing::error!(%delivery, %action, %reason, "delivery given up, kept as dead letter");
        }
        Decided::Breaker { action, open: true } => {
            tracing::warn!(%action, "far end fails, probing with one delivery at a time");
        }
        Decided::Breaker { action, open: false } => tracing::info!(%action, "far end is back"),
        Decided::WallClock { moved_ms } if moved_ms.abs() >= 2_000 => {
            tracing::warn!(moved_ms, "the wall clock was set");
        }
        Decided::Config { position, by } => {
            tracing::info!(sequence = %position, by = %text::one_line(by), "configuration in force");
        }
        Decided::Process { started: true, unknown_outcomes } => {
            tracing::info!(deliveries_tried_again = unknown_outcomes, "started");
        }
        Decided::ClientCount { count, advised, is_over: true } => {
            tracing::warn!(count, advised, "more clients check in than advised");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::simulated::SimulatedDisk;
    use std::sync::mpsc;

    struct Clock(Mutex<(u64, Vec<Input>)>);

    impl Append for Clock {
        fn keep(&self, input: Input) {
            self.0.lock().expect("no panic").1.push(input);
        }
        fn now(&self) -> At {
            At(self.0.lock().expect("no panic").0)
        }
    }

    struct Watch(mpsc::Sender<Record>);

    impl Follow for Watch {
        fn deliver(&mut self, _: Attempt) {}
        fn installed(&mut self, _: Position, _: &str) {}
        fn decided(&mut self, record: &Record) {
            self.0.send(record.clone()).expect("the test listens");
        }
    }

    fn no_panics() -> Panics {
        Panics::read(Arc::new(SimulatedDisk::new(1)), 1).expect("an empty disk")
    }

    fn started(seq: u64) -> JournalRecord {
        let started = ams2_core::input::Started {
            incarnation: 1,
            seed: [1, 2],
            wall_offset_ms: 0,
            version: "test".into(),
            damage: vec![],
            install: None,
        };
        JournalRecord { seq, at: At(0), input: Input::Started(started) }
    }

    #[tokio::test]
    async fn questions_are_answered_and_an_overdue_timer_appends_advanced() {
        let router = Router::new();
        let clock = Arc::new(Clock(Mutex::new((0, vec![]))));
        let (sender, decided) = mpsc::channel();
        let thread = router
            .start(Folded::default(), no_panics(), clock.clone(), Box::new(Watch(sender)))
            .expect("a thread");
        assert!(router.flushed(vec![started(1)]));
        decided.recv().expect("the start is decided");
        let next = router.ask(|folded| folded.machine.next_seq()).await.expect("an answer");
        assert_eq!(next, 2);
        // The own alert about the start times out after five minutes.
        clock.0.lock().expect("no panic").0 = 10_000_000;
        router.ask(|_| ()).await.expect("an answer");
        let deadline = Instant::now() + Duration::from_secs(10);
        while clock.0.lock().expect("no panic").1.is_empty() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.0.lock().expect("no panic").1, [Input::Advanced]);
        router.stop();
        thread.join().expect("no panic");
        assert_eq!(router.ask(|_| ()).await, Err(Unanswered::Stopped));
        assert!(!router.flushed(vec![]), "nobody waits for a router that has stopped");
    }
    /// A part of the program with a fault.
    struct Faulty;

    impl Follow for Faulty {
        fn deliver(&mut self, _: Attempt) {}
        fn installed(&mut self, _: Position, _: &str) {}
        fn decided(&mut self, _: &Record) {
            panic!("a fault of the program, made for this test");
        }
    }

    #[test]
    fn a_question_that_waits_for_the_end_of_a_record_holds_up_no_other() {
        let router = Router::new();
        let (sender, answers) = mpsc::channel();
        let question = |when: When| {
            let sender = sender.clone();
            Question { when, answer: Box::new(move |_| sender.send(when).expect("the test listens")) }
        };
        router.mailbox.lock().questions.extend([When::Whole, When::Settled].map(question));
        let mut folded = Folded::default();
        folded.machine.apply(started(1));
        let answer = |folded: &Folded| {
            let found = router.mailbox.question(folded).expect("one whose time has come");
            (found.answer)(folded);
            answers.recv().expect("an answer")
        };
        assert_eq!(answer(&folded), When::Settled);
        assert!(router.mailbox.question(&folded).is_none());
        while folded.machine.step(1_000) == Step::More {}
        assert_eq!(answer(&folded), When::Whole);
    }

    #[test]
    fn questions_are_answered_while_what_followed_is_handed_on() {
        let mut folded = Folded::default();
        let (sender, decided) = mpsc::channel();
        let mut follow = Watch(sender);
        folded.fold(started(1), STEP_BUDGET, |_| {}, &mut follow);
        let mut builder = ams2_core::BatchBuilder::default();
        for number in 0..2_000 {
            builder.label("host", &format!("{number}"));
            builder.finish_alert(Default::default(), None, None).expect("valid");
        }
        let arrival = ams2_core::input::Arrival { client: "test".into(), batch: builder.finish().into() };
        let record = JournalRecord { seq: 2, at: At(1), input: Input::Alerts(arrival) };
        let looks = std::cell::RefCell::new(Vec::new());
        let before = decided.try_iter().count();
        assert!(before > 0);
        let between = |folded: &Folded| {
            let whole = When::Whole.has_come(folded);
            looks.borrow_mut().push((decided.try_iter().count(), whole));
        };
        folded.fold(record, STEP_BUDGET, between, &mut follow);
        let looks = looks.into_inner();
        assert!(looks.iter().all(|(handed_on, _)| *handed_on <= EFFECTS_AT_ONCE), "{looks:?}");
        assert!(looks.iter().filter(|(handed_on, _)| *handed_on > 0).count() >= 7, "{looks:?}");
        assert!(looks.iter().all(|(_, whole)| !whole), "the record is not over before all know of it");
        assert!(When::Whole.has_come(&folded));
    }

    #[test]
    fn a_panic_of_the_running_router_is_noted_with_its_record() {
        let disk = Arc::new(SimulatedDisk::new(1));
        for times in 1..=3 {
            let panics = Panics::read(disk.clone(), 1).expect("readable");
            assert!(!panics.sets_aside(7), "{times}");
            let (router, clock) = (Router::new(), Arc::new(Clock(Mutex::new((0, vec![])))));
            let thread = router.start(Folded::default(), panics, clock, Box::new(Faulty)).expect("a thread");
            router.flushed(vec![started(7)]);
            assert!(thread.join().is_err(), "it ends as before");
        }
        assert!(Panics::read(disk, 1).expect("readable").sets_aside(7));
    }
}
