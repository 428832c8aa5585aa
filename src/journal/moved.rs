//! Files, and parts of them, that are not where they were written: swapped, or copied while they were written to.

use std::sync::Arc;

use ams2_core::{AlertBatch, At, BatchBuilder, Input, batch::AlertTimes, input::Arrival};

use super::{
    segment::{FRAME_HEADER, Found, SEGMENT_HEADER, Walk},
    simulated::SimulatedDisk,
    storage::Storage,
    tests::{alerts, open, small},
    *,
};

const PAGE: usize = 4096;

/// An alert that refers to no other and whose frame is so many bytes long.
fn of_bytes(number: u64, bytes: usize) -> Input {
    let made = |padding: usize| {
        let mut builder = BatchBuilder::default();
        builder.label("event", &format!("{number:08}"));
        builder.annotation("padding", &format!("{number:08}{}", "x".repeat(padding)));
        builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
        let batch: AlertBatch = builder.finish();
        Input::Alerts(Arrival { client: "test".into(), batch: Arc::new(batch) })
    };
    let length = |input: &Input| {
        let mut frame = vec![0; FRAME_HEADER];
        codec::encode(input, &mut frame, 1 << 14, 0, &mut codec::Dictionary::new([1, 2]));
        frame.len()
    };
    let padding = bytes + 1000 - length(&made(1000));
    let input = made(padding);
    assert_eq!(length(&input), bytes);
    input
}

/// A segment whose frames are a page each, from its second page on.
fn of_pages() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(1), &[of_bytes(1, PAGE - SEGMENT_HEADER as usize)]).expect("flushed");
    for number in 2..=9 {
        assert_eq!(writer.offset() as usize % PAGE, 0);
        writer.flush(At(number), &[of_bytes(number, PAGE)]).expect("flushed");
    }
    disk
}

fn swap_pages(disk: &SimulatedDisk, a: usize, b: usize) {
    disk.corrupt(&writer::segment_name(1), |bytes| {
        let (a, b) = (a.min(b), a.max(b));
        let (first, second) = bytes.split_at_mut(b * PAGE);
        first[a * PAGE..(a + 1) * PAGE].swap_with_slice(&mut second[..PAGE]);
    });
}

#[test]
fn swapped_pages_are_found_wherever_they_are() {
    for a in 0..9 {
        for b in a + 1..9 {
            let disk = of_pages();
            swap_pages(&disk, a, b);
            let (mut writer, _, records, damage) = open(&disk);
            let found: Vec<u64> = records.iter().map(|record| record.seq).collect();
            assert!(found.is_sorted(), "{a} and {b}: {found:?}");
            assert!(!damage.is_empty(), "{a} and {b}: only {found:?} are read, and nothing is said");
            for record in &records {
                let bytes = if record.seq == 1 { PAGE - SEGMENT_HEADER as usize } else { PAGE };
                assert_eq!(record.input, of_bytes(record.seq, bytes));
            }
            let seq = writer.flush(At(99), &[alerts(&[1])]).expect("flushed");
            assert!(seq > found.last().copied().unwrap_or(0), "no number is given twice");
        }
    }
}

/// Four segments, the last with one record in it.
fn of_segments() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    while writer.segments.read().expect("no panic").len() < 4 {
        writer.flush(At(1), &[of_bytes(writer.next_seq(), 5_000)]).expect("flushed");
    }
    disk
}

/// Gives each segment the name of the next one in the list, and the last that of the first.
fn turn(disk: &SimulatedDisk, ids: &[u64]) {
    for id in ids {
        disk.rename(&writer::segment_name(*id), &format!("aside-{id}")).expect("renamed");
    }
    for (id, name) in ids.iter().zip(ids.iter().cycle().skip(1)) {
        disk.rename(&format!("aside-{id}"), &writer::segment_name(*name)).expect("renamed");
    }
    disk.sync_names().expect("synced");
}

/// What the header of a file says that it is.
fn id_of(disk: &SimulatedDisk, name: u64) -> u64 {
    segment::SegmentHeader::decode(&disk.content(&writer::segment_name(name))).expect("whole").0.id
}

#[test]
fn segments_that_have_each_others_names_are_read_and_get_their_own() {
    for ids in [&[1, 2][..], &[1, 3], &[2, 3], &[3, 4], &[1, 2, 3], &[4, 2, 1, 3]] {
        let disk = of_segments();
        // Read, and not gone on in.
        let mut all = Vec::new();
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
        opened.replay(0, At(0), |record| all.push(record)).expect("readable");
        drop(opened);
        turn(&disk, ids);
        let (mut writer, reader, records, damage) = open(&disk);
        assert!(records == all && damage.is_empty(), "{ids:?}: {} records, {damage:?}", records.len());
        for id in 1..=4 {
            assert_eq!(id_of(&disk, id), id, "{ids:?}");
        }
        let seq = writer.flush(At(9), &[alerts(&[9])]).expect("flushed");
        assert_eq!(seq, all.len() as u64 + 1, "{ids:?}");
        writer.look_at_space().expect("its name leads to it");
        for seq in 1..=seq {
            assert!(reader.alert(ams2_core::Position::arrived(seq)).is_ok(), "{ids:?}: {seq}");
        }
        drop(writer);
        let records = open(&disk).2;
        assert_eq!((records.len(), &records[..all.len()]), (all.len() + 1, &all[..]), "{ids:?}");
    }
}

#[test]
fn the_names_of_segments_come_back_whichever_call_of_it_fails() {
    let all = open(&of_segments()).2;
    for call in 1..=8 {
        let disk = of_segments();
        turn(&disk, &[1, 2, 3]);
        disk.fail_at(disk.calls() + call, std::io::ErrorKind::Other, simulated::Failing::ForGood);
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
        opened.replay(0, At(0), drop).expect("readable");
        drop(opened.finish(0));
        disk.crash();
        let (_, _, records, damage) = open(&disk);
        assert!(records == all && damage.is_empty(), "call {call}: {} records, {damage:?}", records.len());
    }
}

#[test]
fn a_copy_of_a_segment_is_left_alone_whatever_a_snapshot_covers() {
    let disk = of_segments();
    let copy = writer::segment_name(9);
    let content = disk.content(&writer::segment_name(2));
    disk.create(&copy, 0).expect("made");
    disk.corrupt(&copy, |bytes| bytes.clone_from(&content));
    for start in 0..4 {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
        let snapshot = opened.snapshot(|body| Ok(body.to_vec())).expect("readable");
        opened.replay(snapshot.map_or(0, |(covers, _)| covers), At(0), drop).expect("readable");
        let (mut writer, _, snapshots, damage) = opened.finish(0).expect("it starts");
        let is_said = damage.len() == 1 && damage[0].starts_with(&copy) && damage[0].contains("left alone");
        assert!(is_said, "start {start}: {damage:?}");
        // As a start with damage does it.
        snapshots.write(writer.next_seq() - 1, b"the state").expect("written");
        writer.flush(At(9), &[alerts(&[9])]).expect("flushed");
        assert!(disk.content(&copy) == content, "start {start}");
    }
}

#[test]
fn a_folder_that_was_copied_under_load_starts() {
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed);
        let copy = SimulatedDisk::new(seed);
        let mut random = crate::simulation::random::Random::new(seed);
        let (mut writer, _, _, _) = open(&disk);
        let snapshots = {
            let opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
            SnapshotWriter::new(Arc::new(disk.clone()), opened.journal(), Default::default())
        };
        let mut flush = |random: &mut crate::simulation::random::Random| {
            for _ in 0..random.below(4) {
                let number = writer.next_seq();
                writer.flush(At(number), &[of_bytes(number, 700 + number as usize % 900)]).expect("flushed");
                if number % 40 == 0 {
                    snapshots.write(number - 1, b"the state").expect("written");
                }
            }
            writer.next_seq()
        };
        while flush(&mut random) < 300 {}
        let before = flush(&mut random);
        // As `cp` does it: name by name, piece by piece, and it goes on meanwhile.
        for (name, _) in disk.list().expect("readable") {
            flush(&mut random);
            let mut bytes = Vec::new();
            loop {
                let content = disk.content(&name);
                let piece = content.get(bytes.len()..).unwrap_or_default();
                if piece.is_empty() {
                    break;
                }
                bytes.extend_from_slice(&piece[..piece.len().min(8 << 10)]);
                flush(&mut random);
            }
            // One that went meanwhile is not copied.
            if !bytes.is_empty() {
                copy.create(&name, 0).expect("made");
                copy.corrupt(&name, |content| *content = bytes);
            }
        }
        let mut opened = Opened::open(Arc::new(copy.clone()), small(), [1, 2, 3]).expect("opens");
        let snapshot = opened.snapshot(|body| Ok(body.to_vec())).expect("readable");
        let covered = snapshot.map_or(0, |(covers, _)| covers);
        let mut found = Vec::new();
        opened.replay(covered, At(0), |record| found.push(record)).expect("readable");
        let (mut writer, ..) = opened.finish(0).expect("it starts");
        for record in &found {
            let number = record.seq;
            assert_eq!(record.input, of_bytes(number, 700 + number as usize % 900), "seed {seed}");
        }
        let kept: Vec<u64> = found.iter().map(|record| record.seq).filter(|seq| *seq < before).collect();
        assert_eq!(kept, (covered + 1..before).collect::<Vec<_>>(), "seed {seed}: what was there is there");
        writer.flush(At(9_999), &[alerts(&[1])]).expect("it goes on");
    }
}

#[test]
fn frames_that_are_a_page_each_lie_as_the_tests_above_take_it() {
    let content = of_pages().content(&writer::segment_name(1));
    let header = segment::SegmentHeader::decode(&content).expect("whole").0;
    let starts = Walk::new(&content, header).filter_map(|found| match found {
        Found::Frame(offset, ..) => Some(offset),
        _ => None,
    });
    let wanted = std::iter::once(SEGMENT_HEADER).chain((1..9).map(|page| page * PAGE as u64));
    assert_eq!(starts.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}
