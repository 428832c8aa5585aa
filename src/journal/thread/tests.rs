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
