//! What the router keeps in memory, measured: an allocator that counts stands below this test.

use ams2_core::{
    At, Config, Effect, Input, Machine,
    batch::{AlertTimes, BatchBuilder},
    config::{ActionId, ActionSpec, GroupBy, Install, Notify, Receiver, Route},
    input::{Arrival, JournalRecord, Outcome, Receipt, Started},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const ALERTS: u32 = 100_000;

fn bytes() -> isize {
    let stats = COUNTED.stats();
    (stats.bytes_allocated as isize) - (stats.bytes_deallocated as isize)
}

fn config(notify: Notify, group_by: GroupBy) -> Config {
    let action = ActionSpec {
        id: ActionId { receiver: "ops".into(), kind: "log".into(), name: "0".into() },
        send_resolved: true,
        max_in_flight: 10,
        batch_max: 1,
        max_per_minute: None,
        timeout_ms: 10_000,
        patient: false,
        pending_max: None,
    };
    let route = Route {
        notify: Some(notify),
        group_by: Some(group_by),
        repeat_interval_ms: Some(1_000_000_000),
        ..Route::default()
    };
    Config::single(Receiver { name: "ops".into(), actions: vec![action] }, route)
}

fn fold(machine: &mut Machine, at: u64, input: Input) -> Vec<Effect> {
    machine.apply_whole(JournalRecord { seq: machine.next_seq(), at: At(at), input });
    std::iter::from_fn(|| machine.next_effect()).collect()
}

fn started() -> Machine {
    let mut machine = Machine::new();
    let started = Started {
        incarnation: 1,
        seed: [1, 2],
        wall_offset_ms: 0,
        version: "test".into(),
        damage: vec![],
        install: None,
    };
    fold(&mut machine, 0, Input::Started(started));
    machine
}

fn install(machine: &mut Machine, notify: Notify, group_by: GroupBy) {
    let (config, text, by) = (config(notify, group_by), String::new(), "test".into());
    let install = Install { config, text, rule_version: 1, removed: vec![], by };
    fold(machine, 0, Input::ConfigInstalled(install.into()));
}

/// Sends the alerts a thousand at a time; `answer` says whether the far end answers.
fn send(machine: &mut Machine, answer: bool) {
    for first in (0..ALERTS).step_by(1000) {
        let mut builder = BatchBuilder::default();
        for number in first..first + 1000 {
            builder.label("event", "Virus Found");
            builder.label("host", &format!("host-{number}"));
            let id = format!("{number}");
            builder.finish_alert(AlertTimes::default(), Some(&id), None).expect("valid");
        }
        let arrival = Arrival { client: "test".into(), batch: builder.finish().into() };
        let mut effects = fold(machine, 1, Input::Alerts(arrival));
        while let Some(effect) = effects.pop() {
            let Effect::Deliver(deliver) = effect else { continue };
            if answer {
                let outcome = Outcome {
                    delivery: deliver.delivery,
                    attempt: deliver.attempt,
                    result: Ok(Receipt::Sent),
                    took_ms: 1,
                    led: true,
                };
                effects.extend(fold(machine, 1, Input::Outcome(outcome)));
            }
        }
    }
}

/// A machine after the alerts came and, half an hour later, are over: those that wait to be told are all that is left.
fn after_all(notify: Notify, answer: bool) -> Machine {
    let mut machine = started();
    install(&mut machine, notify, GroupBy::All);
    send(&mut machine, answer);
    fold(&mut machine, 1_800_000, Input::Advanced);
    machine
}

/// How many bytes a machine holds that is made like this.
fn held(make: impl FnOnce() -> Machine) -> (isize, Machine) {
    let before = bytes();
    let machine = make();
    (bytes() - before, machine)
}

/// The design's bound. Beside it a notification may take 16 bytes an alert; here it has one.
const DELIVERY_BYTES_MAX: isize = 200;

/// The design's bound for an alert of a notification. One that ended takes 4 bytes more, for when.
const ALERT_BYTES_MAX: isize = 16;

/// A delivery and its notification, whatever they tell of, each with its page of rows.
const ONCE_BYTES_MAX: isize = 16 << 10;

/// What the machine holds more at a later time, in bytes.
fn added(machine: &mut Machine, at: u64) -> isize {
    let before = bytes();
    fold(machine, at, Input::Advanced);
    bytes() - before
}

// One test: others in this process would be counted, too.
#[test]
fn a_pending_delivery_is_at_most_200_bytes() {
    let (told, machine) = held(|| after_all(Notify::Each, true));
    let snapshot_told = machine.snapshot();
    drop(machine);
    let (pending, machine) = held(|| after_all(Notify::Each, false));
    let (alerts, _, deliveries) = machine.sizes();
    assert_eq!((alerts, deliveries), (0, ALERTS as usize + 2), "all wait, and two of our own");
    let snapshot = machine.snapshot();
    drop(machine);
    let each = (pending - told) / ALERTS as isize;
    assert!(each <= DELIVERY_BYTES_MAX + 16, "{each} bytes a delivery");

    let (told, machine) = held(|| Machine::restore(&snapshot_told).expect("our own snapshot"));
    drop(machine);
    let (pending, machine) = held(|| Machine::restore(&snapshot).expect("our own snapshot"));
    drop(machine);
    let each = (pending - told) / ALERTS as isize;
    assert!(each <= DELIVERY_BYTES_MAX + 16, "{each} bytes a delivery after a restart");

    // A group an alert: what the look at them adds is one delivery each.
    let before = bytes();
    let mut machine = started();
    install(&mut machine, Notify::Group, GroupBy::All);
    send(&mut machine, false);
    let waiting = bytes() - before;
    fold(&mut machine, 100_000, Input::Advanced);
    let pending = bytes() - before;
    assert_eq!(machine.sizes().2, ALERTS as usize + 2);
    let each = (pending - waiting) / ALERTS as isize;
    assert!(each <= DELIVERY_BYTES_MAX + 16, "{each} bytes a delivery of a group");
    drop(machine);

    // One group of all: the look at them adds one notification and its delivery.
    let mut machine = started();
    install(&mut machine, Notify::Group, GroupBy::Labels(vec!["event".into()]));
    send(&mut machine, false);
    let firing = added(&mut machine, 100_000);
    let of_alerts = |each: isize| each * ALERTS as isize + ONCE_BYTES_MAX;
    assert!(firing <= of_alerts(ALERT_BYTES_MAX), "{firing} bytes for alerts that fire");
    // They ended: another notification says so, behind the first.
    let ended = added(&mut machine, 900_000);
    let all = machine.deliveries().filter(|delivery| delivery.alerts == ALERTS);
    assert_eq!(all.count(), 2);
    assert!(ended <= of_alerts(ALERT_BYTES_MAX + 4), "{ended} bytes for alerts that ended");
}
