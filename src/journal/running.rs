//! The journal while it runs: who shares a flush, who waits, and who is refused.

use std::{
    io,
    sync::{Arc, mpsc},
};

use ams2_core::{
    At, Input, Position,
    input::{Arrival, Carried, CarriedItem, CarriedText, JournalRecord, Started},
};

use super::{
    simulated::{Failing, SimulatedDisk},
    storage::Folder,
    tests::{batch, small},
    thread::Clock,
    *,
};

struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> At {
        At(7)
    }
}

fn running(disk: &SimulatedDisk, options: Options) -> (Journal, mpsc::Receiver<Vec<JournalRecord>>) {
    let opened = Opened::open(Arc::new(disk.clone()), options.clone(), [1, 2, 3]).expect("opens");
    let (writer, ..) = opened.finish(0).expect("a segment");
    let (sender, records) = mpsc::sync_channel(1);
    let (journal, _) = Journal::start(
        writer,
        options,
        Arc::new(StandingClock),
        move |batch| sender.send(batch).is_ok(),
        Box::new(|_| {}),
    )
    .expect("a thread");
    (journal, records)
}

/// A clock beside a wall clock that a test sets.
struct SetClock(std::sync::atomic::AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> At {
        At(7)
    }

    fn wall_offset_ms(&self) -> Option<i64> {
        Some(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_was_set_is_kept_before_what_clients_send_by_it() {
    let opened = Opened::open(Arc::new(SimulatedDisk::new(1)), small(), [1, 2, 3]).expect("opens");
    let (writer, ..) = opened.finish(0).expect("a segment");
    let (sender, records) = mpsc::channel();
    let clock = Arc::new(SetClock(1_000.into()));
    let take = move |batch: Vec<JournalRecord>| batch.into_iter().all(|record| sender.send(record).is_ok());
    let (journal, _thread) =
        Journal::start(writer, small(), clock.clone(), take, Box::new(|_| {})).expect("a thread");
    let started = Started {
        incarnation: 1,
        seed: [1, 2],
        wall_offset_ms: 1_000,
        version: "test".into(),
        damage: vec![],
        install: None,
    };
    journal.append(Input::Started(started)).await.expect("kept");
    journal.accept(arrival(1)).await.expect("kept");
    // Within half a second it counts as the same.
    clock.0.store(1_400, std::sync::atomic::Ordering::Relaxed);
    journal.accept(arrival(2)).await.expect("kept");
    clock.0.store(-9_000, std::sync::atomic::Ordering::Relaxed);
    let last = journal.accept(arrival(3)).await.expect("kept");
    assert_eq!(last.first, 5);
    let inputs: Vec<Input> = records.iter().take(5).map(|record| record.input).collect();
    assert!(
        matches!(
            inputs[..],
            [
                Input::Started(_),
                Input::Alerts(_),
                Input::Alerts(_),
                Input::WallClock(-9_000),
                Input::Alerts(_)
            ]
        ),
        "{inputs:?}"
    );
    // Nobody needs to send anything for it to be seen.
    clock.0.store(50_000, std::sync::atomic::Ordering::Relaxed);
    let next = records.recv_timeout(Duration::from_secs(60)).expect("a record");
    assert_eq!(next.input, Input::WallClock(50_000));
}

fn arrival(number: u64) -> Arrival {
    Arrival { client: "test".into(), batch: Arc::new(batch(&[number])) }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_share_a_flush_and_each_is_answered_its_own_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { free_bytes_min: 0, ..small() };
    let storage = Arc::new(Folder::open(folder.path()).expect("free"));
    let (writer, ..) =
        Opened::open(storage, options.clone(), [1, 2, 3]).expect("opens").finish(0).expect("a segment");
    let (journal, _thread) =
        Journal::start(writer, options, Arc::new(StandingClock), |_| true, Box::new(|_| {}))
            .expect("a thread");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..500 {
        let journal = journal.clone();
        tasks.spawn(async move { journal.accept(arrival(number)).await.expect("kept").first });
    }
    let mut numbers: Vec<u64> = tasks.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=500).collect::<Vec<_>>());
    let flushes = journal.metrics().flushes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(flushes < 400, "{flushes} flushes for 500 senders");
}

#[tokio::test]
async fn a_router_that_is_behind_makes_clients_wait_and_then_refuses_them() {
    let options = Options { waiting_max: 10, ..small() };
    let (journal, records) = running(&SimulatedDisk::new(1), options);
    let mut answers = Vec::new();
    // One batch is with the router, one waits in the channel, one is in the thread's hands; the rest waits here.
    for number in 0..200 {
        let journal = journal.clone();
        answers.push(tokio::spawn(async move { journal.accept(arrival(number)).await }));
        tokio::task::yield_now().await;
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let refused = || journal.metrics().refused_busy.load(std::sync::atomic::Ordering::Relaxed);
    while refused() == 0 && std::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(refused() > 0, "clients are refused, not kept waiting for ever");
    let mut kept = 0;
    let mut got = 0;
    std::thread::spawn(move || while records.recv().is_ok() {});
    for answer in answers {
        got += 1;
        match answer.await.expect("no panic") {
            Ok(_) => kept += 1,
            Err(refused) => assert!(matches!(refused, Refused::Busy { .. })),
        }
    }
    assert_eq!(got, 200);
    assert!(kept >= 10, "{kept} were kept");
}

#[tokio::test]
async fn orders_that_wait_are_bounded_and_leave_room_for_our_own() {
    let (journal, _records) = running(&SimulatedDisk::new(1), small());
    let order = || {
        let text = "x".repeat(4 << 20);
        let id = ams2_core::silence::SilenceId::from_random(1);
        Input::Silence(ams2_core::silence::SilenceOrder::Expire { id, by: text.into() })
    };
    // Nobody takes the records, so that after some flushes all waits.
    let mut waiting = Vec::new();
    let refused = loop {
        let mut asked = Box::pin(journal.append(order()));
        match asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(answer) => break answer,
            std::task::Poll::Pending => waiting.push(asked),
        }
        assert!(waiting.len() < 100, "400 MiB wait");
        tokio::task::yield_now().await;
    };
    assert!(matches!(refused, Err(Refused::Busy { .. })), "{refused:?}");
    journal.keep(order()).expect("our own inputs have room");
}

/// A journal that has taken one alert when its disk has no room any more.
async fn on_a_disk_that_fills() -> (SimulatedDisk, Journal) {
    let disk = SimulatedDisk::new(1);
    let options = Options { segment_bytes: 1 << 20, free_bytes_min: 1, ..small() };
    let (journal, records) = running(&disk, options);
    std::thread::spawn(move || while records.recv().is_ok() {});
    journal.accept(arrival(1)).await.expect("there is room");
    disk.set_capacity(Some(1));
    (disk, journal)
}

#[tokio::test]
async fn a_full_disk_refuses_clients_while_outcomes_go_on() {
    let (disk, journal) = on_a_disk_that_fills().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while journal.health() == Health::Well && std::time::Instant::now() < deadline {
        journal.append(Input::Advanced).await.expect("our own inputs have room");
        // What is reserved for them is not for as many as fit into a second.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert!(matches!(journal.accept(arrival(2)).await, Err(Refused::DiskFull { .. })));
    journal.append(Input::Advanced).await.expect("our own inputs still have room");
    disk.set_capacity(None);
    while journal.health() != Health::Well && std::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    journal.accept(arrival(3)).await.expect("there is room again");
}

#[tokio::test]
async fn a_disk_that_filled_since_it_was_asked_is_asked_before_a_large_input_is_taken() {
    let (_disk, journal) = on_a_disk_that_fills().await;
    let numbers: Vec<u64> = (0..30_000).collect();
    let large = Arrival { client: "test".into(), batch: Arc::new(batch(&numbers)) };
    assert!(matches!(journal.accept(large).await, Err(Refused::DiskFull { .. })));
    assert_ne!(journal.health(), Health::Failed);
    journal.append(Input::Advanced).await.expect("our own inputs have room");
}

#[tokio::test]
async fn what_is_carried_forward_does_not_use_up_the_reserve() {
    let (_disk, journal) = on_a_disk_that_fills().await;
    let numbers: Vec<u64> = (0..500).collect();
    let items = numbers.iter().map(|number| CarriedItem {
        from: Position::arrived(1),
        text: CarriedText::Alert { client: "old".into(), batch: batch(&[*number]) },
    });
    let carried = Input::Carried(Carried { items: items.collect() });
    let refused = loop {
        if let Err(refused) = journal.append(carried.clone()).await {
            break refused;
        }
    };
    assert!(matches!(refused, Refused::DiskFull { .. }), "{refused:?}");
    assert_ne!(journal.health(), Health::Failed);
    journal.append(Input::Advanced).await.expect("what the reserve is for has room");
}

#[tokio::test]
async fn a_journal_that_failed_answers_nobody_with_yes() {
    let disk = SimulatedDisk::new(1);
    let (journal, records) = running(&disk, small());
    std::thread::spawn(move || while records.recv().is_ok() {});
    disk.fail_at(disk.calls() + 1, io::ErrorKind::Other, Failing::ForGood);
    assert_eq!(journal.accept(arrival(1)).await, Err(Refused::Failed));
    assert_eq!(journal.accept(arrival(2)).await, Err(Refused::Failed));
    assert_eq!(journal.health(), Health::Failed);
}

#[tokio::test]
async fn what_no_frame_can_hold_is_refused_before_anything_is_written() {
    let disk = SimulatedDisk::new(1);
    let (journal, records) = running(&disk, Options { waiting_bytes_max: usize::MAX, ..small() });
    std::thread::spawn(move || while records.recv().is_ok() {});
    let acknowledge = |bytes: usize| {
        Input::Acknowledge(ams2_core::input::Acknowledge {
            key: None,
            matchers: vec![],
            by: "test".into(),
            until: None,
            comment: "x".repeat(bytes),
            withdraw: false,
        })
    };
    assert!(matches!(journal.append(acknowledge(61 << 20)).await, Err(Refused::TooLarge { .. })));
    assert_eq!(journal.health(), Health::Well);
    // Many that fit alone do not make one frame that nobody can read.
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (journal, input) = (journal.clone(), acknowledge(7 << 20));
        answers.spawn(async move { journal.append(input).await });
    }
    assert!(answers.join_all().await.iter().all(Result::is_ok));
    journal.stop();
    let mut kept = 0;
    let mut opened = Opened::open(Arc::new(disk), small(), [1, 2, 3]).expect("opens");
    opened
        .replay(0, At(0), |record| kept += u64::from(matches!(record.input, Input::Acknowledge(_))))
        .expect("readable");
    assert_eq!((kept, opened.damage.len()), (12, 0));
}
