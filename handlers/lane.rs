//! Calls to the system that may hang for ever (a name server that never answers, a program on a file server that is gone), each in
//! a thread of its own. An action has lanes of its own, too: what hangs there takes a place in them for as long as it hangs, and
//! nothing of other actions.

use std::{io, sync::Arc};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

/// Places of a lane: more calls of one kind at once are of no use, and each that hangs is a thread.
const PLACES: usize = 8;

/// A way for calls of one kind and one action. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// What its threads are called.
    name: &'static str,
    places: Arc<Semaphore>,
}

/// Why a call gave no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stuck {
    /// It did not come back in time; it still has its place.
    #[error("it did not come back in time")]
    Late,
    /// It was not begun: earlier ones have all places.
    #[error("earlier ones have not come back")]
    Full,
    /// The system has no thread for it.
    #[error("no thread can be started: {0}")]
    NoThread(String),
    /// It panicked.
    #[error("it stopped; this is a bug")]
    Panicked,
}

impl From<Stuck> for io::Error {
    fn from(stuck: Stuck) -> io::Error {
        let kind = match stuck {
            Stuck::Late | Stuck::Full => io::ErrorKind::TimedOut,
            Stuck::NoThread(_) | Stuck::Panicked => io::ErrorKind::Other,
        };
        io::Error::new(kind, stuck)
    }
}

impl Lane {
    /// A lane whose threads have this name (at most 15 bytes are shown).
    pub(crate) fn new(name: &'static str) -> Lane {
        Lane { name, places: Arc::new(Semaphore::new(PLACES)) }
    }

    /// Does some work that may hang, and waits for it until `end`. It has the runtime around it, and keeps its place for as
    /// long as it takes.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        end: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stuck> {
        let Ok(Ok(place)) = timeout_at(end, self.places.clone().acquire_owned()).await else {
            return Err(Stuck::Full);
        };
        let (answer, answered) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let begun = std::thread::Builder::new().name(self.name.into()).spawn(move || {
            let _runtime = runtime.enter();
            let done = work();
            drop(place);
            // Who asked may not wait any more.
            drop(answer.send(done));
        });
        begun.map_err(|error| Stuck::NoThread(error.to_string()))?;
        match timeout_at(end, answered).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Stuck::Panicked),
            Err(_) => Err(Stuck::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// What hangs keeps its place, so that the next attempt takes no second thread; other lanes know nothing of it.
    #[tokio::test]
    async fn calls_that_hang_fill_their_own_lane_and_no_more() {
        let (lane, other) = (Lane::new("names"), Lane::new("names"));
        let (go, gone) = mpsc::channel::<()>();
        let gone = Arc::new(std::sync::Mutex::new(gone));
        // Due at once, and far from due: nothing here waits for the clock.
        let (past, far) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
        for _ in 0..PLACES {
            let gone = gone.clone();
            // Until the test lets it go.
            let hangs = lane.run(past, move || gone.lock().expect("no panic").recv().is_err());
            assert_eq!(hangs.await, Err(Stuck::Late));
        }
        assert_eq!(lane.run(past, || 1).await, Err(Stuck::Full));
        assert_eq!(tokio::join!(other.run(far, || 2), other.run(far, || 3)), (Ok(2), Ok(3)));
        drop(go);
        assert_eq!(lane.run(far, || 4).await, Ok(4), "they came back");
        assert_eq!(lane.run(far, || -> u8 { panic!("made for this test") }).await, Err(Stuck::Panicked));
        assert_eq!(lane.run(far, || 5).await, Ok(5), "a panic frees its place");
    }
}
