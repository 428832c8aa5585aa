//! The handler: runs deliveries. One worker an action, with slots, a queue and a deadline of its own; nothing is
//! shared between actions, so a far end that hangs for an hour holds up nobody else.
//!
//! The router decides what is attempted and when; an outcome goes back to it through the journal. The queue of an
//! action is bounded by the router, which never has more attempts under way than the action's slots.

mod texts;

pub use texts::{StoredAlert, TextError, Texts};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

use ams2_core::{
    AlertBatch, Position,
    config::ActionId,
    effect::Deliver,
    input::{Failure, Outcome, REPLY_BYTES_MAX, Receipt},
};
use ams2_handlers::{Action, Delivery};
use tokio::sync::{Semaphore, mpsc};

/// What an action may take over its own deadline before it is cut off.
const DEADLINE_GRACE: Duration = ams2_handlers::CLEANUP_MAX.saturating_add(Duration::from_secs(1));

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
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Where this server's console is seen from outside; may be empty.
    pub external_url: smol_str::SmolStr,
    /// Which severity words have which rank.
    pub severities: ams2_core::Severities,
}

/// Where outcomes go: into the journal.
pub type Outcomes = Arc<dyn Fn(Outcome) + Send + Sync>;

/// Runs deliveries.
pub struct Handler {
    workers: RwLock<HashMap<ActionId, Worker>>,
    shared: Arc<Shared>,
}

struct Shared {
    texts: Arc<dyn Texts>,
    outcomes: Outcomes,
    site: RwLock<Arc<Site>>,
    runtime: tokio::runtime::Handle,
}

struct Worker {
    queue: mpsc::UnboundedSender<Attempt>,
    ready: Arc<Mutex<Ready>>,
    slots: Arc<Semaphore>,
    slot_count: usize,
}

impl Handler {
    /// A handler without actions yet.
    pub fn new(texts: Arc<dyn Texts>, outcomes: Outcomes, runtime: tokio::runtime::Handle) -> Handler {
        let shared = Shared { texts, outcomes, site: RwLock::default(), runtime };
        Handler { workers: RwLock::default(), shared: Arc::new(shared) }
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
                    let more = ready.slots.saturating_sub(worker.slot_count);
                    worker.slots.add_permits(more);
                    let slot_count = worker.slot_count.max(ready.slots);
                    *worker.ready.lock().unwrap_or_else(|e| e.into_inner()) = ready;
                    Worker { slot_count, ..worker }
                }
                None => self.start_worker(ready),
            };
            workers.insert(id, worker);
        }
    }

    /// Makes an attempt. Its outcome goes to the journal, whatever happens.
    pub fn submit(&self, attempt: Attempt) {
        let workers = self.workers.read().unwrap_or_else(|e| e.into_inner());
        let refused = match workers.get(&attempt.deliver.action) {
            Some(worker) => worker.queue.send(attempt).err().map(|refused| refused.0),
            None => Some(attempt),
        };
        if let Some(attempt) = refused {
            let failure = Failure::permanent("the config in force has no such action");
            (self.shared.outcomes)(outcome(&attempt.deliver, Err(failure), Instant::now()));
        }
    }

    /// Makes one attempt with a made-up alert that says it is a test, outside any slot; `None` if there is no such
    /// action.
    pub async fn test(&self, id: &ActionId) -> Option<Result<Receipt, Failure>> {
        let ready = {
            let workers = self.workers.read().unwrap_or_else(|e| e.into_inner());
            workers.get(id)?.ready.lock().unwrap_or_else(|e| e.into_inner()).clone()
        };
        let url = self.shared.site.read().unwrap_or_else(|e| e.into_inner()).external_url.clone();
        let delivery = texts::test_delivery(id, url);
        let timeout = ready.timeout;
        let call = ready.action.deliver(std::slice::from_ref(&delivery), timeout);
        let answer = tokio::time::timeout(timeout + DEADLINE_GRACE, call).await;
        let silence = || Failure::transient(format!("no answer within {timeout:?}"));
        Some(match answer {
            Ok(mut results) => results.pop().unwrap_or_else(|| Err(silence())).map(bounded),
            Err(_) => Err(silence()),
        })
    }

    fn start_worker(&self, ready: Ready) -> Worker {
        // The router bounds the queue: see the module's head.
        let (queue, attempts) = mpsc::unbounded_channel();
        let slots = Arc::new(Semaphore::new(ready.slots));
        let slot_count = ready.slots;
        let ready = Arc::new(Mutex::new(ready));
        self.shared.runtime.spawn(run(attempts, ready.clone(), slots.clone(), self.shared.clone()));
        Worker { queue, ready, slots, slot_count }
    }
}

/// One action's worker: takes what waits, up to a batch, and starts a call when a slot is free.
async fn run(
    mut attempts: mpsc::UnboundedReceiver<Attempt>,
    ready: Arc<Mutex<Ready>>,
    slots: Arc<Semaphore>,
    shared: Arc<Shared>,
) {
    while let Some(first) = attempts.recv().await {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let ready = ready.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let mut batch = vec![first];
        while batch.len() < ready.action.batch_max() {
            match attempts.try_recv() {
                Ok(attempt) => batch.push(attempt),
                Err(_) => break,
            }
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            call(batch, ready, shared).await;
            drop(slot);
        });
    }
}

/// One call of an action: reads the texts, makes the attempts, and hands the outcomes over.
async fn call(batch: Vec<Attempt>, ready: Ready, shared: Arc<Shared>) {
    let started = Instant::now();
    let site = shared.site.read().unwrap_or_else(|e| e.into_inner()).clone();
    let (texts, max_alerts) = (shared.texts.clone(), ready.max_alerts);
    // Reading may wait for a disk: not on a thread that answers clients.
    let read = tokio::task::spawn_blocking(move || {
        let deliveries: Vec<_> =
            batch.iter().map(|attempt| texts::delivery(attempt, &*texts, max_alerts, &site)).collect();
        (batch, deliveries)
    });
    let Ok((batch, read)) = read.await else {
        tracing::error!("reading the texts of deliveries panicked; they are tried again after a restart");
        return;
    };
    let mut deliveries: Vec<Delivery> = Vec::with_capacity(batch.len());
    let mut attempts = Vec::with_capacity(batch.len());
    for (attempt, read) in batch.into_iter().zip(read) {
        match read {
            Ok(delivery) => {
                deliveries.push(delivery);
                attempts.push(attempt);
            }
            Err(error) => {
                let failure = Failure::transient(format!("the alerts' texts cannot be read: {error}"));
                (shared.outcomes)(outcome(&attempt.deliver, Err(failure), started));
            }
        }
    }
    if deliveries.is_empty() {
        return;
    }
    let (action, timeout) = (ready.action, ready.timeout);
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
    for (attempt, result) in attempts.iter().zip(results) {
        (shared.outcomes)(outcome(&attempt.deliver, result.map(bounded).map_err(bounded_failure), started));
    }
}

fn outcome(deliver: &Deliver, result: Result<Receipt, Failure>, started: Instant) -> Outcome {
    let took_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
    Outcome { delivery: deliver.delivery, attempt: deliver.attempt, result, took_ms }
}

/// A far end's words, cut to what the journal keeps.
fn bounded(receipt: Receipt) -> Receipt {
    match receipt {
        Receipt::Delivered { reply, memo, unfinished, refused } => Receipt::Delivered {
            reply: cut(reply),
            memo,
            unfinished,
            refused: refused.into_iter().map(|(recipient, words)| (recipient, cut(words))).collect(),
        },
        Receipt::Sent => Receipt::Sent,
    }
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
