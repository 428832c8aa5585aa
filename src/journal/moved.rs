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

#[test]
fn two_segments_that_have_each_others_names_are_found_and_their_numbers_are_not_given_again() {
    for (a, b) in [(1, 2), (1, 3), (2, 3)] {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk);
        while writer.segments.read().expect("no panic").len() < 4 {
            writer.flush(At(1), &[of_bytes(writer.next_seq(), 5_000)]).expect("flushed");
        }
        drop(writer);
        // The last one holds one record; without it, those that are swapped may be the last.
        disk.remove(&writer::segment_name(4)).expect("removed");
        let swap = || {
            let (a, b) = (writer::segment_name(a), writer::segment_name(b));
            disk.rename(&a, "aside").expect("renamed");
            disk.rename(&b, &a).expect("renamed");
            disk.rename("aside", &b).expect("renamed");
        };
        // Read, and not gone on in.
        let mut all = Vec::new();
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
        opened.replay(0, At(0), |record| all.push(record)).expect("readable");
        drop(opened);
        swap();
        let (mut writer, _, records, damage) = open(&disk);
        assert!(records.len() < all.len() && records.iter().all(|record| all.contains(record)));
        for id in [a, b] {
            let name = writer::segment_name(id);
            let is_said = |said: &String| said.starts_with(&name) && said.contains("left alone");
            assert!(damage.iter().any(is_said), "{damage:?}");
        }
        let seq = writer.flush(At(9), &[alerts(&[9])]).expect("flushed");
        assert_eq!(seq, all.len() as u64 + 1, "{a} and {b}");
        drop(writer);
        // Who gives them their names back has all of it.
        swap();
        let records = open(&disk).2;
        assert_eq!((records.len(), &records[..all.len()]), (all.len() + 1, &all[..]), "{a} and {b}");
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
