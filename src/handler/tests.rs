//! What the handler promises: outcomes for every attempt, and no action that holds up another.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use ams2_core::{
    At, BatchBuilder, Wall,
    batch::AlertTimes,
    effect::{GroupName, Notification, NotifyReason},
    input::{DeliveryId, FailureKind},
};

struct Memory;

/// Nothing can be read at this place now.
const UNREADABLE: u64 = 666;

impl Texts for Memory {
    fn alert(&self, position: Position) -> Result<StoredAlert, TextError> {
        if position == Position::arrived(UNREADABLE) {
            return Err(TextError::Unreadable("EIO".into()));
        }
        let mut builder = BatchBuilder::default();
        builder.label("event", "E");
        builder.label("seq", &position.to_string());
        builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
        Ok(StoredAlert { client: "test".into(), at: At(0), batch: builder.finish() })
    }
}

/// The config at position 7 had the action `ok` answer with its own name.
struct Formerly;

impl Former for Formerly {
    fn action(&self, id: &ActionId, version: Position) -> Option<Arc<Worded>> {
        (version == Position::arrived(7) && id.kind == "ok").then(|| {
            let calls = Arc::new(AtomicUsize::new(0));
            let action = Arc::new(Scripted { how: "former", batch_max: 10, calls });
            Arc::new(Worded { action, max_alerts: 0, site: Arc::default() })
        })
    }
}

/// Does what its name says, and counts the calls.
#[derive(Debug)]
struct Scripted {
    how: &'static str,
    batch_max: usize,
    calls: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Action for Scripted {
    fn batch_max(&self) -> usize {
        self.batch_max
    }

    async fn deliver(&self, batch: &[Delivery], _: Duration) -> Vec<Result<Receipt, Failure>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.how {
            "hang" => std::future::pending().await,
            "panic" => panic!("an action's own fault"),
            "short" => Vec::new(),
            "former" => vec![Ok(Receipt::delivered("in former words")); batch.len()],
            "long words" => vec![Ok(Receipt::delivered("ä".repeat(10_000))); batch.len()],
            _ => vec![Ok(Receipt::delivered(batch[0].groups[0].alerts[0].label("seq"))); batch.len()],
        }
    }

    async fn probe(&self, _: Duration) -> Result<String, String> {
        Ok("well".into())
    }
}

fn id(kind: &str) -> ActionId {
    ActionId { receiver: "ops".into(), kind: kind.into(), name: "0".into() }
}

fn attempt(kind: &str, number: u128) -> Attempt {
    let told = Notification {
        group: Arc::new(GroupName { key: "{}:{}".into(), labels: vec![] }),
        number: 1,
        reason: NotifyReason::FirstTime,
        decided_at: At(0),
        decided_wall: Wall(0),
        config: Position::default(),
        alerts: Arc::from(
            // The router alone makes these; a snapshot of one is the way in for a test.
            vec![serde_json::from_str(r#"{"position":262144,"start":5,"end":0}"#).expect("a noted alert")],
        ),
    };
    let deliver = Deliver {
        delivery: DeliveryId(number),
        action: id(kind),
        attempt: 1,
        maybe_duplicate: false,
        notifications: vec![Arc::new(told)],
        digest_of: vec![],
        unfinished: None,
        memo: None,
        send_resolved: true,
        goes_on: false,
    };
    Attempt { deliver: Box::new(deliver), own_texts: vec![] }
}

struct World {
    handler: Handler,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    calls: Arc<AtomicUsize>,
}

fn world(actions: &[(&'static str, usize, usize)]) -> World {
    let (sender, outcomes) = mpsc::unbounded_channel();
    let send: Outcomes = Arc::new(move |outcome| drop(sender.send(outcome)));
    let handler = Handler::new(
        Arc::new(Memory),
        Arc::new(Formerly),
        send,
        tokio::runtime::Handle::current(),
        text_readers(),
    );
    let calls = Arc::new(AtomicUsize::new(0));
    install(&handler, &calls, actions);
    World { handler, outcomes, calls }
}

fn text_readers() -> Pool {
    Pool::of_the_runtime()
}

fn install(handler: &Handler, calls: &Arc<AtomicUsize>, actions: &[(&'static str, usize, usize)]) {
    let ready = |how, slots, batch_max| Ready {
        action: Arc::new(Scripted { how, batch_max, calls: calls.clone() }),
        slots,
        timeout: Duration::from_secs(3600),
        max_alerts: 0,
    };
    handler.install(
        actions.iter().map(|(how, slots, batch)| (id(how), ready(how, *slots, *batch))).collect(),
        Site::default(),
    );
}

#[tokio::test(start_paused = true)]
async fn a_config_changes_the_slots_of_an_action_while_calls_are_under_way() {
    let mut world = world(&[("hang", 4, 1)]);
    let began = tokio::time::Instant::now();
    let call = Duration::from_secs(3600) + DEADLINE_GRACE;
    for number in 0..10 {
        world.handler.submit(attempt("hang", number));
    }
    while world.calls.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    let mut ended = Vec::new();
    for (slots, calls) in [(1, 7), (3, 3)] {
        install(&world.handler, &world.calls, &[("hang", slots, 1)]);
        for _ in 0..calls {
            world.outcomes.recv().await.expect("an outcome");
            ended.push(began.elapsed().as_millis() / call.as_millis());
        }
    }
    assert_eq!(ended, [1, 1, 1, 1, 2, 3, 4, 5, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn an_action_that_hangs_holds_its_own_slots_and_nothing_else() {
    let mut world = world(&[("hang", 2, 1), ("well", 1, 1)]);
    for number in 0..10 {
        world.handler.submit(attempt("hang", number));
    }
    for number in 100..200 {
        world.handler.submit(attempt("well", number));
    }
    for _ in 0..100 {
        let outcome = world.outcomes.recv().await.expect("an outcome");
        assert!(outcome.delivery.0 >= 100 && outcome.result.is_ok());
    }
    let hanging = world.calls.load(Ordering::SeqCst) - 100;
    assert_eq!(hanging, 2, "two slots, two calls");
    // An hour later the deadline cuts the first two off, and the next two have their turn.
    let outcome = world.outcomes.recv().await.expect("an outcome");
    assert_eq!(outcome.result.expect_err("cut off").kind, FailureKind::Transient);
}

#[tokio::test]
async fn every_attempt_has_an_outcome_whatever_the_action_does() {
    for how in ["panic", "short", "long words", "well"] {
        let mut world = world(&[(how, 1, 10)]);
        for number in 0..5 {
            world.handler.submit(attempt(how, number));
        }
        for _ in 0..5 {
            let outcome = world.outcomes.recv().await.expect("an outcome");
            match outcome.result {
                Ok(Receipt::Delivered { reply, .. }) => assert!(reply.len() <= REPLY_BYTES_MAX, "{how}"),
                other => assert!(other.is_err() && how != "well", "{how}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_waits_goes_out_in_one_batch() {
    let mut world = world(&[("well", 1, 100)]);
    for number in 0..100 {
        world.handler.submit(attempt("well", number));
    }
    for _ in 0..100 {
        assert!(world.outcomes.recv().await.expect("an outcome").result.is_ok());
    }
    assert!(world.calls.load(Ordering::SeqCst) < 50, "{} calls", world.calls.load(Ordering::SeqCst));
}

/// Attempts of which each goes on with the next, the last excepted.
fn train(numbers: std::ops::Range<u128>) -> Vec<Attempt> {
    let last = numbers.end - 1;
    let of = |number| {
        let mut attempt = attempt("well", number);
        attempt.deliver.goes_on = number < last;
        attempt
    };
    numbers.map(of).collect()
}

#[tokio::test]
async fn what_belongs_into_one_call_is_not_torn_apart() {
    let mut world = world(&[("well", 4, 10)]);
    let trains = [train(0..3), train(3..12), train(12..13), train(13..20)];
    let (first, rest) = (trains[0].len(), trains.iter().map(Vec::len).sum::<usize>());
    for attempt in trains.into_iter().flatten() {
        world.handler.submit(attempt);
        // The worker looks at what is there before the rest has come.
        tokio::task::yield_now().await;
    }
    let mut led = Vec::new();
    for _ in 0..rest {
        let outcome = world.outcomes.recv().await.expect("an outcome");
        assert!(outcome.result.is_ok());
        if outcome.led {
            led.push(outcome.delivery.0);
        }
    }
    led.sort_unstable();
    assert!(led.iter().all(|number| [0, 3, 12, 13].contains(number)), "{led:?}");
    assert!(led.contains(&(first as u128)), "twelve do not fit into one call: {led:?}");
}

#[tokio::test]
async fn what_stands_behind_an_unreadable_text_in_its_lane_waits_for_it() {
    let mut world = world(&[("well", 1, 10)]);
    let noted = format!(r#"{{"position":{},"start":5,"end":0}}"#, UNREADABLE << 16);
    for mut attempt in train(0..4).into_iter().chain(train(4..5)) {
        if attempt.deliver.delivery.0 == 1 {
            let told = Arc::make_mut(&mut attempt.deliver.notifications[0]);
            told.alerts = vec![serde_json::from_str(&noted).expect("a noted alert")].into();
        }
        world.handler.submit(attempt);
    }
    let mut well = Vec::new();
    for _ in 0..5 {
        let outcome = world.outcomes.recv().await.expect("an outcome");
        well.extend(outcome.result.is_ok().then_some(outcome.delivery.0));
    }
    assert_eq!(well, [0, 4]);
}

#[tokio::test]
async fn what_becomes_of_deliveries_of_an_action_that_is_gone_is_left_to_the_router() {
    let mut world = world(&[]);
    world.handler.submit(attempt("gone", 1));
    let outcome = world.outcomes.recv().await.expect("an outcome");
    assert_eq!(outcome.result.expect_err("gone").kind, FailureKind::Transient);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_told_in_the_words_of_the_config_that_decided_it() {
    let mut world = world(&[("ok", 1, 10)]);
    for number in 1..=4 {
        let mut attempt = attempt("ok", number);
        if number % 2 == 0 {
            Arc::make_mut(&mut attempt.deliver.notifications[0]).config = Position::arrived(7);
        }
        world.handler.submit(attempt);
    }
    let mut replies = Vec::new();
    for _ in 1..=4 {
        let outcome = world.outcomes.recv().await.expect("an outcome");
        let Ok(Receipt::Delivered { reply, .. }) = outcome.result else { panic!("{outcome:?}") };
        assert!(outcome.led, "one call does not speak in the words of two configs");
        replies.push((outcome.delivery.0, reply));
    }
    replies.sort();
    let words: Vec<&str> = replies.iter().map(|(_, reply)| reply.as_str()).collect();
    assert_eq!(words, ["4", "in former words", "4", "in former words"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_ends_with_so_many_alerts_that_their_texts_fit_into_memory() {
    let mut world = world(&[("well", 1, 1000)]);
    let noted = attempt("well", 0).deliver.notifications[0].alerts[0];
    for number in 0..10 {
        let mut attempt = attempt("well", number);
        Arc::make_mut(&mut attempt.deliver.notifications[0]).alerts = vec![noted; BATCH_ALERTS / 2].into();
        world.handler.submit(attempt);
    }
    for _ in 0..10 {
        assert!(world.outcomes.recv().await.expect("an outcome").result.is_ok());
    }
    // The first may go alone, before the others have come.
    assert!(world.calls.load(Ordering::SeqCst) >= 5, "{} calls", world.calls.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_test_fails_while_its_caller_still_listens() {
    let calls = Arc::new(AtomicUsize::new(0));
    let action = Arc::new(Scripted { how: "hang", batch_max: 1, calls });
    let outcomes: Outcomes = Arc::new(|_| {});
    let handler = Handler::new(
        Arc::new(Memory),
        Arc::new(Formerly),
        outcomes,
        tokio::runtime::Handle::current(),
        text_readers(),
    );
    let ready = Ready { action, slots: 1, timeout: Duration::from_secs(60), max_alerts: 0 };
    handler.install(vec![(id("hang"), ready)], Site::default());
    let began = tokio::time::Instant::now();
    let which = id("hang");
    let (first, second) = tokio::join!(handler.test(&which), handler.test(&which));
    assert!(began.elapsed() < Duration::from_secs(29), "{:?}", began.elapsed());
    let words = |result: Option<Result<Receipt, Failure>>| result.expect("known").expect_err("hangs").reason;
    assert_eq!(words(first), "no answer within 15s");
    assert_eq!(words(second), "every slot of the action is taken by other attempts");
}

/// Alerts of which the last is critical, and the others are warnings.
struct Ranked(u64);

impl Texts for Ranked {
    fn alert(&self, position: Position) -> Result<StoredAlert, TextError> {
        let mut builder = BatchBuilder::default();
        builder.label("event", "E");
        builder.label("seq", &position.seq().to_string());
        builder.label("severity", if position.seq() == self.0 { "critical" } else { "warning" });
        builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
        Ok(StoredAlert { client: "test".into(), at: At(0), batch: builder.finish() })
    }
}

#[test]
fn what_is_new_and_then_what_is_severe_is_shown_and_what_is_not_shown_counts() {
    const NEW: u32 = 1 << 31;
    let noted = |number: u64, end: u32| {
        let position = number << 16;
        let text = format!(r#"{{"position":{position},"start":0,"end":{end}}}"#);
        serde_json::from_str(&text).expect("a noted alert")
    };
    let of = |count: u64, new: &[u64], max_alerts: usize| {
        let mut attempt = attempt("well", 1);
        let told = Arc::make_mut(&mut attempt.deliver.notifications[0]);
        told.alerts = (1..=count).map(|n| noted(n, if new.contains(&n) { NEW } else { 0 })).collect();
        let site = Site { severities: ams2_core::Severities::default(), ..Site::default() };
        delivery(&attempt, &Ranked(count), max_alerts, &site).expect("readable")
    };
    let numbers =
        |delivery: &Delivery| -> Vec<u64> { delivery.alerts().map(|alert| alert.sequence).collect() };
    let told = of(121, &[7, 121], 100);
    let expected: Vec<u64> = [121, 7].into_iter().chain((1..100).filter(|n| *n != 7)).collect();
    assert_eq!(numbers(&told), expected);
    assert_eq!((told.hidden(), told.firing()), (21, 121));
    assert_eq!(told.alerts().filter(|alert| alert.new).count(), 2);
    // The critical one is not shown where it is not new.
    let told = of(121, &(1..=100).collect::<Vec<u64>>(), 100);
    assert!(told.alerts().all(|alert| alert.label("severity") == "warning"));
    assert_eq!(told.severity(), Some(ams2_core::Severity::Critical));
    assert_eq!((told.event(), told.common_labels().len()), ("E", 1), "no severity is common to all");
    assert_eq!(numbers(&of(5, &[4], 0)), [1, 2, 3, 4, 5], "all are in Alertmanager's order");
    assert_eq!(numbers(&of(5, &[4], 9)), [4, 5, 1, 2, 3]);
    // Of very many the new ones are read before others.
    let many = of(SURVEYED_MAX as u64 + 5, &[SURVEYED_MAX as u64 + 4], 3);
    assert_eq!(numbers(&many), [SURVEYED_MAX as u64 + 4, 1, 2]);
    assert_eq!(many.hidden(), SURVEYED_MAX as u64 + 2);
}

#[test]
fn a_digest_shows_as_many_alerts_as_the_action_takes_in_all() {
    let mut attempt = attempt("well", 1);
    let told = Arc::make_mut(&mut attempt.deliver.notifications[0]);
    told.alerts = vec![told.alerts[0]; 2].into();
    attempt.deliver.notifications = vec![attempt.deliver.notifications[0].clone(); 3];
    attempt.deliver.digest_of = (2..5).map(DeliveryId).collect();
    for (max_alerts, shown) in [(0, [2, 2, 2]), (3, [2, 1, 0]), (1, [1, 0, 0]), (100, [2, 2, 2])] {
        let delivery = delivery(&attempt, &Memory, max_alerts, &Site::default()).expect("readable");
        let groups: Vec<(usize, u32)> =
            delivery.groups.iter().map(|group| (group.alerts.len(), group.firing)).collect();
        assert_eq!(groups, shown.map(|alerts| (alerts, 2)), "at most {max_alerts}");
    }
}

/// What is new is told whatever stands before it in the digest.
#[test]
fn a_digest_shows_what_is_new_of_every_group_first() {
    const NEW: u32 = 1 << 31;
    let noted = |number: u64, end: u32| {
        let text = format!(r#"{{"position":{},"start":0,"end":{end}}}"#, number << 16);
        serde_json::from_str(&text).expect("a noted alert")
    };
    let told_before = SURVEYED_MAX as u64 + 5;
    let mut attempt = attempt("well", 1);
    attempt.deliver.notifications = vec![attempt.deliver.notifications[0].clone(); 2];
    Arc::make_mut(&mut attempt.deliver.notifications[0]).alerts =
        (1..=told_before).map(|number| noted(number, 0)).collect();
    Arc::make_mut(&mut attempt.deliver.notifications[1]).alerts =
        [noted(told_before + 1, 0), noted(told_before + 2, NEW)].into();
    attempt.deliver.digest_of = (2..4).map(DeliveryId).collect();
    let site = Site { severities: ams2_core::Severities::default(), ..Site::default() };
    let digest = delivery(&attempt, &Ranked(told_before + 2), 3, &site).expect("readable");
    let shown: Vec<Vec<u64>> =
        digest.groups.iter().map(|group| group.alerts.iter().map(|alert| alert.sequence).collect()).collect();
    assert_eq!(shown, [vec![1, 2], vec![told_before + 2]]);
    assert_eq!(digest.severity(), Some(ams2_core::Severity::Critical));
    assert_eq!(digest.hidden(), told_before + 2 - 3);
}

#[test]
fn a_memo_that_is_too_long_is_not_kept_in_part() {
    for (bytes, kept) in [(MEMO_BYTES_MAX, true), (MEMO_BYTES_MAX + 1, false)] {
        let receipt = Receipt::Delivered {
            reply: "ok".into(),
            memo: Some(vec![7; bytes]),
            unfinished: vec![],
            refused: vec![],
        };
        let Receipt::Delivered { memo, .. } = bounded(receipt) else { panic!("delivered") };
        assert_eq!(memo, kept.then(|| vec![7; bytes]));
    }
}
