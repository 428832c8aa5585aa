//! Silences, inhibition and time intervals: what is held back, and what becomes of it.

use super::*;
use crate::{
    calendar::{Span, TimeInterval, TimeRange},
    config::{InhibitRule, Muting},
    effect::GroupName,
    silence::{SetSilence, SilenceError, SilenceId, SilenceOrder, SilenceState},
};
use alloc::collections::BTreeMap;

pub(super) const MINUTE: u64 = 60_000;

fn matchers(texts: &[&str]) -> Vec<Matcher> {
    texts.iter().map(|text| Matcher::parse(text).expect(text)).collect()
}

pub(super) fn by_event() -> Config {
    config(vec![action("ops", "log")], grouped())
}

fn each() -> Config {
    config(vec![action("ops", "log")], Route { notify: Some(Notify::Each), ..grouped() })
}

fn as_alertmanager(mut config: Config) -> Config {
    config.muting = Muting::ALERTMANAGER;
    config
}

fn rule(source: &[&str], target: &[&str], equal: &[&str]) -> InhibitRule {
    InhibitRule {
        name: "rule".into(),
        source_matchers: matchers(source),
        target_matchers: matchers(target),
        equal: equal.iter().map(|name| (*name).into()).collect(),
    }
}

fn with_rules(mut config: Config, rules: Vec<InhibitRule>) -> Config {
    config.inhibit_rules = rules;
    config
}

impl World {
    fn wall(&self) -> Wall {
        self.now.wall(OFFSET)
    }

    /// A silence from now on, for so many milliseconds.
    pub(super) fn silence(&mut self, number: u128, texts: &[&str], ms: u64) -> SilenceId {
        self.set_silence(None, number, texts, 0, ms)
    }

    fn set_silence(
        &mut self,
        id: Option<SilenceId>,
        number: u128,
        texts: &[&str],
        from_ms: i64,
        ms: u64,
    ) -> SilenceId {
        let starts = Wall(self.wall().0 + from_ms);
        let set = SetSilence {
            id,
            fresh: SilenceId(number),
            matchers: matchers(texts),
            starts: Some(starts),
            ends: Wall(starts.0 + ms as i64),
            by: "ann".into(),
            comment: "works".into(),
            annotations: BTreeMap::new(),
            client: "".into(),
        };
        let seq = self.machine.next_seq();
        self.input(Input::Silence(SilenceOrder::Set(set.into())));
        self.machine.silence_set_by(seq).expect("it is set").id
    }

    pub(super) fn expire(&mut self, id: SilenceId) {
        self.input(Input::Silence(SilenceOrder::Expire { id, by: "bob".into() }));
    }

    fn muted(&self) -> Vec<HoldReason> {
        let muted = |reason: &HoldReason| {
            matches!(
                reason,
                Silenced { .. }
                    | HoldReason::Inhibited { .. }
                    | HoldReason::MuteTime { .. }
                    | HoldReason::OutsideActiveTimes
            )
        };
        self.holds_of_ops().into_iter().filter(muted).collect()
    }
}

use HoldReason::Silenced;
use NotifyReason::{AllResolved, FirstTime, NewAlerts, Occurrence, SomeResolved};

#[test]
fn who_is_never_told_because_of_a_silence_is_told_when_it_ends() {
    for (config, told_at) in [
        (by_event(), 10 * MINUTE),
        // The first look is at 30 s, and the next one after 10 min at 10.5 min.
        (as_alertmanager(by_event()), 10 * MINUTE + 30_000),
    ] {
        let mut world = World::new(config);
        let id = world.silence(5, &["event=E"], 10 * MINUTE);
        world.alert(A, Some(HOUR));
        world.wait(9 * MINUTE);
        assert_eq!(world.told(), []);
        assert_eq!(world.muted(), [Silenced { by: vec![id] }], "on record once");
        let mut world = world.restored();
        world.wait(2 * MINUTE);
        assert_eq!(world.told(), [(told_at, FirstTime, 1, 0)]);
    }
}

#[test]
fn who_was_told_before_a_silence_is_not_told_again_when_it_ends() {
    let mut world = World::new(by_event());
    world.alert(A, Some(10 * HOUR));
    world.wait(MINUTE);
    let id = world.silence(5, &["host=a"], 10 * MINUTE);
    world.alert(B, Some(10 * HOUR));
    world.wait(5 * MINUTE);
    world.expire(id);
    world.wait(20 * MINUTE);
    assert_eq!(world.told(), [(30_000, FirstTime, 1, 0), (90_000, NewAlerts, 1, 0)]);
    // Alertmanager has forgotten the first by then, and tells it once more.
    let mut world = World::new(as_alertmanager(by_event()));
    world.alert(A, Some(10 * HOUR));
    world.wait(MINUTE);
    world.silence(5, &["host=a"], 10 * MINUTE);
    world.alert(B, Some(10 * HOUR));
    world.wait(20 * MINUTE);
    assert_eq!(world.told()[2..], [(11 * MINUTE + 30_000, NewAlerts, 2, 0)]);
}

#[test]
fn an_end_that_comes_while_silenced_is_told_to_those_who_know_of_the_beginning() {
    for (config, told) in
        [(by_event(), vec![(150_000, AllResolved, 0, 1)]), (as_alertmanager(by_event()), vec![])]
    {
        let mut world = World::new(config);
        world.alert(A, Some(HOUR));
        world.wait(MINUTE);
        world.silence(5, &["host=a"], HOUR as u64);
        world.wait(MINUTE);
        world.alert(A, Some(0));
        world.wait(2 * HOUR as u64);
        assert_eq!(world.told()[1..], told);
        assert_eq!(world.machine.groups().count(), 0, "nothing is left of it");
    }
    // Who was never told that it fires is not told that it ended.
    let mut world = World::new(by_event());
    world.silence(5, &["host=a"], HOUR as u64);
    world.alert(A, Some(HOUR));
    world.wait(MINUTE);
    world.alert(A, Some(0));
    world.wait(2 * HOUR as u64);
    assert_eq!(world.told(), []);
}

#[test]
fn a_muted_alert_that_was_told_does_not_make_the_rest_resolve_again_and_again() {
    let mut world = World::new(by_event());
    world.alert(A, Some(10 * HOUR));
    world.alert(B, Some(10 * HOUR));
    world.wait(MINUTE);
    world.silence(5, &["host=a"], 2 * HOUR as u64);
    world.alert(B, Some(0));
    world.wait(3 * HOUR as u64);
    // All that is shown is over.
    assert_eq!(world.told()[..2], [(30_000, FirstTime, 2, 0), (90_000, AllResolved, 0, 1)]);
    assert_eq!(world.told().len(), 3, "then one repeat when the silence is over: {:?}", world.told());
}

/// What waits for a far end that is away, beside a silence: what the action believes once it has arrived is what counts.
mod while_the_far_end_is_away {
    use super::*;

    const AWAY: fn() -> Result<Receipt, Failure> = || Err(Failure::transient("connection refused"));

    impl World {
        /// The far end is back: what it is told from now on, as reason, firing and resolved.
        fn told_when_back(&mut self) -> Vec<(NotifyReason, usize, usize)> {
            self.far_end = Some(Ok(Receipt::delivered("ok")));
            self.delivered.clear();
            self.wait(30 * MINUTE);
            self.told().into_iter().map(|(_, reason, firing, resolved)| (reason, firing, resolved)).collect()
        }

        fn silence_a(&mut self) -> SilenceId {
            self.silence(5, &["host=a"], HOUR as u64)
        }

        /// A waits to be told, is silenced, ends, and B waits behind it.
        fn ends_silenced_behind_another(&mut self) {
            self.alert(A, Some(10 * HOUR));
            self.wait(MINUTE);
            self.silence_a();
            self.alert(B, Some(10 * HOUR));
            self.wait(2 * MINUTE);
            self.alert(A, Some(0));
        }
    }

    #[test]
    fn a_firing_behind_an_end_that_waits_is_told() {
        let mut world = World::new(by_event());
        world.alert(A, Some(10 * HOUR));
        world.wait(MINUTE);
        world.far_end = Some(AWAY());
        world.alert(A, Some(0));
        world.wait(MINUTE);
        let id = world.silence_a();
        world.alert(A, Some(10 * HOUR));
        world.wait(2 * MINUTE);
        world.expire(id);
        world.wait(MINUTE);
        assert_eq!(world.told_when_back(), [(AllResolved, 0, 1), (FirstTime, 1, 0)]);
    }

    #[test]
    fn the_end_of_what_waited_to_be_told_is_told_though_it_was_silenced_meanwhile() {
        let mut world = World::new(by_event());
        world.far_end = Some(AWAY());
        world.ends_silenced_behind_another();
        assert_eq!(world.told_when_back(), [(FirstTime, 1, 0), (SomeResolved, 1, 1)]);
    }

    #[test]
    fn the_end_of_what_was_under_way_is_told_though_it_was_silenced_meanwhile() {
        let mut world = World::new(by_event());
        world.far_end = None;
        world.ends_silenced_behind_another();
        // It arrives before anybody looks at the group again.
        world.far_end = Some(Ok(Receipt::delivered("ok")));
        world.outcome_of_last(Ok(Receipt::delivered("ok")));
        let told: Vec<_> = world.told().into_iter().map(|told| (told.1, told.2, told.3)).collect();
        assert_eq!(told, [(FirstTime, 1, 0), (NewAlerts, 1, 0)]);
        assert_eq!(world.told_when_back(), [(SomeResolved, 1, 1)]);
    }

    #[test]
    fn a_new_firing_is_told_once_it_is_let_go() {
        let mut world = World::new(by_event());
        world.alert(A, Some(10 * HOUR));
        world.wait(MINUTE);
        let id = world.silence_a();
        world.wait(MINUTE);
        world.far_end = Some(AWAY());
        world.alert(B, Some(10 * HOUR));
        world.wait(2 * MINUTE);
        world.alert(A, Some(0));
        world.alert(A, Some(10 * HOUR));
        world.wait(2 * MINUTE);
        world.expire(id);
        world.wait(MINUTE);
        let told = world.told_when_back();
        assert_eq!(told.last(), Some(&(NewAlerts, 2, 0)), "{told:?}");
    }

    /// Told behind one another: A fires, A ended, B fires. The first arrives while A fires again and is silenced: that
    /// nobody knows of.
    #[test]
    fn what_fires_again_is_told_once_it_is_let_go_though_the_word_of_its_first_firing_has_just_arrived() {
        let mut world = World::new(by_event());
        world.far_end = None;
        world.alert(A, Some(10 * HOUR));
        world.wait(MINUTE);
        world.alert(A, Some(0));
        world.wait(MINUTE);
        let id = world.silence_a();
        world.alert(A, Some(10 * HOUR));
        world.alert(B, Some(10 * HOUR));
        world.wait(2 * MINUTE);
        world.outcome_of_last(Ok(Receipt::delivered("ok")));
        world.expire(id);
        world.wait(MINUTE);
        let decided: Vec<_> = world
            .records()
            .filter_map(|what| match what {
                Decided::Notify { reason, firing, .. } => Some((*reason, *firing)),
                _ => None,
            })
            .collect();
        assert_eq!(decided, [(FirstTime, 1), (AllResolved, 0), (FirstTime, 1), (NewAlerts, 2)]);
    }

    #[test]
    fn who_is_not_told_of_ends_is_not_told_twice_of_what_was_silenced() {
        let mut world = World::not_told_of_ends();
        world.far_end = Some(AWAY());
        world.alert(A, Some(10 * HOUR));
        world.alert(B, Some(10 * HOUR));
        world.wait(MINUTE);
        let id = world.silence_a();
        world.alert(B, Some(0));
        world.wait(2 * MINUTE);
        assert_eq!(world.told_when_back(), [(FirstTime, 2, 0)]);
        world.delivered.clear();
        world.expire(id);
        world.wait(10 * MINUTE);
        assert_eq!(world.told(), []);
    }
}

#[test]
fn who_was_not_told_of_a_beginning_is_not_told_of_its_end_though_others_take_long() {
    for tell_short in [false, true] {
        let route = Route { tell_short: Some(tell_short), ..grouped() };
        let mut world = World::new(config(vec![action("ops", "log")], route));
        // A delivery that waits keeps what ended in its group.
        world.far_end = None;
        let id = world.silence(5, &["host=a"], HOUR as u64);
        world.alert(A, Some(HOUR));
        world.alert(B, Some(10 * HOUR));
        world.alert(A, Some(0));
        world.wait(MINUTE);
        world.expire(id);
        world.wait(5 * MINUTE);
        let told: Vec<_> = world.told().into_iter().map(|told| (told.1, told.2, told.3)).collect();
        assert_eq!(told, [(FirstTime, 1, 0)]);
        let decided = world.records().filter(|what| matches!(what, Decided::Notify { .. })).count();
        assert_eq!(decided, 1, "tell_short: {tell_short}");
    }
}

/// Who closes on "all resolved" what it opened for the group must hear that it is not over.
#[test]
fn who_was_told_that_all_ended_is_told_again_of_what_fires_on_when_it_is_let_go() {
    for is_restored in [false, true] {
        let mut world = World::new(by_event());
        world.alert(A, Some(10 * HOUR));
        world.alert(B, Some(10 * HOUR));
        world.wait(MINUTE);
        let id = world.silence(5, &["host=a"], HOUR as u64);
        world.alert(B, Some(0));
        world.wait(2 * MINUTE);
        if is_restored {
            world = world.restored();
        }
        world.expire(id);
        world.wait(10 * MINUTE);
        let told: Vec<_> = world.told().into_iter().map(|told| (told.1, told.2, told.3)).collect();
        assert_eq!(told, [(FirstTime, 2, 0), (AllResolved, 0, 1), (FirstTime, 1, 0)]);
    }
}

#[test]
fn an_action_that_takes_the_number_of_a_gone_one_is_told_what_fires() {
    let of = |kinds: &[&str]| {
        as_alertmanager(config(kinds.iter().map(|kind| action("ops", kind)).collect(), grouped()))
    };
    let mut world = World::new(of(&["log"]));
    world.alert(A, Some(10 * HOUR));
    world.wait(MINUTE);
    for kinds in [&["email"][..], &["email", "webhook"]] {
        world.install(of(kinds), vec![]);
        world.wait(2 * MINUTE);
    }
    let told: Vec<_> = world.delivered.iter().map(|(_, deliver)| &*deliver.action.kind).collect();
    assert_eq!(told, ["log", "email", "webhook"]);
}

/// Alertmanager's log outlives the group: what was told as firing, and ended while nobody was to be told, is no news when
/// it fires again, until its repeat is due.
#[test]
fn a_group_that_comes_back_says_nothing_that_it_said_before_where_alertmanager_does_not() {
    for (config, told) in [
        (
            by_event(),
            vec![(30_000, FirstTime, 1, 0), (90_000, AllResolved, 0, 1), (270_000, FirstTime, 1, 0)],
        ),
        // Its repeat is due an hour after it was told; its turns are a minute apart from 4.5 min on.
        (
            as_alertmanager(by_event()),
            vec![(30_000, FirstTime, 1, 0), (3_690_000, NotifyReason::RepeatDue, 1, 0)],
        ),
    ] {
        let mut world = World::new(config);
        world.alert(A, Some(10 * HOUR));
        world.wait(MINUTE);
        let id = world.silence(5, &["host=a"], HOUR as u64);
        world.alert(A, Some(0));
        world.wait(2 * MINUTE);
        let is_of_e = |name: &GroupName| name.labels.iter().any(|(_, value)| value == "E");
        assert!(world.machine.groups().all(|group| !is_of_e(group.name())), "the group is gone");
        let mut world = world.restored();
        world.expire(id);
        world.wait(MINUTE);
        world.alert(A, Some(10 * HOUR));
        world.wait(HOUR as u64);
        assert_eq!(world.told(), told);
    }
}

/// The same over changes of the configuration that take the group away and bring it back.
#[test]
fn what_was_told_before_a_config_change_is_known_after_it_is_taken_back_where_alertmanager_knows_it() {
    let by_host = || {
        let group_by = Some(GroupBy::Labels(vec!["host".into()]));
        config(vec![action("ops", "log")], Route { group_by, ..grouped() })
    };
    for (there, back, told) in [
        (by_host(), by_event(), vec![FirstTime, FirstTime, FirstTime]),
        (as_alertmanager(by_host()), as_alertmanager(by_event()), vec![FirstTime, FirstTime]),
    ] {
        let mut world = World::new(back.clone());
        world.alert(A, Some(10 * HOUR));
        world.wait(MINUTE);
        world.install(there, vec![]);
        world.wait(MINUTE);
        world.install(back, vec![]);
        world.wait(MINUTE);
        assert_eq!(world.told().iter().map(|told| told.1).collect::<Vec<_>>(), told);
    }
}

/// To Alertmanager an end is news whoever said that it fired, and so is one that comes once more after something else
/// was told.
#[test]
fn an_end_of_what_nobody_said_that_it_fired_is_told_beside_what_fires_where_alertmanager_tells_it() {
    const C: &[(&str, &str)] = &[("event", "E"), ("host", "c")];
    for (config, more) in [(by_event(), 0), (as_alertmanager(by_event()), 2)] {
        let mut world = World::new(config);
        world.alert(A, Some(10 * HOUR));
        world.wait(MINUTE);
        world.alert(B, Some(0));
        world.wait(MINUTE);
        world.alert(B, Some(-1));
        world.wait(MINUTE);
        world.alert(C, Some(10 * HOUR));
        world.wait(MINUTE);
        world.alert(B, Some(-1));
        world.wait(MINUTE);
        let ends: Vec<_> = world.told().into_iter().filter(|told| told.1 == SomeResolved).collect();
        assert_eq!(ends.len(), more, "{ends:?}");
        world.alert(A, Some(0));
        world.alert(C, Some(0));
        world.wait(2 * MINUTE);
        assert_eq!(world.told().last().map(|told| told.1), Some(AllResolved));
        world.alert(B, Some(-1));
        world.wait(10 * MINUTE);
        assert_eq!(world.told().last().map(|told| told.1), Some(AllResolved), "nobody knows of anything");
        assert_eq!(world.machine.groups().count(), 0);
    }
}

/// Alertmanager compares with all that it told, muted or not.
#[test]
fn an_end_beside_a_muted_alert_that_was_told_is_the_end_of_all_where_alertmanager_says_so() {
    for (config, told) in [
        (by_event(), vec![FirstTime]),
        (as_alertmanager(by_event()), vec![FirstTime, AllResolved, FirstTime]),
    ] {
        let mut world = World::new(config);
        world.alert(A, Some(10 * HOUR));
        world.wait(MINUTE);
        let id = world.silence(5, &["host=a"], HOUR as u64);
        world.alert(B, Some(HOUR));
        world.alert(B, Some(0));
        world.wait(2 * MINUTE);
        world.expire(id);
        world.wait(2 * MINUTE);
        assert_eq!(world.told().iter().map(|told| told.1).collect::<Vec<_>>(), told);
    }
}

#[test]
fn a_silence_is_changed_in_place_or_replaced_by_alertmanagers_rules() {
    let mut world = World::new(by_event());
    let now = world.wall();
    let first = world.silence(1, &["host=a"], 10 * MINUTE);
    assert_eq!(world.set_silence(Some(first), 2, &["host=a"], 0, 20 * MINUTE), first, "only its end");
    let second = world.set_silence(Some(first), 3, &["host=b"], 0, 20 * MINUTE);
    assert_eq!(second, SilenceId(3), "other matchers make another");
    let states: Vec<_> = world.machine.silences(now).map(|view| (view.silence.id.0, view.state)).collect();
    assert_eq!(states, [(1, SilenceState::Expired), (3, SilenceState::Active)]);
    let third = world.set_silence(None, 4, &["host=b"], 60_000, MINUTE);
    assert_eq!(world.set_silence(Some(third), 5, &["host=b"], 120_000, MINUTE), third, "before it began");
    assert_eq!(world.set_silence(Some(third), 6, &["host=b"], -1, MINUTE).0, 6, "a beginning in the past");
    world.expire(second);
    assert_eq!(world.set_silence(Some(second), 7, &["host=b"], 0, MINUTE).0, 7, "after its end");
    // A beginning in the past is now.
    let late = world.machine.silence(SilenceId(7)).expect("it is kept").starts;
    assert_eq!(late, now);
}

#[test]
fn orders_that_cannot_be_followed_say_why_and_change_nothing() {
    let mut config = by_event();
    config.silences.max = 1;
    config.silences.bytes_max = 20;
    config.silences.needs_comment = true;
    config.silences.needs_author = true;
    let mut world = World::new(config);
    let now = world.wall();
    let set = |change: &dyn Fn(&mut SetSilence)| {
        let mut set = SetSilence {
            id: None,
            fresh: SilenceId(9),
            matchers: matchers(&["a=b"]),
            starts: None,
            ends: Wall(now.0 + 1),
            by: "ann".into(),
            comment: "why".into(),
            annotations: BTreeMap::new(),
            client: "".into(),
        };
        change(&mut set);
        SilenceOrder::Set(set.into())
    };
    let unknown = SilenceId(77);
    type Change<'a> = &'a dyn Fn(&mut SetSilence);
    let rows: [(Change<'_>, SilenceError); 9] = [
        (&|set| set.matchers.clear(), SilenceError::NoMatcher),
        (&|set| set.matchers = matchers(&["a=~\".*\"", "b=\"\""]), SilenceError::MatchesEmpty),
        (&|set| set.ends = Wall(now.0), SilenceError::EndsBeforeStart),
        (&|set| (set.starts, set.ends) = (Some(Wall(1)), Wall(2)), SilenceError::EndsInPast),
        (&|set| set.comment = " ".into(), SilenceError::NoComment),
        (&|set| set.by = "".into(), SilenceError::NoAuthor),
        (&|set| set.comment = "x".repeat(20), SilenceError::TooLarge { bytes: 25, max: 20 }),
        (&|set| set.id = Some(unknown), SilenceError::Unknown(unknown)),
        (&|set| set.matchers[0].value = "(".into(), SilenceError::Matcher(String::new())),
    ];
    for (change, expected) in rows {
        let mut order = set(change);
        if let (SilenceError::Matcher(_), SilenceOrder::Set(set)) = (&expected, &mut order) {
            set.matchers[0].op = crate::matcher::Op::Regex;
        }
        let error = world.machine.check_silence(&order, now).expect_err("refused");
        let same = core::mem::discriminant(&error) == core::mem::discriminant(&expected);
        assert!(same && (error == expected || matches!(error, SilenceError::Matcher(_))), "{error:?}");
        world.input(Input::Silence(order));
        let refused =
            |what: &Decided| matches!(what, Decided::SilenceRefused { error: e, .. } if *e == error);
        assert!(world.records().any(refused), "{error}");
    }
    assert_eq!(world.machine.silences(now).count(), 0);
    world.input(Input::Silence(set(&|_| {})));
    let error = world.machine.check_silence(&set(&|set| set.fresh = SilenceId(10)), now);
    assert_eq!(error, Err(SilenceError::TooMany { have: 1, max: 1 }));
}

#[test]
fn an_expired_silence_is_forgotten_after_its_retention() {
    let mut world = World::new(by_event());
    let id = world.silence(5, &["event=E"], MINUTE);
    world.wait(119 * HOUR as u64);
    assert!(world.machine.silence(id).is_some());
    world.wait(2 * HOUR as u64);
    assert!(world.machine.silence(id).is_none());
}

#[test]
fn a_silence_that_the_wall_clock_jumped_over_holds_again_when_the_clock_is_back() {
    let mut world = World::new(by_event());
    let id = world.silence(5, &["event=E"], 10 * MINUTE);
    world.alert(A, Some(100 * HOUR));
    world.wait(MINUTE);
    let ten_years = 10 * 365 * 24 * HOUR;
    world.input(Input::WallClock(OFFSET + ten_years));
    let told = |world: &World| world.told().into_iter().filter(|told| told.2 == 1).count();
    world.wait(1);
    assert_eq!(told(&world), 1, "it is over then");
    world.input(Input::WallClock(OFFSET));
    world.wait(2 * MINUTE);
    let state = world.machine.silences(world.wall()).find(|view| view.silence.id == id).expect("kept").state;
    assert_eq!(state, SilenceState::Active);
    let alert = world.machine.alerts().find(|alert| alert.silenced_by(world.wall()) == [id]);
    assert!(alert.is_some(), "it holds again");
}

#[test]
fn a_silence_that_the_wall_clock_has_still_to_reach_holds_nothing() {
    for make in [by_event, each] {
        let mut world = World::new(make());
        let id = world.silence(5, &["host=a"], 10 * MINUTE);
        world.alert(A, Some(100 * HOUR));
        world.wait(MINUTE);
        assert_eq!(world.told(), []);
        world.input(Input::WallClock(OFFSET - 24 * HOUR));
        let told: Vec<_> = world.told().into_iter().filter(|told| told.0 >= MINUTE).collect();
        assert!(told.iter().any(|told| told.2 == 1), "it is still to begin: {told:?}");
        world.input(Input::WallClock(OFFSET));
        world.alert(B, Some(100 * HOUR));
        world.wait(2 * MINUTE);
        let alert = world.machine.alerts().find(|alert| alert.silenced_by(world.wall()) == [id]);
        assert!(alert.is_some(), "it holds again");
    }
}

#[test]
fn each_occurrence_is_held_and_the_last_one_told_when_the_silence_ends() {
    let mut world = World::new(each());
    let id = world.silence(5, &["host=a"], 10 * MINUTE);
    world.send(A, Some("1"), None);
    world.wait(1_000);
    world.send(A, Some("2"), None);
    world.send(B, Some("3"), None);
    assert_eq!(world.told(), [(1_000, Occurrence, 1, 0)], "only what is not silenced");
    assert_eq!(world.muted(), [Silenced { by: vec![id] }, Silenced { by: vec![id] }]);
    let mut world = world.restored();
    world.wait(2 * MINUTE);
    world.expire(id);
    assert_eq!(world.told()[1..], [(2 * MINUTE + 1_000, Occurrence, 1, 0)]);
    world.wait(HOUR as u64);
    assert_eq!(world.told().len(), 2);
}

#[test]
fn of_an_occurrence_that_was_held_to_its_end_nothing_is_told() {
    let mut world = World::new(each());
    world.silence(5, &["host=a"], 10 * MINUTE);
    world.alert(A, Some(HOUR));
    world.wait(MINUTE);
    world.alert(A, Some(0));
    world.wait(HOUR as u64);
    assert_eq!(world.told(), []);
    assert_eq!(world.holds_of_ops().last(), Some(&HoldReason::ResolvedBeforeTold));
    // One that was told is ended, silenced or not.
    let mut world = World::new(each());
    world.alert(A, Some(HOUR));
    world.silence(5, &["host=a"], 10 * MINUTE);
    world.wait(MINUTE);
    world.alert(A, Some(0));
    assert_eq!(world.told()[1..], [(MINUTE, NotifyReason::Ended, 0, 1)]);
}

#[test]
fn the_end_is_told_of_what_was_told_though_a_further_occurrence_was_held() {
    for reload in [false, true] {
        let mut world = World::new(each());
        world.alert(A, Some(HOUR));
        let id = world.silence(5, &["host=a"], 10 * MINUTE);
        world.send(A, Some("2"), Some(HOUR));
        world.send(A, Some("3"), Some(HOUR));
        assert_eq!(world.muted(), [Silenced { by: vec![id] }, Silenced { by: vec![id] }]);
        if reload {
            let mut other = each();
            other.resolve_timeout_ms += 1;
            world.install(other, vec![]);
        }
        let mut world = world.restored();
        world.wait(MINUTE);
        world.alert(A, Some(0));
        assert_eq!(world.told(), [(0, Occurrence, 1, 0), (MINUTE, NotifyReason::Ended, 0, 1)]);
        world.wait(HOUR as u64);
        assert_eq!(world.told().len(), 2);
        // The next firing is another: nobody is told of it.
        world.silence(6, &["host=a"], HOUR as u64);
        world.alert(A, Some(HOUR));
        world.send(A, Some("4"), Some(HOUR));
        world.alert(A, Some(0));
        assert_eq!(world.told().len(), 2);
        assert_eq!(world.holds_of_ops().last(), Some(&HoldReason::ResolvedBeforeTold));
    }
}

#[test]
fn a_held_occurrence_is_told_when_it_is_let_go_whatever_groups_wait_for() {
    let waits = |mut config: Config| {
        config.muting.notify_when_unmuted = false;
        config
    };
    for make in [as_alertmanager, waits] {
        let mut world = World::new(make(each()));
        let id = world.silence(5, &["host=a"], 10 * MINUTE);
        world.alert(A, Some(HOUR));
        world.wait(MINUTE);
        world.expire(id);
        assert_eq!(world.told(), [(MINUTE, Occurrence, 1, 0)], "after a silence");
        let mut world = World::new(make(with_rules(each(), node_holds_app())));
        world.alert(NODE, Some(HOUR));
        world.alert(APP, Some(HOUR));
        world.wait(MINUTE);
        world.alert(NODE, Some(0));
        let told = world.told();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.contains(&(MINUTE, Occurrence, 1, 0)), "after an alert: {told:?}");
    }
}

#[test]
fn what_happened_and_was_held_until_it_was_over_is_never_told() {
    let each = Route { goes_on: true, ..super::each() };
    let mut config = by_event();
    config.route.routes.extend([Route { matchers: matchers(&["event=E"]), ..each }, Route::default()]);
    let mut world = World::new(config.clone());
    world.far_end = None;
    world.send(A, Some("1"), None);
    world.wait(MINUTE);
    // Its group keeps it: a notification waits.
    let id = world.silence(5, &["host=a"], HOUR as u64);
    world.send(B, Some("2"), None);
    world.silence(6, &["host=b"], HOUR as u64);
    world.send(B, Some("3"), None);
    world.send(A, Some("4"), None);
    world.wait(10 * MINUTE);
    assert!(world.machine.alerts().all(|alert| !alert.is_firing()));
    world.expire(id);
    config.resolve_timeout_ms += 1;
    world.install(config, vec![]);
    let occurrences =
        world.records().filter(|what| matches!(what, Decided::Notify { reason: Occurrence, .. })).count();
    assert_eq!(occurrences, 2, "the first of each");
}

#[test]
fn what_is_held_stays_held_over_a_new_config() {
    for make in [by_event, each] {
        let mut world = World::new(make());
        let id = world.silence(5, &["host=a"], 10 * MINUTE);
        world.send(A, Some("1"), None);
        world.wait(MINUTE);
        let mut other = make();
        other.resolve_timeout_ms += 1;
        other.route.routes.insert(0, Route { matchers: matchers(&["event=X"]), ..Route::default() });
        world.install(other, vec![]);
        world.wait(MINUTE);
        assert_eq!(world.told(), []);
        world.expire(id);
        assert_eq!(world.told().len(), 1, "it is told in that moment");
        assert_eq!(world.told()[0].0, 2 * MINUTE);
    }
}

const NODE: &[(&str, &str)] = &[("event", "Down"), ("kind", "node"), ("zone", "x")];
const NODE_2: &[(&str, &str)] = &[("event", "Down"), ("kind", "node"), ("zone", "x"), ("host", "2")];
const APP: &[(&str, &str)] = &[("event", "Slow"), ("kind", "app"), ("zone", "x")];

fn node_holds_app() -> Vec<InhibitRule> {
    vec![rule(&["kind=node"], &["kind=app"], &["zone"])]
}

#[test]
fn a_target_is_held_for_as_long_as_any_of_its_sources_fires() {
    let mut world = World::new(with_rules(by_event(), node_holds_app()));
    world.alert(NODE, Some(10 * HOUR));
    world.alert(NODE_2, Some(10 * HOUR));
    world.alert(APP, Some(10 * HOUR));
    world.wait(10 * MINUTE);
    assert_eq!(world.told(), [(30_000, FirstTime, 2, 0)]);
    let held = world.machine.alerts().find(|alert| alert.inhibited_by().len() == 2);
    assert!(held.is_some(), "all that inhibit are shown");
    world.alert(NODE, Some(0));
    let mut world = world.restored();
    world.wait(10 * MINUTE);
    assert_eq!(world.told()[1..], [(10 * MINUTE + 30_000, SomeResolved, 1, 1)], "the other one still holds");
    world.alert(NODE_2, Some(0));
    world.wait(10 * MINUTE);
    let at = 20 * MINUTE + 30_000;
    assert_eq!(world.told()[2..], [(at, AllResolved, 0, 1), (at, FirstTime, 1, 0)], "at the next turn");
}

#[test]
fn labels_that_must_be_equal_may_be_absent_in_both() {
    let no_zone: &[(&str, &str)] = &[("event", "Slow"), ("kind", "app")];
    let node: &[(&str, &str)] = &[("event", "Down"), ("kind", "node")];
    for (source, held) in [(node, true), (NODE, false)] {
        let mut world = World::new(with_rules(by_event(), node_holds_app()));
        world.alert(source, Some(HOUR));
        world.alert(no_zone, Some(HOUR));
        world.wait(MINUTE);
        assert_eq!(world.told().len(), if held { 1 } else { 2 }, "{source:?}");
    }
}

/// The rules of an alertmanager.yml were written for a world in which the router raises no alerts.
#[test]
fn own_alerts_hold_nothing_back_where_there_are_none_in_alertmanager() {
    for (as_there, told) in [(false, vec![]), (true, vec![FirstTime])] {
        let rules = vec![rule(&["event=Startup"], &["event=E"], &[])];
        let mut config = with_rules(by_event(), rules);
        config = if as_there { as_alertmanager(config) } else { config };
        let mut world = World::new(config);
        world.start();
        world.alert(A, Some(HOUR));
        world.wait(MINUTE);
        let mut world = world.restored();
        world.wait(MINUTE);
        assert_eq!(world.told().iter().map(|told| told.1).collect::<Vec<_>>(), told);
    }
}

#[test]
fn no_alert_holds_itself_back_nor_two_each_other() {
    let rules = vec![rule(&["zone=x"], &["zone=x"], &[])];
    let mut world = World::new(with_rules(by_event(), rules));
    world.alert(NODE, Some(HOUR));
    world.alert(APP, Some(HOUR));
    world.wait(MINUTE);
    assert_eq!(world.told().len(), 2, "both match both sides");
    // A source of one side holds a target of both sides.
    let rules = vec![rule(&["zone=x"], &["kind=app"], &[])];
    let mut world = World::new(with_rules(by_event(), rules));
    world.alert(NODE, Some(HOUR));
    world.alert(APP, Some(HOUR));
    world.wait(MINUTE);
    assert_eq!(world.told(), [(30_000, FirstTime, 1, 0)]);
}

#[test]
fn source_and_target_of_one_batch_are_known_before_anything_is_told() {
    let mut builder = BatchBuilder::default();
    for (labels, id) in [(APP, "1"), (NODE, "2")] {
        for (name, value) in labels {
            builder.label(name, value);
        }
        builder.finish_alert(AlertTimes::default(), Some(id), None).expect("valid");
    }
    let mut world = World::new(with_rules(each(), node_holds_app()));
    world.input(Input::Alerts(Arrival { client: "test".into(), batch: builder.finish().into() }));
    assert_eq!(world.told(), [(0, Occurrence, 1, 0)]);
    assert!(matches!(world.muted()[..], [HoldReason::Inhibited { .. }]), "{:?}", world.muted());
}

/// At 1,700,000,000 s it is 22:13:20 UTC, a Tuesday.
fn with_times(mut config: Config, mute: bool, start: u16, end: u16) -> Config {
    let span = Span { times: vec![TimeRange { start, end }], ..Span::default() };
    config.time_intervals = vec![TimeInterval { name: "it".into(), spans: vec![span] }];
    let names = vec!["it".into()];
    let route = Route { matchers: matchers(&["event=E"]), ..Route::default() };
    config.route.routes.push(if mute {
        Route { mute_time_intervals: names, ..route }
    } else {
        Route { active_time_intervals: names, ..route }
    });
    config
}

#[test]
fn what_a_time_interval_mutes_is_told_when_it_ends() {
    let minute_of_day = |hour: u16, minute: u16| hour * 60 + minute;
    // 22:20 is 400 s after the beginning.
    let at_22_20 = 400_000;
    let rows = [
        (with_times(by_event(), true, minute_of_day(22, 0), minute_of_day(22, 20)), at_22_20),
        (with_times(by_event(), false, minute_of_day(22, 20), minute_of_day(23, 0)), at_22_20),
        // The turns are at 30 s, and each minute after.
        (as_alertmanager(with_times(by_event(), true, minute_of_day(22, 0), minute_of_day(22, 20))), 450_000),
        (with_times(each(), true, minute_of_day(22, 0), minute_of_day(22, 20)), at_22_20),
    ];
    for (config, told_at) in rows {
        let mut world = World::new(config);
        world.alert(A, Some(100 * HOUR));
        world.wait(3 * MINUTE);
        assert_eq!(world.told(), []);
        let mut world = world.restored();
        world.wait(10 * MINUTE);
        assert_eq!(world.told().iter().map(|told| told.0).collect::<Vec<_>>(), [told_at]);
        assert_eq!(world.muted().len(), 1, "on record once: {:?}", world.muted());
    }
}

#[test]
fn an_alert_that_comes_alone_and_may_hold_others_back_is_taken_in() {
    let mut world = World::new(with_rules(each(), node_holds_app()));
    world.send(NODE, Some("1"), Some(HOUR));
    world.send(APP, Some("2"), Some(HOUR));
    assert_eq!(world.told(), [(0, Occurrence, 1, 0)]);
    assert!(matches!(world.muted()[..], [HoldReason::Inhibited { .. }]), "{:?}", world.muted());
    world.wait(MINUTE);
    world.alert(NODE, Some(0));
    let told = world.told();
    assert!(told.contains(&(MINUTE, NotifyReason::Ended, 0, 1)), "its end, too: {told:?}");
    assert!(told.contains(&(MINUTE, Occurrence, 1, 0)), "{told:?}");
}

#[test]
fn a_later_alert_waits_no_longer_than_its_own_group_wait_where_the_route_says_so() {
    for (each, told_at) in [(Some(true), 100_000), (None, 10 * MINUTE + 30_000)] {
        let route = Route { group_wait_each: each, group_interval_ms: Some(10 * MINUTE), ..grouped() };
        let mut world = World::new(config(vec![action("ops", "log")], route));
        world.alert(A, Some(HOUR));
        world.wait(70_000);
        world.alert(B, Some(HOUR));
        world.wait(20 * MINUTE);
        assert_eq!(world.told()[1], (told_at, NewAlerts, 2, 0));
    }
}

/// What fires anew while a notification without it is under way is no old acquaintance.
#[test]
fn what_fires_anew_beside_a_repeat_under_way_is_told_after_it() {
    let mut page = action("ops", "page");
    page.send_resolved = false;
    let mut world = World::new(config(vec![page], grouped()));
    world.alert(A, Some(10 * HOUR));
    world.alert(B, Some(10 * HOUR));
    world.wait(MINUTE);
    world.alert(B, Some(0));
    world.far_end = None;
    world.wait(62 * MINUTE);
    assert_eq!(world.told().last(), Some(&(61 * MINUTE + 30_000, NotifyReason::RepeatDue, 1, 0)));
    world.alert(B, Some(10 * HOUR));
    world.outcome_of_last(Ok(Receipt::Sent));
    world.wait(2 * MINUTE);
    assert_eq!(world.told().last(), Some(&(63 * MINUTE + 30_000, NewAlerts, 2, 0)));
}

/// Without `resolve_when_muted` alone, and with it: what ends while it is inhibited, or muted by the time.
#[test]
fn an_end_that_comes_while_inhibited_or_in_mute_time_is_told_to_those_who_know_of_the_beginning() {
    let minute_of_day = |hour: u16, minute: u16| hour * 60 + minute;
    // From 100 s to 1,000 s after the beginning.
    let timed = || with_times(by_event(), true, minute_of_day(22, 15), minute_of_day(22, 30));
    for resolve_when_muted in [true, false] {
        let muting = Muting { resolve_when_muted, ..Muting::default() };
        let told_of = |world: &World, from: usize| world.told()[from..].to_vec();
        let mut world = World::new(Config { muting, ..with_rules(by_event(), node_holds_app()) });
        world.alert(APP, Some(10 * HOUR));
        world.wait(MINUTE);
        world.alert(NODE, Some(10 * HOUR));
        world.wait(MINUTE);
        assert_eq!(world.told(), [(30_000, FirstTime, 1, 0), (90_000, FirstTime, 1, 0)]);
        world.alert(APP, Some(0));
        let mut world = world.restored();
        world.wait(20 * MINUTE);
        let ended = if resolve_when_muted { vec![(150_000, AllResolved, 0, 1)] } else { vec![] };
        assert_eq!(told_of(&world, 2), ended, "inhibited, {resolve_when_muted}");

        let mut world = World::new(Config { muting, ..timed() });
        world.alert(A, Some(10 * HOUR));
        world.wait(2 * MINUTE);
        world.alert(A, Some(0));
        let mut world = world.restored();
        world.wait(HOUR as u64);
        assert_eq!(world.told()[0], (30_000, FirstTime, 1, 0));
        assert_eq!(told_of(&world, 1), ended, "in mute time, {resolve_when_muted}");
    }
}

/// Of a silence the same, which is the only thing that `resolve_when_muted: false` changes.
#[test]
fn without_resolve_when_muted_an_end_in_a_silence_is_told_to_nobody_and_a_beginning_as_ever() {
    let muting = Muting { resolve_when_muted: false, ..Muting::default() };
    let mut world = World::new(Config { muting, ..by_event() });
    world.alert(A, Some(HOUR));
    world.wait(MINUTE);
    let id = world.silence(5, &["host=a"], HOUR as u64);
    world.alert(A, Some(0));
    world.wait(10 * MINUTE);
    assert_eq!(world.told(), [(30_000, FirstTime, 1, 0)]);
    world.alert(A, Some(HOUR));
    world.wait(MINUTE);
    world.expire(id);
    world.wait(MINUTE);
    // At once when the silence ends: `notify_when_unmuted` holds as before.
    assert_eq!(world.told()[1..].iter().map(|told| told.0).collect::<Vec<_>>(), [12 * MINUTE]);
}

/// `notify_when_unmuted: false` alone: what a silence held is told at the group's next turn.
#[test]
fn without_notify_when_unmuted_what_was_held_is_told_at_the_next_turn() {
    let muting = Muting { notify_when_unmuted: false, ..Muting::default() };
    let mut world = World::new(Config { muting, ..by_event() });
    world.silence(5, &["event=E"], 10 * MINUTE);
    world.alert(A, Some(HOUR));
    world.wait(20 * MINUTE);
    assert_eq!(world.told(), [(10 * MINUTE + 30_000, FirstTime, 1, 0)]);
    // Ends are told though it is muted: `resolve_when_muted` holds as before.
    world.silence(6, &["event=E"], HOUR as u64);
    world.alert(A, Some(0));
    world.wait(5 * MINUTE);
    assert_eq!(world.told()[1..].iter().map(|told| told.1).collect::<Vec<_>>(), [AllResolved]);
}

/// At the end of a mute time those are told who were not before it, and nobody else.
#[test]
fn who_was_told_before_a_mute_time_is_not_told_again_when_it_ends() {
    let minute_of_day = |hour: u16, minute: u16| hour * 60 + minute;
    // From 100 s to 400 s after the beginning.
    let config = || with_times(by_event(), true, minute_of_day(22, 15), minute_of_day(22, 20));
    let mut world = World::new(config());
    world.alert(A, Some(10 * HOUR));
    let mut world = {
        world.wait(3 * MINUTE);
        world.restored()
    };
    world.wait(20 * MINUTE);
    assert_eq!(world.told(), [(30_000, FirstTime, 1, 0)]);
    let mut world = World::new(config());
    world.alert(A, Some(10 * HOUR));
    world.wait(3 * MINUTE);
    world.alert(B, Some(10 * HOUR));
    world.wait(20 * MINUTE);
    assert_eq!(world.told(), [(30_000, FirstTime, 1, 0), (400_000, NewAlerts, 2, 0)]);
}
