//! A disk that cannot read some of what it holds: the rest is read, the loss is said, and no start is refused.

use std::{io, ops::Range, sync::Arc};

use ams2_core::{AlertBatch, At, BatchBuilder, Input, batch::AlertTimes, input::Arrival};

use super::{
    segment::{FRAME_HEADER, Found, SEGMENT_HEADER, Walk},
    simulated::{Failing, SimulatedDisk},
    storage::Storage,
    tests::{alerts, open, small},
    *,
};

const PAGE: u64 = 4096;

/// A record that refers to no other.
fn stranger(number: u64) -> Input {
    let mut builder = BatchBuilder::default();
    builder.label("event", &format!("{number}-").repeat(100));
    builder.annotation("text", &number.to_string());
    builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
    let batch: AlertBatch = builder.finish();
    Input::Alerts(Arrival { client: "test".into(), batch: Arc::new(batch) })
}

/// A first segment nearly full of records; and which lie where.
fn written() -> (SimulatedDisk, Vec<(u64, Range<u64>)>) {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    for number in 0..100 {
        writer.flush(At(number), &[stranger(number)]).expect("flushed");
    }
    let header = writer.segments.read().expect("no panic")[0].header;
    drop(writer);
    let bytes = disk.content(&writer::segment_name(1));
    let frames = Walk::new(&bytes, header).filter_map(|found| match found {
        Found::Frame(offset, header, payload) => {
            Some((header.seq, offset..offset + (FRAME_HEADER + payload.len()) as u64))
        }
        _ => None,
    });
    let frames = frames.collect::<Vec<_>>();
    assert!(frames.len() == 100 && frames[99].1.end > 8 * PAGE);
    (disk, frames)
}

#[test]
fn a_lost_page_costs_the_frames_on_it_and_no_other() {
    let pages = small().segment_bytes / PAGE;
    for page in 1..pages {
        let (disk, frames) = written();
        let lost = page * PAGE..(page + 1) * PAGE;
        disk.lose(&writer::segment_name(1), lost.start + 7..lost.start + 8);
        let (mut writer, reader, records, damage) = open(&disk);
        let intact: Vec<u64> = frames
            .iter()
            .filter(|(_, frame)| frame.end <= lost.start || lost.end <= frame.start)
            .map(|(seq, _)| *seq)
            .collect();
        let found: Vec<u64> = records.iter().map(|record| record.seq).collect();
        assert_eq!(found, intact, "page {page}");
        let words = format!("the disk cannot read 4096 bytes at {}", lost.start);
        assert!(damage.iter().any(|said| said.contains(&words)), "page {page}: {damage:?}");
        // Beside what was lost texts are read, and the journal goes on.
        for seq in intact {
            assert!(reader.alert(ams2_core::Position::arrived(seq)).is_ok(), "page {page}: {seq}");
        }
        writer.flush(At(1000), &[alerts(&[1])]).expect("flushed");
    }
}

#[test]
fn a_lost_header_does_not_refuse_the_start() {
    let (disk, _) = written();
    disk.lose(&writer::segment_name(1), 0..SEGMENT_HEADER);
    let (mut writer, _, _, damage) = open(&disk);
    assert!(damage.iter().any(|said| said.contains("0000000000000001.seg")), "{damage:?}");
    writer.flush(At(1000), &[alerts(&[1])]).expect("flushed");
    assert!(disk.content(&writer::segment_name(1)).len() as u64 == small().segment_bytes, "it is left alone");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_passed_over() {
    let (disk, _) = written();
    let (writer, _, snapshots, _) = {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
        opened.replay(0, At(0), drop).expect("readable");
        opened.finish(0).expect("a segment")
    };
    drop(writer);
    for covers in [50, 100] {
        snapshots.write(covers, &[covers as u8]).expect("written");
    }
    let newest = || {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
        let found = opened.snapshot(|body| Ok(body.to_vec())).expect("a start is not refused");
        let covered = found.as_ref().map_or(0, |(covers, _)| *covers);
        let mut records = 0;
        opened.replay(covered, At(0), |_| records += 1).expect("readable");
        (covered, records, opened.damage.len())
    };
    assert_eq!(newest(), (100, 0, 0));
    disk.lose(&format!("{:016x}.snap", 100), 3..4);
    assert_eq!(newest(), (50, 50, 1));
    disk.lose(&format!("{:016x}.snap", 50), 3..4);
    assert_eq!(newest(), (0, 100, 2), "all is in the segments");
}

#[test]
fn a_read_error_that_passes_costs_nothing() {
    let reads = |disk: &SimulatedDisk| {
        let before = disk.reads();
        let (_, _, records, damage) = open(disk);
        (disk.reads() - before, records, damage)
    };
    let (count, all, _) = reads(&written().0);
    assert!(count >= 2, "{count} reads");
    for later in 0..count {
        let (disk, _) = written();
        disk.fail_read(later);
        let (_, records, damage) = reads(&disk);
        assert!(records == all && damage.is_empty(), "read {later}: {damage:?}");
    }
}

#[test]
fn damage_that_cannot_be_copied_aside_does_not_refuse_the_start() {
    let (disk, frames) = written();
    let place = frames[50].1.start as usize + 40;
    disk.corrupt(&writer::segment_name(1), |bytes| bytes[place] ^= 1);
    for call in 1..=3 {
        disk.fail_at(disk.calls() + call, io::ErrorKind::StorageFull, Failing::Once);
        let (_, _, records, damage) = open(&disk);
        assert_eq!((records.len(), damage.len()), (99, 1), "call {call}");
        disk.heal();
    }
}

#[test]
fn files_that_the_disk_cannot_even_look_at_do_not_refuse_the_start() {
    let made = || {
        let (disk, _) = written();
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
        opened.replay(0, At(0), drop).expect("readable");
        let (mut writer, _, snapshots, _) = opened.finish(0).expect("a segment");
        while writer.segments.read().expect("no panic").len() < 3 {
            writer.flush(At(500), &[stranger(writer.next_seq())]).expect("flushed");
        }
        snapshots.write(50, b"one").expect("written");
        (disk, writer.next_seq() - 1)
    };
    let names: Vec<String> = made().0.list().expect("readable").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 5, "three segments, a snapshot and a spare: {names:?}");
    for name in names {
        let (disk, last) = made();
        disk.lose_inode(&name);
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
        let found = opened.snapshot(|body| Ok(body.to_vec())).expect("a start is not refused");
        assert_eq!(found.is_some(), !name.ends_with(".snap"), "{name}");
        opened.replay(0, At(0), drop).expect("readable");
        let (mut writer, _, _, damage) = opened.finish(0).expect("a start is not refused");
        assert!(damage.iter().any(|said| said.contains(&name)), "{name}: {damage:?}");
        let seq = writer.flush(At(1000), &[alerts(&[1])]).expect("flushed");
        // What stood in the last segment nobody knows: as many numbers as it may hold are passed over.
        assert!(seq > last, "{name}: {seq}");
    }
}

#[test]
fn no_number_is_given_again_that_the_newest_segment_may_hold() {
    for lost in ["header", "page", "inode"] {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk);
        while writer.segments.read().expect("no panic").len() < 2 || writer.next_seq() < 120 {
            writer.flush(At(1), &[stranger(writer.next_seq())]).expect("flushed");
        }
        let last = writer.next_seq() - 1;
        drop(writer);
        let name = writer::segment_name(2);
        let content = disk.content(&name);
        match lost {
            "header" => disk.corrupt(&name, |bytes| bytes[..SEGMENT_HEADER as usize].fill(0)),
            "page" => disk.lose(&name, 0..1),
            _ => disk.lose_inode(&name),
        }
        let (mut writer, _, snapshots, damage) = {
            let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
            opened.replay(0, At(0), drop).expect("readable");
            opened.finish(0).expect("a start is not refused")
        };
        assert!(damage.iter().any(|said| said.contains(&name)), "{lost}: {damage:?}");
        // As a start with damage does it: behind the numbers that are passed over.
        snapshots.write(writer.next_seq() - 1, b"the state").expect("written");
        let seq = writer.flush(At(2), &[stranger(1_000)]).expect("flushed");
        assert!(seq > last, "{lost}: {seq} is given again, up to {last} were given");
        drop(writer);
        // The next start misses nothing, and passes over nothing more.
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
        let (covered, _) = opened.snapshot(|_| Ok(())).expect("readable").expect("a snapshot");
        let mut found = Vec::new();
        opened.replay(covered, At(0), |record| found.push(record.seq)).expect("readable");
        let (writer, _, _, damage) = opened.finish(0).expect("a start is not refused");
        assert_eq!((found, writer.next_seq()), (vec![seq], seq + 1), "{lost}");
        assert!(damage.len() == 1 && damage[0].contains(&name), "{lost}: {damage:?}");
        drop(writer);
        if lost == "header" {
            disk.corrupt(&name, |bytes| bytes.clone_from(&content));
            let found: Vec<u64> = open(&disk).2.iter().map(|record| record.seq).collect();
            assert_eq!(
                found,
                (1..=seq).collect::<Vec<_>>(),
                "with its header it is read beside what came since"
            );
        }
    }
}
