//! A record that ends the router three times ends it no more, and takes no other along.

use std::sync::Arc;

use ams2_core::{At, BatchBuilder, Input, batch::AlertTimes, input::Arrival};

use super::*;
use crate::{
    journal::{OpenError, Options, simulated::SimulatedDisk},
    router::Folded,
    upkeep::{self, Recovered},
};

fn options() -> Options {
    Options { segment_bytes: 64 << 10, free_bytes_min: 0, ..Options::default() }
}

fn alert(event: &str) -> Input {
    let mut builder = BatchBuilder::default();
    builder.label("event", event);
    builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
    Input::Alerts(Arrival { client: "test".into(), batch: Arc::new(builder.finish()) })
}

/// A journal with these events, one a record, from 1 on.
fn journal(events: &[&str]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let mut writer = start(&disk).expect("a new journal").writer;
    for (number, event) in events.iter().enumerate() {
        writer.flush(At(number as u64), &[alert(event)]).expect("flushed");
    }
    disk
}

/// A start of a program whose router panics at a poison event.
fn start(disk: &SimulatedDisk) -> Result<Recovered, OpenError> {
    let fold = |folded: &mut Folded, record: JournalRecord| {
        let is_poison = match &record.input {
            Input::Alerts(arrival) => {
                arrival.batch.iter().any(|alert| alert.label("event").starts_with("Poison"))
            }
            _ => false,
        };
        // In the middle of its work.
        folded.recover(record);
        assert!(!is_poison, "a fault of the program, made for this test");
    };
    upkeep::read_by(Arc::new(disk.clone()), &options(), [1, 2, 3], fold)?.begin(0)
}

#[test]
fn a_record_that_panics_three_times_is_set_aside_and_all_others_are_folded() {
    let disk = journal(&["A", "Poison", "B"]);
    for _ in 1..PANICS_MAX {
        let error = start(&disk).err().expect("it panics").to_string();
        assert!(error.contains("the record 2") && error.contains("start again"), "{error}");
    }
    for _ in 0..2 {
        let recovered = start(&disk).expect("it goes on");
        let said = "the record 2: the router panicked at it 3 times, see 0000000000000002.poison";
        assert_eq!(recovered.damage, [said]);
        let events: Vec<String> =
            recovered.folded.machine.alerts().map(|alert| alert.label("event").to_owned()).collect();
        assert_eq!(events, ["A", "B"]);
        assert_eq!((recovered.panics.set_aside(), recovered.folded.machine.next_seq()), (1, 4));
        // The second fold leaves it out, too, and so does whoever starts from its snapshot.
        let (reader, snapshots, panics) = (&recovered.reader, &recovered.snapshots, &recovered.panics);
        assert_eq!(upkeep::snapshot_behind(reader, snapshots, panics, 0, 2), Ok(1));
        let (_, body) = snapshots.newest().expect("readable").expect("one");
        assert_eq!(ams2_core::Machine::restore(&body).expect("whole").sizes().0, 1);
        disk.remove("0000000000000001.snap").expect("removed");
    }
    let kept = String::from_utf8(disk.content("0000000000000002.poison")).expect("text");
    assert!(kept.contains("Poison") && kept.contains("seq: 2"), "{kept}");
}

#[test]
fn a_kill_counts_for_nothing_and_a_good_start_forgives_nothing() {
    let disk = journal(&["A", "Poison"]);
    for _ in 0..5 {
        // Whatever other program opens it: this one does not panic, and is killed.
        drop(upkeep::recover(Arc::new(disk.clone()), &options(), [1, 2, 3], 0).expect("it starts"));
        disk.crash();
    }
    assert!(disk.content(FILE).is_empty());
    assert!(start(&disk).is_err());
    assert_eq!(disk.content(FILE), b"journal 0000000000000001\n2 1\n");
    disk.crash();
    assert!(start(&disk).is_err() && start(&disk).is_ok());
}

#[test]
fn no_more_than_some_records_are_set_aside() {
    let names: Vec<String> = (0..20).map(|number| format!("Poison {number}")).collect();
    let disk = journal(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut last = String::new();
    for _ in 0..60 {
        last = start(&disk).err().expect("there are too many").to_string();
    }
    assert!(last.contains("up to 8 of them"), "{last}");
    let count = Panics::read(Arc::new(disk), 1).expect("readable").set_aside();
    assert_eq!(count, SET_ASIDE_MAX);
}

#[test]
fn a_file_of_counts_that_is_damaged_refuses_nothing() {
    let disk = SimulatedDisk::new(1);
    let content = b"journal 0000000000000001\nx y\n5 3\n\xff\n7\n";
    disk.create(FILE, 0).expect("made").write_at(content, 0).expect("written");
    let panics = Panics::read(Arc::new(disk), 1).expect("readable");
    assert!(panics.sets_aside(5) && panics.set_aside() == 1);
}

#[test]
fn what_another_journal_left_in_the_folder_leaves_out_nothing() {
    for (content, names_us) in [
        ("journal 0000000000000001\n1 3\n2 3\n", true),
        ("journal 0000000000000002\n1 3\n2 3\n", false),
        ("1 3\n2 3\n", false),
        ("journal 0000000000000001", false),
    ] {
        let disk = journal(&["A", "B"]);
        disk.create(FILE, 0).expect("made").write_at(content.as_bytes(), 0).expect("written");
        let recovered = start(&disk).expect("it starts");
        let (alerts, left_out) = if names_us { (0, 2) } else { (2, 0) };
        assert_eq!(recovered.folded.machine.alerts().count(), alerts, "{content}");
        assert_eq!(recovered.damage.len(), left_out, "{content}");
    }
}

#[test]
fn a_list_of_panics_that_the_disk_cannot_read_does_not_refuse_the_start() {
    for inode in [false, true] {
        let disk = journal(&["A", "Poison", "B"]);
        assert!(start(&disk).is_err());
        if inode {
            disk.lose_inode(FILE)
        } else {
            disk.lose(FILE, 0..1)
        }
        // What was counted is lost, and that is all: the record is met again, and counted anew if the disk lets us.
        let error = start(&disk).err().expect("it panics");
        assert!(matches!(error, OpenError::Panicked { sequence: 2 }), "{error}");
        let disk = journal(&["A", "B"]);
        disk.create(FILE, 0).expect("made");
        if inode {
            disk.lose_inode(FILE)
        } else {
            disk.lose(FILE, 0..1)
        }
        let recovered = start(&disk).expect("a start is not refused");
        assert!(recovered.damage.iter().any(|said| said.contains("`panics`")), "{:?}", recovered.damage);
    }
}
