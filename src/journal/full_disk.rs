//! A start on a full disk: the rest of the last segment is all there is, and nothing accepted is lost in it.

use std::{io, sync::Arc};

use ams2_core::{At, Input, Position};

use super::{
    simulated::{Failing, SimulatedDisk},
    storage::Storage,
    tests::{alerts, open, small},
    *,
};

/// A disk with no room for another segment, and no spare one: what was flushed ends in the second.
fn full_disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    disk.set_capacity(Some(1));
    while writer.segments.read().expect("no panic").len() < 2 {
        writer.flush(At(1), &[alerts(&[writer.next_seq()])]).expect("there is room");
    }
    disk
}

#[test]
fn a_start_on_a_full_disk_goes_on_in_the_rest_of_the_last_segment() {
    let disk = full_disk();
    let before = open(&disk).2;
    for round in 0..3 {
        let (mut writer, reader, records, damage) = open(&disk);
        assert_eq!((records.len(), damage), (before.len() + round, vec![]));
        assert_eq!(records[..before.len()], before[..]);
        let room = writer.room_for_clients();
        assert!(room < small().segment_bytes, "clients get what the reserve leaves: {room}");
        assert!(writer.look_at_space().expect("it stands").free == 0);
        let seq = writer.flush(At(9), &[alerts(&[7])]).expect("the rest of the segment takes it");
        assert_eq!(seq, 1 + records.len() as u64);
        for position in [1, seq - 1, seq].map(Position::arrived) {
            assert!(reader.alert(position).is_ok(), "{position}");
        }
    }
    assert_eq!(disk.list().expect("readable").len(), 2, "no other file was begun");
    // With room it goes on as ever, without a restart.
    let (mut writer, ..) = open(&disk);
    disk.set_capacity(None);
    assert!(!writer.look_at_space().expect("it stands").full);
    let first = writer.next_seq();
    for number in 0..2000 {
        writer.flush(At(10), &[alerts(&[number])]).expect("there is room");
    }
    assert!(writer.segments.read().expect("no panic").len() > 2);
    drop(writer);
    let (_, _, records, damage) = open(&disk);
    assert_eq!((records.len() as u64, damage), (first - 1 + 2000, vec![]));
}

#[test]
fn clients_are_refused_before_the_reserve_of_the_rest_is_touched() {
    let disk = full_disk();
    let (mut writer, ..) = open(&disk);
    while writer.has_room_for_clients() {
        writer.flush(At(1), &[alerts(&[1])]).expect("there is room");
    }
    drop(writer);
    let (mut writer, ..) = open(&disk);
    assert!(writer.look_at_space().expect("it stands").full && !writer.has_room_for_clients());
    writer.flush(At(2), &[Input::Advanced]).expect("our own inputs have room");
}

#[test]
fn a_start_without_a_byte_left_is_refused_with_how_to_mend_it_and_changes_nothing() {
    let disk = full_disk();
    let (mut writer, ..) = open(&disk);
    while writer.flush(At(1), &[alerts(&[1])]).is_ok() {}
    let kept = writer.next_seq();
    // Less than a frame is left: it goes, too.
    let end = writer.segments.read().expect("no panic")[1].end.expect("flushed") as usize;
    disk.corrupt(&writer::segment_name(2), |bytes| bytes.truncate(end));
    drop(writer);
    let files = disk.list().expect("readable");
    let opened = || {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
        opened.replay(0, At(0), drop).expect("readable");
        opened.finish(0)
    };
    let error = opened().err().expect("refused").to_string();
    assert!(error.contains("65536 bytes") && error.contains("make room"), "{error}");
    assert_eq!(disk.list().expect("readable"), files);
    disk.set_capacity(None);
    let (writer, ..) = opened().expect("there is room");
    assert_eq!(writer.next_seq(), kept);
}

#[test]
fn nothing_flushed_is_lost_in_crashes_of_a_full_disk() {
    let mut went_on = 0;
    for seed in 0..300u64 {
        let disk = SimulatedDisk::new(seed);
        let mut flushed: Vec<(u64, Input)> = Vec::new();
        for round in 0..8 {
            let segments = disk.list().expect("readable").len();
            let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
            let mut found = Vec::new();
            opened.replay(0, At(0), |record| found.push((record.seq, record.input))).expect("readable");
            assert_eq!(opened.damage, Vec::<String>::new(), "seed {seed} round {round}");
            for kept in &flushed {
                assert!(found.contains(kept), "seed {seed} round {round}: {} is lost", kept.0);
            }
            let Ok((mut writer, ..)) = opened.finish(0) else { break };
            went_on += u32::from(round > 2 && disk.list().expect("readable").len() == segments);
            if round == 1 {
                disk.set_capacity(Some(1));
            }
            let failing = if seed % 2 == 0 { Failing::PowerGone } else { Failing::ForGood };
            disk.fail_at(disk.calls() + 2 + seed % 23, io::ErrorKind::Other, failing);
            for number in 0.. {
                let input = alerts(&[seed * 1000 + round * 100 + number, 3]);
                match writer.flush(At(number), std::slice::from_ref(&input)) {
                    Ok(seq) => flushed.push((seq, input)),
                    Err(_) => break,
                }
            }
            if round % 3 == 2 {
                disk.heal();
            } else {
                disk.crash();
            }
        }
    }
    assert!(went_on > 300, "{went_on} starts went on in the last segment");
}
