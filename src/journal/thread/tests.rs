//! What waits, who is refused when there is little room, and what no frame can hold.

use std::{collections::BTreeMap, sync::Arc};

use ams2_core::{
    Wall,
    input::Acknowledge,
    matcher::Matcher,
    silence::{SetSilence, SilenceId},
};

use super::*;
use crate::journal::{Opened, simulated::SimulatedDisk};

struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> At {
        At(7)
    }
}

type Records = Arc<Mutex<Vec<JournalRecord>>>;

/// A journal's thread that a test drives by hand, and the records that it handed on.
fn by_hand(
    disk: &SimulatedDisk,
    segment_bytes: u64,
) -> (Thread<impl FnMut(Vec<JournalRecord>) -> bool>, Records) {
    let options = Options { segment_bytes, free_bytes_min: 0, ..Options::default() };
    let opened = Opened::open(Arc::new(disk.clone()), options.clone(), [1, 2, 3]).expect("opens");
    let (writer, ..) = opened.finish(0).expect("a segment");
    let records = Records::default();
    let to = records.clone();
    let take = move |batch| {
        to.lock().expect("no panic").extend(batch);
        true
    };
    let shared = Arc::new(Shared::new(options, Arc::new(StandingClock)));
    (
        Thread {
            writer,
            shared,
            records: take,
            droppable: Box::new(|_| {}),
            looked: None,
            early: 0,
            wall_offset_ms: None,
        },
        records,
    )
}

fn item(input: Input) -> (Item, oneshot::Receiver<Result<Accepted, Refused>>) {
    let (sender, answer) = oneshot::channel();
    let (bytes, whose) = (memory_bytes(&input), Whose::of(&input));
    (Item { input, reply: Some(sender), bytes, whose }, answer)
}

fn acknowledge(bytes: usize) -> Input {
    Input::Acknowledge(Acknowledge {
        key: None,
        matchers: vec![],
        by: "test".into(),
        until: None,
        comment: "x".repeat(bytes),
        withdraw: false,
    })
}

fn silence(bytes: usize) -> Input {
    Input::Silence(SilenceOrder::Set(Box::new(SetSilence {
        client: "".into(),
        id: None,
        fresh: SilenceId::from_random(1),
        matchers: vec![Matcher::parse("event=\"x\"").expect("a matcher")],
        starts: None,
        ends: Wall(1),
        by: "test".into(),
        comment: "c".repeat(bytes / 2),
        annotations: BTreeMap::from([("more".into(), "a".repeat(bytes / 2))]),
    })))
}

#[test]
fn long_texts_of_operators_count_as_the_memory_that_they_hold() {
    for input in [silence(2 << 20), acknowledge(2 << 20)] {
        assert!(memory_bytes(&input) >= 2 << 20, "{}", memory_bytes(&input));
    }
}

#[test]
fn what_is_too_large_for_one_frame_goes_into_more_of_them_in_order() {
    let disk = SimulatedDisk::new(1);
    let (mut thread, records) = by_hand(&disk, 64 << 10);
    let sizes = [30 << 20, 10, 30 << 20, 20, 70 << 20, 40 << 20, 30];
    let (items, mut answers): (Vec<Item>, Vec<_>) =
        sizes.iter().map(|bytes| item(acknowledge(*bytes))).unzip();
    assert!(thread.flush(items), "the journal goes on");
    let answered: Vec<Option<u64>> = answers
        .iter_mut()
        .map(|answer| answer.try_recv().expect("answered").ok().map(|it| it.first))
        .collect();
    assert_eq!(answered, [Some(1), Some(2), Some(3), Some(4), None, Some(5), Some(6)]);
    let of = |record: &JournalRecord| match &record.input {
        Input::Acknowledge(it) => it.comment.len(),
        _ => 0,
    };
    let handed: Vec<usize> = records.lock().expect("no panic").iter().map(of).collect();
    assert_eq!(handed, [30 << 20, 10, 30 << 20, 20, 40 << 20, 30]);
    drop(thread);
    let options = Options { segment_bytes: 64 << 10, free_bytes_min: 0, ..Options::default() };
    let mut opened = Opened::open(Arc::new(disk), options, [1, 2, 3]).expect("opens");
    let mut kept = Vec::new();
    opened.replay(0, At(0), |record| kept.push(of(&record))).expect("readable");
    assert_eq!((kept, opened.damage.as_slice()), (handed, &[][..]));
}

#[test]
fn operators_do_not_use_up_the_reserve_of_a_full_disk() {
    let disk = SimulatedDisk::new(1);
    let (mut thread, _) = by_hand(&disk, 1 << 20);
    disk.set_capacity(Some(1));
    thread.writer.forget_free();
    // One after the other: a long text goes where a client's may.
    let mut last = [Ok(0); 2];
    for (place, bytes) in [(0, 20 << 10), (1, 1 << 10)] {
        for _ in 0..1_000 {
            let (it, mut answer) = item(silence(bytes));
            let items = thread.refuse_into_reserve(vec![it]);
            assert!(items.is_empty() || thread.flush(items));
            last[place] = answer.try_recv().expect("answered").map(|it| it.first);
            if last[place].is_err() {
                break;
            }
        }
        let left = (1 << 20) - thread.writer.offset();
        let (lowest, highest) = [(256 << 10, 280 << 10), (128 << 10, 132 << 10)][place];
        assert!((lowest..highest).contains(&left), "{bytes} bytes each leave {left} of the segment");
    }
    assert!(last.iter().all(|last| matches!(last, Err(Refused::DiskFull { .. }))), "{last:?}");
    // What the reserve is for has all of it.
    let (it, mut answer) = item(Input::Advanced);
    let items = thread.refuse_into_reserve(vec![it]);
    assert!(thread.flush(items) && answer.try_recv().expect("answered").is_ok());
}

#[tokio::test]
async fn a_disk_that_hangs_is_seen_and_nobody_waits_for_it() {
    let disk = SimulatedDisk::new(1);
    let (thread, _) = by_hand(&disk, 64 << 10);
    let journal = Journal { shared: thread.shared.clone() };
    let since = |ago: Duration| {
        let since = boot_ms().saturating_sub(ago.as_millis() as u64);
        thread.shared.at_disk_since.store(since, Ordering::Relaxed);
    };
    since(STALLED / 2);
    assert_eq!((journal.health(), journal.waiting()), (Health::Well, 0));
    let waits = tokio::spawn({
        let journal = journal.clone();
        async move { journal.append(acknowledge(1)).await }
    });
    while journal.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    since(STALLED);
    assert_eq!((journal.health(), journal.waiting()), (Health::Stalled, 1));
    let refused = journal.append(acknowledge(1)).await;
    assert!(matches!(refused, Err(Refused::Stalled { .. })), "{refused:?}");
    journal.keep(Input::Advanced).expect("our own inputs wait");
    thread.shared.at_disk_since.store(0, Ordering::Relaxed);
    assert_eq!(journal.health(), Health::Well);
    drop(thread);
    assert_eq!(waits.await.expect("no panic"), Err(Refused::Failed));
}

/// What a call that waits for the thread says now; `None` while it waits.
fn poll<T>(call: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match call.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn who_lets_segments_go_hears_of_the_threads_end() {
    let disk = SimulatedDisk::new(1);
    let (mut thread, _) = by_hand(&disk, 64 << 10);
    let journal = Journal { shared: thread.shared.clone() };
    let mut first = Box::pin(journal.drop_before(1));
    assert!(poll(first.as_mut()).is_none(), "it waits for the thread");
    // One that comes meanwhile takes nothing from it.
    let mut second = Box::pin(journal.drop_before(1));
    assert!(poll(second.as_mut()).is_none() && poll(first.as_mut()).is_none(), "both wait");
    assert_eq!(thread.take().map(|items| items.len()), Some(0));
    assert!(matches!(poll(first.as_mut()), Some(Ok(()))) && matches!(poll(second.as_mut()), Some(Ok(()))));
    let mut waits = Box::pin(journal.drop_before(1));
    assert!(poll(waits.as_mut()).is_none());
    drop(thread);
    assert!(matches!(poll(waits.as_mut()), Some(Err(_))), "it does not wait for a thread that is gone");
    let mut late = Box::pin(journal.drop_before(1));
    assert!(matches!(poll(late.as_mut()), Some(Err(_))), "nor does one that comes later");
}

#[test]
fn a_lone_sender_has_a_flush_to_itself_and_waits_for_nobody() {
    let disk = SimulatedDisk::new(1);
    let (mut thread, _) = by_hand(&disk, 1 << 20);
    let shared = thread.shared.clone();
    let flushes = || shared.metrics.flushes.load(Ordering::Relaxed);
    let journal = Journal { shared: shared.clone() };
    for number in 1..=100 {
        let mut kept = Box::pin(journal.append(Input::Advanced));
        assert!(poll(kept.as_mut()).is_none());
        // No other thread is there that could bring company: what is taken now goes to the disk now.
        let items = thread.take().expect("it goes on");
        assert_eq!((items.len(), shared.waits.load(Ordering::Relaxed)), (1, 0), "{number}");
        assert!(thread.flush(items));
        assert_eq!((poll(kept.as_mut()), flushes()), (Some(Ok(number)), number));
    }
    // Company that came while the disk was busy shares the next one.
    let mut all: Vec<_> = (0..50).map(|_| Box::pin(journal.append(Input::Advanced))).collect();
    assert!(all.iter_mut().all(|kept| poll(kept.as_mut()).is_none()));
    let items = thread.take().expect("it goes on");
    assert!(items.len() == 50 && thread.flush(items));
    assert!(all.iter_mut().all(|kept| matches!(poll(kept.as_mut()), Some(Ok(_)))));
    assert_eq!(flushes(), 101);
}

fn arrival(bytes: usize) -> Item {
    let mut builder = ams2_core::BatchBuilder::default();
    builder.label("event", "E");
    builder.annotation("text", &"x".repeat(bytes));
    builder.finish_alert(ams2_core::batch::AlertTimes::default(), None, None).expect("valid");
    let input = Input::Alerts(Arrival { client: "test".into(), batch: Arc::new(builder.finish()) });
    let bytes = memory_bytes(&input);
    Item { input, reply: None, bytes, whose: Whose::Client }
}

/// What is flushed of these, one flush after the other, as the thread does it; `false` where one was refused.
fn flushed(
    thread: &mut Thread<impl FnMut(Vec<JournalRecord>) -> bool>,
    items: Vec<Item>,
) -> Vec<Result<(), Refused>> {
    let one = |mut item: Item| {
        let (sender, mut answer) = oneshot::channel();
        item.reply = Some(sender);
        let items = thread.refuse_into_reserve(vec![item]);
        assert!(items.is_empty() || thread.flush(items), "the journal has not failed");
        answer.try_recv().expect("answered").map(drop)
    };
    items.into_iter().map(one).collect()
}

#[test]
fn a_segment_may_be_smaller_than_what_it_takes() {
    // The bounds of the setting, and the largest input that there may be.
    for segment_bytes in [1 << 20, 64 << 20] {
        let disk = SimulatedDisk::new(1);
        let (mut thread, records) = by_hand(&disk, segment_bytes);
        let sizes = [10, 59 << 20, 10, (1 << 20) - 300, (1 << 20) + 1, 8 << 20, 10];
        let answers = flushed(&mut thread, sizes.iter().map(|bytes| arrival(*bytes)).collect());
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(records.lock().expect("no panic").len(), sizes.len());
        drop(thread);
        let options = Options { segment_bytes, free_bytes_min: 0, ..Options::default() };
        let mut opened = Opened::open(Arc::new(disk.clone()), options, [1, 2, 3]).expect("opens");
        let mut kept = Vec::new();
        opened.replay(0, At(0), |record| kept.push(record)).expect("readable");
        assert_eq!((&kept, opened.damage.len()), (&*records.lock().expect("no panic"), 0));
    }
}

#[test]
fn an_input_larger_than_the_spare_segment_is_refused_where_the_disk_has_no_room_for_it() {
    let disk = SimulatedDisk::new(1);
    let (mut thread, _) = by_hand(&disk, 1 << 20);
    let used = disk.used_bytes();
    for more in [0, 1 << 20, 3 << 20] {
        disk.set_capacity(Some(used + more));
        let answers = flushed(&mut thread, vec![arrival(4 << 20), arrival(10)]);
        assert!(matches!(answers[0], Err(Refused::DiskFull { .. })), "{more}: {answers:?}");
        assert!(answers[1].is_ok(), "{more}: what there is room for is taken");
    }
    // The reserve is whole: our own inputs go on, although the spare has been used.
    let (it, mut answer) = item(Input::Advanced);
    assert!(thread.flush(vec![it]) && answer.try_recv().expect("answered").is_ok());
    disk.set_capacity(Some(used + (20 << 20)));
    assert!(flushed(&mut thread, vec![arrival(4 << 20)])[0].is_ok());
}

#[test]
fn clients_leave_the_reserve_of_the_spare_segment_too() {
    let disk = SimulatedDisk::new(1);
    let (mut thread, _) = by_hand(&disk, 1 << 20);
    disk.set_capacity(Some(1));
    let answers = flushed(&mut thread, vec![arrival(600 << 10), arrival(900 << 10), arrival(600 << 10)]);
    let kept: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(kept, [true, false, true], "{answers:?}");
    let left = (1 << 20) - thread.writer.offset();
    assert!(left >= 256 << 10, "{left} bytes are left for our own inputs");
}

#[test]
fn what_large_inputs_take_counts_against_the_size_of_the_journal() {
    let disk = SimulatedDisk::new(1);
    let (mut thread, _) = by_hand(&disk, 1 << 20);
    flushed(&mut thread, (0..4).map(|_| arrival(30 << 20)).collect());
    flushed(&mut thread, (0..4).map(|_| arrival(800 << 10)).collect());
    let covered = thread.writer.next_seq() - 1;
    let retention = super::super::Retention { age: Duration::from_secs(1 << 30), bytes: 40 << 20 };
    let goes_early = |writer: &Writer| {
        let keep_from = writer.droppable(covered, writer.at(), Pressure::None);
        assert_eq!(keep_from, Some(4), "one of 30 MiB is left");
    };
    thread.writer.set_retention(retention);
    goes_early(&thread.writer);
    drop(thread);
    let options = Options { segment_bytes: 1 << 20, free_bytes_min: 0, retention, ..Options::default() };
    let mut opened = Opened::open(Arc::new(disk), options, [1, 2, 3]).expect("opens");
    opened.replay(0, At(0), drop).expect("readable");
    goes_early(&opened.finish(0).expect("a segment").0);
}
