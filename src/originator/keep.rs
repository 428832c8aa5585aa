//! Arrivals of one sender on their way into the journal, in order: several at once, so that reading goes on while the disk is
//! written, and so many that a journal which takes no more stops the reading. What was read is kept, however long that takes.

use std::{collections::VecDeque, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use ams2_core::{BatchBuilder, input::Arrival};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    journal::{Accepted, Refused},
    originator::{Intake, mapping::copy},
};

/// Pieces under way of all listeners and connections, each of about a megabyte at most.
const PIECES_MAX: usize = 128;
/// How long a full journal is left alone before it is asked again: at first, and at most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Places for pieces under way. Clones are the same.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Semaphore::new(PIECES_MAX)))
    }
}

impl Places {
    async fn one(&self) -> Place {
        Place(Arc::new(self.0.clone().acquire_owned().await.expect("nobody closes it")))
    }
}

/// A place for what was read at once; it is given back with the last arrival of it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Place(#[allow(dead_code, reason = "it is held, and given back")] Arc<OwnedSemaphorePermit>);

/// The journal takes nothing any more: the process is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal takes nothing any more")]
pub struct Ended;

type Answer = Pin<Box<dyn Future<Output = Result<Accepted, Refused>> + Send>>;

/// An arrival that the journal has been given.
struct UnderWay {
    arrival: Arrival,
    answer: Answer,
    answered: Option<Result<Accepted, Refused>>,
    _place: Place,
}

/// Keeps the arrivals of one connection, or one socket.
pub struct Keeper<I> {
    intake: I,
    under_way: VecDeque<UnderWay>,
    most: usize,
}

impl<I: Intake> Keeper<I> {
    /// Nothing is under way. At most `most` arrivals will be: enough that the disk has something to write while more is read,
    /// and few enough that what a crash takes, which syslog has no way to say, is little.
    pub fn new(intake: I, most: usize) -> Keeper<I> {
        Keeper { intake, under_way: VecDeque::new(), most }
    }

    /// Waits until there is a place for one more piece: before it is read, so that what waits costs nothing. Places of what is
    /// kept meanwhile are given back: else all could be held by those who wait for one.
    pub async fn place(&mut self, places: &Places) -> Result<Place, Ended> {
        let mut place = std::pin::pin!(places.one());
        loop {
            tokio::select! {
                place = place.as_mut() => return Ok(place),
                () = self.answered() => self.clear(usize::MAX).await?,
            }
        }
    }

    /// Gives an arrival to the journal, once there is room. It is kept when [`Keeper::settle`] says so, or when so many have been
    /// given after it that this waits for it.
    pub async fn keep(&mut self, arrival: Arrival, place: Place) -> Result<(), Ended> {
        self.clear(self.most.saturating_sub(1)).await?;
        let mut answer = self.give(&arrival);
        // It stands in the journal's queue from the first time that it is asked: what is given next stands behind it.
        let at_once = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => Poll::Ready(None),
        });
        match at_once.await {
            None => self.under_way.push_back(UnderWay { arrival, answer, answered: None, _place: place }),
            Some(Ok(_)) => {}
            Some(Err(refused)) => {
                // What came before it goes first.
                self.settle().await?;
                self.insist(&arrival, refused).await?;
            }
        }
        Ok(())
    }

    /// Waits until the first that is under way has its answer, for ever if none is. To be followed by [`Keeper::clear`]; what is
    /// given up meanwhile goes on with the next call.
    pub async fn answered(&mut self) {
        match self.under_way.front_mut() {
            Some(first) if first.answered.is_none() => first.answered = Some(first.answer.as_mut().await),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }

    /// Waits until everything is kept.
    pub async fn settle(&mut self) -> Result<(), Ended> {
        self.clear(0).await
    }

    /// Sees to those that have their answer, and waits until at most so many are under way.
    pub async fn clear(&mut self, most: usize) -> Result<(), Ended> {
        while self.under_way.len() > most
            || self.under_way.front().is_some_and(|first| first.answered.is_some())
        {
            self.answered().await;
            let Some(first) = self.under_way.pop_front() else { break };
            if let Some(Err(refused)) = first.answered {
                // Found out at the disk: what was given behind it may be kept before it. Nothing is lost.
                self.insist(&first.arrival, refused).await?;
            }
        }
        Ok(())
    }

    fn give(&self, arrival: &Arrival) -> Answer {
        let (intake, arrival) = (self.intake.clone(), arrival.clone());
        Box::pin(async move { intake.accept(arrival).await })
    }

    /// Gives an arrival again and again until it is kept; in halves where the journal has no room for it at once.
    async fn insist(&mut self, arrival: &Arrival, refused: Refused) -> Result<(), Ended> {
        let mut rest = VecDeque::from([(arrival.clone(), Some(refused))]);
        let mut pause = PAUSE;
        while let Some((arrival, refused)) = rest.pop_front() {
            let answer = match refused {
                Some(refused) => Err(refused),
                None => self.give(&arrival).await.map(drop),
            };
            match answer {
                Ok(()) => pause = PAUSE,
                Err(Refused::Busy { .. } | Refused::DiskFull { .. } | Refused::Stalled { .. }) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    rest.push_front((arrival, None));
                }
                Err(Refused::TooLarge { bytes }) => match halves(&arrival) {
                    Some(halves) => halves.into_iter().rev().for_each(|half| rest.push_front((half, None))),
                    // No limit of alerts lets one be as large.
                    None => tracing::error!(bytes, "an alert is larger than the journal takes, and is lost"),
                },
                Err(Refused::Failed | Refused::Stopping) => return Err(Ended),
            }
        }
        Ok(())
    }
}

/// The first half of an arrival's alerts, and the second; `None` where it has one alone.
fn halves(arrival: &Arrival) -> Option<[Arrival; 2]> {
    let middle = arrival.batch.len() / 2;
    let half = |range: std::ops::Range<usize>| {
        let mut batch = BatchBuilder::default();
        range.filter_map(|index| arrival.batch.alert(index)).for_each(|alert| copy(alert, &mut batch));
        Arrival { batch: Arc::new(batch.finish()), ..arrival.clone() }
    };
    (middle > 0).then(|| [half(0..middle), half(middle..arrival.batch.len())])
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ams2_core::{BatchBuilder, batch::AlertTimes};
    use tokio::sync::oneshot;

    use super::*;

    const UNDER_WAY_MAX: usize = 8;
    const BUSY: Refused = Refused::Busy { retry_after: Duration::from_secs(2) };

    /// A journal whose answers a test gives.
    #[derive(Clone, Default)]
    struct Slow(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        /// Given and not answered.
        waiting: VecDeque<(String, oneshot::Sender<Result<Accepted, Refused>>)>,
        /// How many of the next are refused at once.
        refusals: usize,
        /// How many alerts an arrival may have, if that is a concern; what it takes then it keeps.
        alerts_max: Option<usize>,
        kept: Vec<String>,
    }

    impl Slow {
        fn state(&self) -> std::sync::MutexGuard<'_, State> {
            self.0.lock().expect("no panic")
        }

        /// Answers the first that waits.
        fn answer(&self, with: Result<(), Refused>) {
            let (name, reply) = self.state().waiting.pop_front().expect("one waits");
            if with.is_ok() {
                self.state().kept.push(name);
            }
            reply.send(with.map(|()| Accepted { first: 1, last: 1 })).expect("it waits");
        }
    }

    impl Intake for Slow {
        async fn accept(&self, arrival: Arrival) -> Result<Accepted, Refused> {
            let answer = {
                let mut state = self.state();
                if state.refusals > 0 {
                    state.refusals -= 1;
                    return Err(BUSY);
                }
                if let Some(most) = state.alerts_max {
                    if arrival.batch.len() > most {
                        return Err(Refused::TooLarge { bytes: 1 });
                    }
                    state.kept.extend(arrival.batch.iter().map(|alert| alert.label("n").to_owned()));
                    return Ok(Accepted { first: 1, last: 1 });
                }
                let name = arrival.batch.alert(0).expect("one").label("n").to_owned();
                let (reply, answer) = oneshot::channel();
                state.waiting.push_back((name, reply));
                answer
            };
            answer.await.expect("answered")
        }

        async fn accept_other(&self, _: ams2_core::Input) -> Result<Accepted, Refused> {
            Err(Refused::Stopping)
        }
    }

    fn arrival(n: usize) -> Arrival {
        let mut batch = BatchBuilder::default();
        batch.label("n", &n.to_string());
        batch.finish_alert(AlertTimes::default(), None, None).expect("valid");
        Arrival { client: "a".into(), batch: Arc::new(batch.finish()) }
    }

    fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| n.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_under_way_and_no_more_and_in_order() {
        let (journal, places) = (Slow::default(), Places::default());
        let mut keeper = Keeper::new(journal.clone(), UNDER_WAY_MAX);
        for n in 0..UNDER_WAY_MAX {
            keeper.keep(arrival(n), places.one().await).await.expect("it goes on");
        }
        assert_eq!(journal.state().waiting.len(), UNDER_WAY_MAX);
        let place = places.one().await;
        {
            let mut next = Box::pin(keeper.keep(arrival(UNDER_WAY_MAX), place));
            assert!(tokio::time::timeout(Duration::from_secs(60), next.as_mut()).await.is_err(), "it waits");
            journal.answer(Ok(()));
            next.await.expect("it goes on");
        }
        assert_eq!(places.0.available_permits(), PIECES_MAX - UNDER_WAY_MAX);
        for _ in 0..UNDER_WAY_MAX {
            journal.answer(Ok(()));
        }
        keeper.settle().await.expect("it goes on");
        assert_eq!(journal.state().kept, numbers(0..UNDER_WAY_MAX + 1));
        assert_eq!(places.0.available_permits(), PIECES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_place_hold_none_of_what_is_kept() {
        let (journal, places) = (Slow::default(), Places::default());
        let mut keepers: Vec<_> =
            (0..PIECES_MAX / UNDER_WAY_MAX).map(|_| Keeper::new(journal.clone(), UNDER_WAY_MAX)).collect();
        for keeper in &mut keepers {
            for n in 0..UNDER_WAY_MAX {
                let place = keeper.place(&places).await.expect("it goes on");
                keeper.keep(arrival(n), place).await.expect("it goes on");
            }
        }
        let mut first = keepers.remove(0);
        let mut waiting = Box::pin(first.place(&places));
        assert!(
            tokio::time::timeout(Duration::from_secs(60), waiting.as_mut()).await.is_err(),
            "all are taken"
        );
        journal.answer(Ok(()));
        waiting.await.expect("its own is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_given_again_behind_what_came_before_it() {
        let (journal, places) = (Slow::default(), Places::default());
        let mut keeper = Keeper::new(journal.clone(), UNDER_WAY_MAX);
        keeper.keep(arrival(0), places.one().await).await.expect("it goes on");
        journal.state().refusals = 3;
        let place = places.one().await;
        let answers = {
            let journal = journal.clone();
            tokio::spawn(async move {
                // The clock goes on only when nobody has anything to do.
                for _ in 0..2 {
                    while journal.state().waiting.is_empty() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    journal.answer(Ok(()));
                }
            })
        };
        keeper.keep(arrival(1), place).await.expect("it goes on");
        answers.await.expect("no panic");
        assert_eq!(journal.state().kept, numbers(0..2));
        assert_eq!(journal.state().refusals, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_is_given_in_pieces_and_what_comes_behind_it_goes_on() {
        let (journal, places) = (Slow::default(), Places::default());
        journal.state().alerts_max = Some(3);
        let mut keeper = Keeper::new(journal.clone(), UNDER_WAY_MAX);
        let mut batch = BatchBuilder::default();
        arrivals(0..13).iter().for_each(|arrival| copy(arrival.batch.alert(0).expect("one"), &mut batch));
        let large = Arrival { client: "a".into(), batch: Arc::new(batch.finish()) };
        keeper.keep(large, places.one().await).await.expect("it goes on");
        keeper.keep(arrival(13), places.one().await).await.expect("it goes on");
        assert_eq!(journal.state().kept, numbers(0..14));
        // One alert that is too large by itself ends nothing either.
        journal.state().alerts_max = Some(0);
        keeper.keep(arrival(14), places.one().await).await.expect("it goes on");
        keeper.settle().await.expect("it goes on");
    }

    fn arrivals(range: std::ops::Range<usize>) -> Vec<Arrival> {
        range.map(arrival).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_disk_refuses_later_is_given_again_and_the_end_is_the_end() {
        let (journal, places) = (Slow::default(), Places::default());
        let mut keeper = Keeper::new(journal.clone(), UNDER_WAY_MAX);
        keeper.keep(arrival(0), places.one().await).await.expect("it goes on");
        journal.answer(Err(Refused::DiskFull { retry_after: Duration::from_secs(10) }));
        {
            let mut settling = Box::pin(keeper.settle());
            assert!(tokio::time::timeout(Duration::from_secs(5), settling.as_mut()).await.is_err());
            journal.answer(Ok(()));
            settling.await.expect("it goes on");
        }
        assert_eq!(journal.state().kept, numbers(0..1));
        keeper.keep(arrival(1), places.one().await).await.expect("it goes on");
        journal.answer(Err(Refused::Stopping));
        assert_eq!(keeper.settle().await, Err(Ended));
    }
}
