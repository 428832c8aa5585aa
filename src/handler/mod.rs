//! The handler: runs deliveries. One worker an action, with slots, a queue and a deadline of its own; nothing is
//! shared between actions, so a far end that hangs for an hour holds up nobody else.
//!
//! The router decides what is attempted and when; an outcome goes back to it through the journal. The queue of an
//! action is bounded by the router: an attempt is under way from when it is handed over until its outcome is folded, and of
//! an action at most `max_in_flight` times `batch_max` are at once, in the queue, in calls and in outcomes together (`cap`
//! in the core). After a reload that lowers them, what was under way by then may wait, too.

mod texts;

#[cfg(test)]
use texts::SURVEYED_MAX;
pub(crate) use texts::delivery;
pub use texts::{StoredAlert, TextError, Texts};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, RwLock},
    time::{Duration, Instant},
};

use ams2_core::{
    AlertBatch, Position,
    config::ActionId,
    effect::Deliver,
    input::{Failure, MEMO_BYTES_MAX, Outcome, REPLY_BYTES_MAX, Receipt, Recipient},
};
use ams2_handlers::{Action, Delivery};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::pool::Pool;

/// What an action may take over its own deadline before it is cut off.
const DEADLINE_GRACE: Duration = ams2_handlers::CLEANUP_MAX.saturating_add(Duration::from_secs(1));
/// How long a test may take, whatever the action's own timeout. With [`DEADLINE_GRACE`] that is less than the 30 s that
/// `ams2 action test` listens unless told otherwise.
const TEST_TIME_MAX: Duration = Duration::from_secs(15);

/// Alerts that end a batch early: their texts are in memory at once, a kilobyte or two each.
const BATCH_ALERTS: usize = 2_000;

/// An attempt, with the texts of own alerts, which only the router has.
#[derive(Debug)]
pub struct Attempt {
    /// What the router said.
    pub deliver: Box<Deliver>,
    /// Texts of own alerts in it.
    pub own_texts: Vec<(Position, Arc<AlertBatch>)>,
}

/// One action of the config in force, ready to act.
#[derive(Clone)]
pub struct Ready {
    /// The action.
    pub action: Arc<dyn Action>,
    /// Attempts (calls) under way at once.
    pub slots: usize,
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// Most alerts that a delivery carries to the action; 0 means all.
    pub max_alerts: usize,
}

/// What the config says of this site, and every text may show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Where this server's console is seen from outside; may be empty.
    pub external_url: smol_str::SmolStr,
    /// Which severity words have which rank.
    pub severities: ams2_core::Severities,
    /// What this server is to others.
    pub server: ams2_handlers::Server,
}

/// An action as a former config worded it.
pub struct Worded {
    /// The action: its texts are the former config's, all else as in force.
    pub action: Arc<dyn Action>,
    /// Most alerts that a delivery carries to it; 0 means all.
    pub max_alerts: usize,
    /// What the former config said of the site.
    pub site: Arc<Site>,
}

/// Knows how former configs had things said.
pub trait Former: Send + Sync {
    /// The action as the config at `version` worded it; `None` if that is how it is in force. May read the journal.
    fn action(&self, id: &ActionId, version: Position) -> Option<Arc<Worded>>;
}

/// Where outcomes go: into the journal.
pub type Outcomes = Arc<dyn Fn(Outcome) + Send + Sync>;

/// Runs deliveries.
pub struct Handler {
    workers: RwLock<HashMap<ActionId, Worker>>,
    shared: Arc<Shared>,
    /// Told of each config that is put in force.
    installed: watch::Sender<()>,
}

struct Shared {
    texts: Arc<dyn Texts>,
    former: Arc<dyn Former>,
    outcomes: Outcomes,
    site: RwLock<Arc<Site>>,
    runtime: tokio::runtime::Handle,
    /// Reads texts: for no other work.
    text_readers: Pool,
}

struct Worker {
    queue: mpsc::UnboundedSender<Attempt>,
    ready: Arc<Mutex<Ready>>,
    slots: Slots,
}

/// How many calls of an action may be under way, which a config may change while some are. Clones are the same ones.
#[derive(Clone)]
struct Slots {
    free: Arc<Semaphore>,
    count: Arc<Mutex<Count>>,
}

struct Count {
    /// How many there are to be.
    wanted: usize,
    /// How many are to go when their call ends.
    too_many: usize,
}

/// A slot that is taken, until this goes.
struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Slots,
}

impl Slots {
    fn new(wanted: usize) -> Slots {
        let count = Arc::new(Mutex::new(Count { wanted, too_many: 0 }));
        Slots { free: Arc::new(Semaphore::new(wanted)), count }
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// From now on there are so many. Calls under way keep theirs: what is too many goes with them.
    fn set(&self, wanted: usize) {
        let mut count = self.count();
        let more = wanted.saturating_sub(count.wanted);
        let kept = more.min(count.too_many);
        count.too_many -= kept;
        self.free.add_permits(more - kept);
        let fewer = count.wanted.saturating_sub(wanted);
        count.too_many += fewer - self.free.forget_permits(fewer);
        count.wanted = wanted;
    }

    /// Waits for a free one; `None` only when the runtime ends.
    async fn take(&self) -> Option<Slot> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(Slot { permit: Some(permit), slots: self.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut count = self.slots.count();
        if count.too_many > 0
            && let Some(permit) = self.permit.take()
        {
            count.too_many -= 1;
            permit.forget();
        }
    }
}

impl Handler {
    /// A handler without actions yet. `text_readers` are to read texts.
    pub fn new(
        texts: Arc<dyn Texts>,
        former: Arc<dyn Former>,
        outcomes: Outcomes,
        runtime: tokio::runtime::Handle,
        text_readers: Pool,
    ) -> Handler {
        let shared = Shared { texts, former, outcomes, site: RwLock::default(), runtime, text_readers };
        let installed = watch::Sender::new(());
        Handler { workers: RwLock::default(), shared: Arc::new(shared), installed }
    }

    /// Puts the actions of a config in force. Attempts under way end as they began; workers of actions that are
    /// gone end with their queue.
    pub fn install(&self, actions: Vec<(ActionId, Ready)>, site: Site) {
        *self.shared.site.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(site);
        let mut workers = self.workers.write().unwrap_or_else(|e| e.into_inner());
        let mut old = std::mem::take(&mut *workers);
        for (id, ready) in actions {
            let worker = match old.remove(&id) {
                Some(worker) => {
                    worker.slots.set(ready.slots);
                    *worker.ready.lock().unwrap_or_else(|e| e.into_inner()) = ready;
                    worker
                }
                None => self.start_worker(ready),
            };
            workers.insert(id, worker);
        }
        drop(workers);
        self.installed.send_replace(());
    }

    /// Marks each config that is put in force from now on.
    pub fn installed(&self) -> watch::Receiver<()> {
        self.installed.subscribe()
    }

    /// What this server is to others, by the config in force.
    pub fn server(&self) -> ams2_handlers::Server {
        self.shared.site.read().unwrap_or_else(|e| e.into_inner()).server.clone()
    }

    /// The actions of the config in force.
    pub fn actions(&self) -> Vec<ActionId> {
        self.workers.read().unwrap_or_else(|e| e.into_inner()).keys().cloned().collect()
    }

    /// An action of the config in force.
    pub fn ready(&self, id: &ActionId) -> Option<Ready> {
        let workers = self.workers.read().unwrap_or_else(|e| e.into_inner());
        workers.get(id).map(|worker| worker.ready.lock().unwrap_or_else(|e| e.into_inner()).clone())
    }

    /// Makes an attempt. Its outcome goes to the journal, whatever the action does. There is none if the process ends, or if its
    /// runtime has ended and takes no attempt any more: the next start makes the attempt again.
    pub fn submit(&self, attempt: Attempt) {
        let workers = self.workers.read().unwrap_or_else(|e| e.into_inner());
        match workers.get(&attempt.deliver.action) {
            // A worker lives as long as its action, unless the runtime is gone.
            Some(worker) => drop(worker.queue.send(attempt)),
            None => {
                let failure = Failure::transient("the config in force has no such action");
                (self.shared.outcomes)(outcome(&attempt.deliver, Err(failure), Instant::now(), true));
            }
        }
    }

    /// Makes one attempt with a made-up alert that says it is a test, when a slot of the action is free; `None` if there is
    /// no such action.
    pub async fn test(&self, id: &ActionId) -> Option<Result<Receipt, Failure>> {
        let (ready, slots) = {
            let workers = self.workers.read().unwrap_or_else(|e| e.into_inner());
            let worker = workers.get(id)?;
            (worker.ready.lock().unwrap_or_else(|e| e.into_inner()).clone(), worker.slots.clone())
        };
        let site = self.shared.site.read().unwrap_or_else(|e| e.into_inner()).clone();
        let timeout = ready.timeout.min(TEST_TIME_MAX);
        let end = tokio::time::Instant::now() + timeout;
        let slot = tokio::time::timeout_at(end, slots.take()).await;
        let Ok(Some(_slot)) = slot else {
            return Some(Err(Failure::transient("every slot of the action is taken by other attempts")));
        };
        let delivery = match texts::test_delivery(id, &site) {
            Ok(delivery) => delivery,
            Err(error) => return Some(Err(Failure::transient(error.to_string()))),
        };
        let call = ready.action.deliver(std::slice::from_ref(&delivery), end - tokio::time::Instant::now());
        let answer = tokio::time::timeout_at(end + DEADLINE_GRACE, call).await;
        let silence = || Failure::transient(format!("no answer within {timeout:?}"));
        Some(match answer {
            Ok(mut results) => results.pop().unwrap_or_else(|| Err(silence())).map(bounded),
            Err(_) => Err(silence()),
        })
    }

    fn start_worker(&self, ready: Ready) -> Worker {
        // At most `max_in_flight` times `batch_max` attempts are in it: see the module's head. A bound of its own would have the
        // router wait for an action, or an attempt without an outcome.
        let (queue, attempts) = mpsc::unbounded_channel();
        let slots = Slots::new(ready.slots);
        let ready = Arc::new(Mutex::new(ready));
        self.shared.runtime.spawn(run(attempts, ready.clone(), slots.clone(), self.shared.clone()));
        Worker { queue, ready, slots }
    }
}

/// One action's worker: takes what waits, up to a batch, and starts a call when a slot is free.
async fn run(
    mut attempts: mpsc::UnboundedReceiver<Attempt>,
    ready: Arc<Mutex<Ready>>,
    slots: Slots,
    shared: Arc<Shared>,
) {
    let mut next = None;
    loop {
        let mut batch = match next.take() {
            Some(batch) => batch,
            None => match attempts.recv().await {
                Some(first) => with_followers(first, &mut attempts).await,
                None => return,
            },
        };
        let Some(slot) = slots.take().await else { return };
        let ready = ready.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let version = version(&batch[0]);
        let mut count: usize = batch.iter().map(alerts).sum();
        while batch.len() < ready.action.batch_max()
            && count < BATCH_ALERTS
            && let Ok(attempt) = attempts.try_recv()
        {
            let more = with_followers(attempt, &mut attempts).await;
            // One call speaks in the words of one config, and what goes into one call is not torn apart.
            if self::version(&more[0]) != version || batch.len() + more.len() > ready.action.batch_max() {
                next = Some(more);
                break;
            }
            count += more.iter().map(alerts).sum::<usize>();
            batch.extend(more);
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            call(batch, ready, shared).await;
            drop(slot);
        });
    }
}

/// An attempt and those that go into the same call behind it. The router submits them in one go: they are there, or come
/// at once.
async fn with_followers(first: Attempt, attempts: &mut mpsc::UnboundedReceiver<Attempt>) -> Vec<Attempt> {
    let mut batch = vec![first];
    while batch.last().is_some_and(|last| last.deliver.goes_on)
        && let Some(attempt) = attempts.recv().await
    {
        batch.push(attempt);
    }
    batch
}

fn alerts(attempt: &Attempt) -> usize {
    attempt.deliver.notifications.iter().map(|told| told.alerts.len()).sum()
}

/// Where the config stands whose words an attempt is told in: for a digest the newest of those that decided its parts.
fn version(attempt: &Attempt) -> Position {
    attempt.deliver.notifications.iter().map(|told| told.config).max().unwrap_or_default()
}

/// One call of an action: reads the texts, makes the attempts, and hands the outcomes over.
async fn call(batch: Vec<Attempt>, ready: Ready, shared: Arc<Shared>) {
    let started = Instant::now();
    let site = shared.site.read().unwrap_or_else(|e| e.into_inner()).clone();
    let (texts, former, batch) = (shared.texts.clone(), shared.former.clone(), Arc::new(batch));
    let (to_read, in_force) = (batch.clone(), (ready.action, ready.max_alerts, site));
    // Reading may wait for a disk: not on a thread that answers clients.
    let read = shared.text_readers.run(move || {
        let first = &to_read[0];
        let (action, max_alerts, site) = match former.action(&first.deliver.action, version(first)) {
            Some(worded) => (worded.action.clone(), worded.max_alerts, worded.site.clone()),
            None => in_force,
        };
        let read = |attempt| delivery(attempt, &*texts, max_alerts, &site);
        (action, to_read.iter().map(read).collect::<Vec<_>>())
    });
    let (action, read) = match read.await {
        Ok(read) => read,
        Err(error) => {
            let failure = Failure::transient(format!("reading the texts failed: {error}"));
            for attempt in batch.iter() {
                (shared.outcomes)(outcome(&attempt.deliver, Err(failure.clone()), started, false));
            }
            return;
        }
    };
    let mut deliveries: Vec<Delivery> = Vec::with_capacity(batch.len());
    let mut attempts = Vec::with_capacity(batch.len());
    let mut waits_for_unreadable = false;
    for (attempt, read) in batch.iter().zip(read) {
        let failure = match read {
            Ok(delivery) if !waits_for_unreadable => {
                deliveries.push(delivery);
                attempts.push(attempt);
                continue;
            }
            Ok(_) => "what is to be told before it cannot be read".to_owned(),
            Err(error) => format!("the alerts' texts cannot be read: {error}"),
        };
        waits_for_unreadable = attempt.deliver.goes_on;
        // That says nothing of the far end.
        (shared.outcomes)(outcome(&attempt.deliver, Err(Failure::transient(failure)), started, false));
    }
    if deliveries.is_empty() {
        return;
    }
    let timeout = ready.timeout;
    // A task of its own: a panic in an action is that call's failure and nobody else's.
    let call = tokio::spawn(async move {
        let results =
            tokio::time::timeout(timeout + DEADLINE_GRACE, action.deliver(&deliveries, timeout)).await;
        (results, deliveries.len())
    });
    let results = match call.await {
        Ok((Ok(results), count)) if results.len() == count => results,
        Ok((Ok(results), count)) => {
            let words = format!("the action answered {} of {count} deliveries", results.len());
            vec![Err(Failure::transient(words)); count]
        }
        Ok((Err(_), count)) => vec![Err(Failure::transient(format!("no answer within {timeout:?}"))); count],
        Err(error) => vec![Err(Failure::transient(format!("the action failed: {error}"))); attempts.len()],
    };
    for (number, (attempt, result)) in attempts.iter().zip(results).enumerate() {
        let result = result.map(bounded).map_err(bounded_failure);
        (shared.outcomes)(outcome(&attempt.deliver, result, started, number == 0));
    }
}

/// `led`: whether it was the first of its call.
fn outcome(deliver: &Deliver, result: Result<Receipt, Failure>, started: Instant, led: bool) -> Outcome {
    let took_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
    Outcome { delivery: deliver.delivery, attempt: deliver.attempt, result, took_ms, led }
}

/// A far end's words, cut to what the journal keeps.
fn bounded(receipt: Receipt) -> Receipt {
    match receipt {
        Receipt::Delivered { reply, memo, unfinished, refused } => Receipt::Delivered {
            reply: cut(reply),
            memo: memo.filter(|memo| {
                let fits = memo.len() <= MEMO_BYTES_MAX;
                if !fits {
                    tracing::warn!(bytes = memo.len(), "a memo is too long to be kept");
                }
                // Half of a key is none.
                fits
            }),
            unfinished,
            refused: bounded_words(refused),
        },
        Receipt::Partial { failure, unfinished, refused } => Receipt::Partial {
            failure: bounded_failure(failure),
            unfinished,
            refused: bounded_words(refused),
        },
        Receipt::Sent => Receipt::Sent,
    }
}

fn bounded_words(refused: Vec<(Recipient, String)>) -> Vec<(Recipient, String)> {
    refused.into_iter().map(|(recipient, words)| (recipient, cut(words))).collect()
}

fn bounded_failure(failure: Failure) -> Failure {
    Failure { reason: cut(failure.reason), ..failure }
}

fn cut(mut words: String) -> String {
    if words.len() > REPLY_BYTES_MAX {
        let end = (0..=REPLY_BYTES_MAX).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
        words.truncate(end);
    }
    words
}

#[cfg(test)]
mod tests;
