//! Whatever one input does to many rows is done in pieces, with the same effects as in one go. Pieces are counted, not
//! timed: a piece looks at some hundred rows at most, or works on one.

use ams2_core::{
    At, Config, Effect, Input, Machine, Position, Wall,
    batch::{AlertTimes, BatchBuilder},
    config::{ActionId, ActionSpec, GroupBy, Install, Notify, Receiver, Removed, Route},
    input::{
        Acknowledge, Arrival, Carried, CarriedItem, CarriedText, DeliveryCommand, DeliverySelection,
        DeliveryVerb, Failure, JournalRecord, Outcome, Receipt, Recipient, Started,
    },
    machine::Step,
    matcher::Matcher,
};

const ALERTS: u32 = 20_000;
/// Rows that a piece may pass over.
const ROWS_MAX: usize = 256;

fn config(notify: Notify, group_by: GroupBy, actions: usize) -> Config {
    let action = |number: usize| ActionSpec {
        id: ActionId { receiver: "ops".into(), kind: "log".into(), name: format!("{number}").into() },
        send_resolved: true,
        max_in_flight: 100,
        batch_max: 100,
        max_per_minute: None,
        timeout_ms: 10_000,
        patient: false,
        pending_max: None,
    };
    let actions = (0..actions).map(action).collect();
    let route = Route { notify: Some(notify), group_by: Some(group_by), ..Route::default() };
    Config::single(Receiver { name: "ops".into(), actions }, route)
}

/// Two machines that fold the same records, one in pieces as small as there are.
struct Pair {
    whole: Machine,
    pieces: Machine,
    at: u64,
    effects: Vec<Effect>,
}

impl Pair {
    fn new(config: Config) -> Pair {
        let (whole, pieces) = (Machine::new(), Machine::new());
        let mut pair = Pair { whole, pieces, at: 0, effects: vec![] };
        pair.start();
        pair.install(config);
        pair
    }

    /// How many pieces the input took.
    fn fold(&mut self, input: Input) -> usize {
        let record = JournalRecord { seq: self.whole.next_seq(), at: At(self.at), input };
        self.whole.apply_whole(record.clone());
        self.pieces.apply(record);
        let mut count = 1;
        while self.pieces.step(1) == Step::More {
            count += 1;
        }
        self.effects = std::iter::from_fn(|| self.whole.next_effect()).collect();
        let others: Vec<Effect> = std::iter::from_fn(|| self.pieces.next_effect()).collect();
        assert!(self.effects == others, "the effects differ");
        assert!(self.whole.snapshot() == self.pieces.snapshot(), "the states differ");
        count
    }

    fn start(&mut self) -> usize {
        self.fold(Input::Started(Started {
            incarnation: 1,
            seed: [1, 2],
            wall_offset_ms: 0,
            version: "test".into(),
            damage: vec![],
            install: None,
        }))
    }

    fn install(&mut self, config: Config) -> usize {
        let (text, by) = (String::new(), "test".into());
        let install = Install { config, text, rule_version: 1, removed: vec![], by };
        self.fold(Input::ConfigInstalled(install.into()))
    }

    fn alerts(&mut self, first: u32, ids: bool, ends_at: Option<Wall>) -> usize {
        let mut builder = BatchBuilder::default();
        for number in first..first + ALERTS {
            builder.label("event", "Virus Found");
            builder.label("host", &format!("host-{number}"));
            let id = ids.then(|| format!("{number}"));
            let times = AlertTimes { starts_at: None, ends_at };
            builder.finish_alert(times, id.as_deref(), None).expect("valid");
        }
        self.fold(Input::Alerts(Arrival { client: "test".into(), batch: builder.finish().into() }))
    }

    fn wait(&mut self, milliseconds: u64) -> usize {
        self.at += milliseconds;
        self.fold(Input::Advanced)
    }

    /// Every attempt under way fails for good.
    fn refuse_all(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        while let Some(effect) = effects.pop() {
            let Effect::Deliver(deliver) = effect else { continue };
            let (delivery, attempt) = (deliver.delivery, deliver.attempt);
            let result = Err(Failure::permanent("550"));
            let record = JournalRecord {
                seq: self.whole.next_seq(),
                at: At(self.at),
                input: Input::Outcome(Outcome { delivery, attempt, result, took_ms: 1, led: true }),
            };
            self.pieces.apply_whole(record.clone());
            self.whole.apply_whole(record);
            while self.pieces.next_effect().is_some() {}
            effects.extend(std::iter::from_fn(|| self.whole.next_effect()));
        }
    }
}

fn by_event() -> GroupBy {
    GroupBy::Labels(vec!["event".into()])
}

#[track_caller]
fn assert_pieces(count: usize, rows: usize) {
    let least = rows / ROWS_MAX;
    assert!(count >= least, "{count} pieces for {rows} rows; at least {least} were wanted");
}

#[test]
fn what_concerns_many_alerts_is_done_in_pieces() {
    let rows = ALERTS as usize;
    let mut pair = Pair::new(config(Notify::Group, by_event(), 3));
    assert_pieces(pair.alerts(0, true, Some(Wall(100_000_000))), rows * ROWS_MAX);
    let looked = pair.wait(40_000);
    assert!(looked >= 3, "a look at a large group pauses after each action, not {looked}");
    let host = Matcher::parse("host=~\"host-.*\"").expect("valid");
    let acknowledge = |withdraw| {
        let (matchers, by, comment) = (vec![host.clone()], "ann".into(), String::new());
        Input::Acknowledge(Acknowledge {
            matchers,
            key: None,
            by,
            until: Some(At(5_000_000)),
            comment,
            withdraw,
        })
    };
    assert_pieces(pair.fold(acknowledge(false)), rows);
    assert_pieces(pair.fold(acknowledge(true)), rows);
    let item = |n: u64| CarriedItem { from: Position::arrived(3 + n), text: CarriedText::Lost };
    assert_pieces(pair.fold(Input::Carried(Carried { items: (0..500).map(item).collect() })), rows);
    pair.at = 100_000_000;
    assert_pieces(pair.wait(1), rows * ROWS_MAX);
    pair.wait(600_000);
    let of_ids = pair.alerts(rows as u32, true, None);
    assert!(of_ids > rows + rows / ROWS_MAX, "{of_ids} pieces, and {rows} ids were too old");
}

#[test]
fn a_config_change_over_many_groups_is_done_in_pieces() {
    let rows = ALERTS as usize;
    let mut pair = Pair::new(config(Notify::Group, GroupBy::All, 2));
    pair.alerts(0, false, Some(Wall(100_000_000)));
    pair.wait(40_000);
    let changed = pair.install(config(Notify::Group, by_event(), 1));
    assert!(changed >= 3 * rows, "{changed} pieces: groups taken away, alerts routed, deliveries seen to");
    assert!(pair.whole.deliveries().count() > rows);
}

#[test]
fn a_word_of_an_operator_and_a_start_are_done_in_pieces() {
    let rows = ALERTS as usize;
    let mut pair = Pair::new(config(Notify::Each, by_event(), 1));
    pair.alerts(0, true, None);
    assert!(pair.start() >= 10_000, "as many attempts were under way");
    pair.refuse_all();
    let command = |verb| {
        let (which, by) = (DeliverySelection::DeadLetters, "ann".into());
        Input::Deliveries(DeliveryCommand { which, verb, by })
    };
    assert_pieces(pair.fold(command(DeliveryVerb::Retry)), rows * ROWS_MAX);
    pair.refuse_all();
    assert_pieces(pair.fold(command(DeliveryVerb::Drop)), rows * ROWS_MAX);
}

/// Pieces of a digest have 32 deliveries at most: so many times more of them than of rows that are passed over.
const PER_32: usize = ROWS_MAX / 32;

/// The outcome of the attempt under way.
fn outcome_of(pair: &mut Pair, result: Result<Receipt, Failure>) -> usize {
    let mut delivers = pair.effects.iter().filter_map(|effect| match effect {
        Effect::Deliver(deliver) => Some(deliver),
        _ => None,
    });
    let deliver = delivers.next_back().expect("an attempt");
    let (delivery, attempt) = (deliver.delivery, deliver.attempt);
    pair.fold(Input::Outcome(Outcome { delivery, attempt, result, took_ms: 1, led: true }))
}

/// Machines with a digest of all alerts but one, whose attempt is under way.
fn with_digest() -> Pair {
    let mut limited = config(Notify::Each, by_event(), 1);
    let action = &mut limited.receivers[0].actions[0];
    (action.batch_max, action.max_in_flight, action.max_per_minute) = (1, 10, Some(2));
    let mut pair = Pair::new(limited);
    // What ams2 says of its own start and config took two attempts of this minute; they stay under way.
    pair.wait(60_000);
    let rows = ALERTS as usize;
    assert_pieces(pair.alerts(0, true, None), rows * ROWS_MAX + 3 * rows * PER_32);
    let digests = pair.effects.iter().filter(|effect| match effect {
        Effect::Deliver(deliver) => deliver.digest_of.len() == rows - 1,
        _ => false,
    });
    assert_eq!(digests.count(), 1);
    pair
}

#[test]
fn whatever_becomes_of_a_large_digest_is_done_in_pieces() {
    let rows = ALERTS as usize;
    let mut pair = with_digest();
    assert_pieces(outcome_of(&mut pair, Err(Failure::transient("later"))), rows * PER_32);
    assert_pieces(pair.wait(60_000), rows * PER_32);
    let partly = Receipt::Delivered {
        reply: String::new(),
        memo: None,
        unfinished: vec![Recipient(1)],
        refused: vec![(Recipient(0), "550".into()), (Recipient(2), "550".into())],
    };
    assert_pieces(outcome_of(&mut pair, Ok(partly)), 3 * rows * PER_32);
    assert_eq!(pair.whole.deliveries().count(), 3 * (rows - 1) + 3, "two recipients are dead letters");
    assert_pieces(pair.wait(60_000), rows * PER_32);
    assert_pieces(outcome_of(&mut pair, Ok(Receipt::Sent)), rows * PER_32);
    assert_eq!(pair.whole.deliveries().count(), 2 * (rows - 1) + 3);
}

#[test]
fn a_large_digest_is_given_up_or_moved_in_pieces() {
    let rows = ALERTS as usize;
    let mut pair = with_digest();
    pair.at += 100 * 3_600_000;
    assert_pieces(outcome_of(&mut pair, Err(Failure::transient("later"))), 2 * rows * PER_32);
    assert_eq!(pair.whole.totals().dead_lettered as usize, rows - 1);

    let mut pair = with_digest();
    outcome_of(&mut pair, Err(Failure::transient("later")));
    let mut other = config(Notify::Each, by_event(), 1);
    let mut actions = std::mem::take(&mut other.receivers[0].actions);
    actions[0].id.receiver = "desk".into();
    other.receivers.push(Receiver { name: "desk".into(), actions });
    let gone = ActionId { receiver: "ops".into(), kind: "log".into(), name: "0".into() };
    let removed = vec![(gone, Removed::MoveTo("desk".into()))];
    let install = Install { config: other, text: String::new(), rule_version: 1, removed, by: "test".into() };
    let moved = pair.fold(Input::ConfigInstalled(install.into()));
    // Alerts are routed anew one by one.
    assert_pieces(moved, rows * ROWS_MAX + 2 * rows * PER_32);
    let waits = pair.whole.pending();
    assert_eq!((waits[0].pending, waits[1].pending as usize >= rows - 1), (3, true), "{waits:?}");
}
