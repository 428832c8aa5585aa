//! Which of several parents takes what is forwarded: the first that is there, or the nearest.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use reqwest::Url;
use tokio::time::Instant;

/// How parents are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// The first of the list that takes alerts; an earlier one again as soon as it is back.
    #[default]
    InOrder,
    /// The one with the lowest measured round trip; another when that is lower by a third for long.
    Nearest,
}

/// How often the others are asked how they are.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looks in a row that must find another nearer before it is taken.
const LOOKS_NEARER: u32 = 5;
/// Uncertain outcomes in a row after which another parent gets its turn: the first may have it all.
const UNCERTAIN_MAX: u32 = 2;

/// The parents of one action.
#[derive(Debug)]
pub(super) struct Parents {
    pub urls: Vec<Url>,
    choose: Choose,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chosen: usize,
    /// Uncertain outcomes of the chosen one in a row.
    uncertain: u32,
    /// When the others were asked last.
    looked: Option<Instant>,
    /// Which one heard of us last.
    heard: Option<usize>,
    /// Which other was nearer at the last looks, and how often in a row.
    nearer: Option<(usize, u32)>,
}

impl Parents {
    pub fn new(urls: Vec<Url>, choose: Choose) -> Parents {
        Parents { urls, choose, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The one that is asked now.
    pub fn chosen(&self) -> usize {
        self.state().chosen
    }

    /// In which order they are tried now: the chosen one, then those behind it, around.
    pub fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (chosen, count) = (self.chosen(), self.urls.len());
        (0..count).map(move |step| (chosen + step) % count)
    }

    /// One of them took alerts: it is the chosen one.
    pub fn took(&self, parent: usize) {
        let mut state = self.state();
        (state.chosen, state.uncertain) = (parent, 0);
    }

    /// One of them heard how we are; the one before, if that was another.
    pub fn checked_in(&self, parent: usize) -> Option<usize> {
        self.state().heard.replace(parent).filter(|before| *before != parent)
    }

    /// The chosen one may have what it was sent: whether it is asked once more before others are.
    pub fn may_have_it(&self) -> bool {
        let mut state = self.state();
        state.uncertain += 1;
        let again = state.uncertain < UNCERTAIN_MAX || self.urls.len() == 1;
        if !again {
            state.uncertain = 0;
            state.chosen = (state.chosen + 1) % self.urls.len();
        }
        again
    }

    /// Whether it is time to ask others how they are. Whoever is told so asks, and says what came of it.
    pub fn is_time_to_look(&self) -> bool {
        let mut state = self.state();
        let wanted = self.urls.len() > 1 && (self.choose == Choose::Nearest || state.chosen != 0);
        let now = Instant::now();
        let due = state.looked.is_none_or(|last| now.duration_since(last) >= LOOK_EVERY);
        if wanted && due {
            state.looked = Some(now);
        }
        wanted && due
    }

    /// How long each took to answer, if it did.
    pub fn looked(&self, round_trips: &[Option<Duration>]) {
        let mut state = self.state();
        match self.choose {
            Choose::InOrder => {
                if let Some(first) =
                    round_trips.iter().position(Option::is_some).filter(|first| *first < state.chosen)
                {
                    (state.chosen, state.uncertain) = (first, 0);
                }
            }
            Choose::Nearest => {
                let times =
                    round_trips.iter().enumerate().filter_map(|(parent, time)| Some(((*time)?, parent)));
                let Some((time, nearest)) = times.min() else { return };
                let of_chosen = round_trips.get(state.chosen).copied().flatten();
                // The first look decides at once: nothing was sent to any of them yet.
                let is_first = state.nearer.is_none();
                let is_nearer =
                    nearest != state.chosen && of_chosen.is_none_or(|chosen| time * 3 < chosen * 2);
                if !is_nearer {
                    state.nearer = Some((state.chosen, 0));
                    return;
                }
                let in_a_row = match state.nearer {
                    Some((known, looks)) if known == nearest => looks + 1,
                    _ => 1,
                };
                state.nearer = Some((nearest, in_a_row));
                if is_first || in_a_row >= LOOKS_NEARER {
                    (state.chosen, state.uncertain, state.nearer) = (nearest, 0, Some((nearest, 0)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parents(choose: Choose) -> Parents {
        let urls = ["http://a/", "http://b/", "http://c/"].map(|url| Url::parse(url).expect("a URL"));
        Parents::new(urls.into(), choose)
    }

    fn ms(times: [Option<u64>; 3]) -> [Option<Duration>; 3] {
        times.map(|ms| ms.map(Duration::from_millis))
    }

    #[test]
    fn the_first_of_the_list_is_taken_again_when_it_is_back() {
        let parents = parents(Choose::InOrder);
        assert_eq!(parents.order().collect::<Vec<_>>(), [0, 1, 2]);
        parents.took(2);
        assert_eq!(parents.order().collect::<Vec<_>>(), [2, 0, 1]);
        parents.looked(&ms([None, Some(9), Some(1)]));
        assert_eq!(parents.chosen(), 1, "the earliest of those that answer, however near");
        parents.looked(&ms([None, None, Some(1)]));
        assert_eq!(parents.chosen(), 1, "whether the chosen one is there is seen when it is sent something");
        parents.looked(&ms([Some(500), Some(1), Some(1)]));
        assert_eq!(parents.chosen(), 0);
    }

    #[test]
    fn the_nearest_is_left_only_for_one_that_is_nearer_by_far_and_for_long() {
        let parents = parents(Choose::Nearest);
        parents.looked(&ms([Some(50), Some(10), None]));
        assert_eq!(parents.chosen(), 1, "at first at once");
        for _ in 0..20 {
            parents.looked(&ms([Some(9), Some(10), Some(8)]));
        }
        assert_eq!(parents.chosen(), 1, "a little is not enough");
        for look in 0..LOOKS_NEARER {
            assert_eq!(parents.chosen(), 1, "look {look}");
            parents.looked(&ms([Some(9), Some(30), Some(8)]));
        }
        assert_eq!(parents.chosen(), 2);
        for _ in 0..LOOKS_NEARER - 1 {
            parents.looked(&ms([Some(1), Some(30), Some(30)]));
        }
        parents.looked(&ms([Some(25), Some(30), Some(30)]));
        parents.looked(&ms([Some(1), Some(30), Some(30)]));
        assert_eq!(parents.chosen(), 2, "it must be in a row");
    }

    #[test]
    fn one_that_may_have_it_is_asked_once_more_before_another_is() {
        let parents = parents(Choose::InOrder);
        assert!(parents.may_have_it());
        assert!(!parents.may_have_it());
        assert_eq!(parents.chosen(), 1);
        parents.took(1);
        assert!(parents.may_have_it(), "what it took since counts");
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_asked_once_a_minute_and_only_where_it_matters() {
        let in_order = parents(Choose::InOrder);
        assert!(!in_order.is_time_to_look(), "the first is the best there is");
        in_order.took(1);
        assert!(in_order.is_time_to_look() && !in_order.is_time_to_look());
        tokio::time::advance(LOOK_EVERY).await;
        assert!(in_order.is_time_to_look());
        assert!(parents(Choose::Nearest).is_time_to_look());
    }
}
