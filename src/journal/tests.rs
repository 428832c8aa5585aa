//! What the journal promises: what was flushed is read again, whatever the disk does.

use std::{io, sync::Arc};

use ams2_core::{
    AlertBatch, At, BatchBuilder, Input, Position, Wall,
    batch::AlertTimes,
    input::{Arrival, Carried, CarriedItem, CarriedText, JournalRecord},
};
use proptest::prelude::*;

use crate::handler::{TextError, Texts};

use super::{
    simulated::{Failing, SimulatedDisk},
    storage::Storage,
    *,
};

pub(super) fn small() -> Options {
    Options { segment_bytes: 64 << 10, free_bytes_min: 0, ..Options::default() }
}

pub(super) fn batch(numbers: &[u64]) -> AlertBatch {
    let mut builder = BatchBuilder::default();
    for number in numbers {
        builder.label("event", "Virus Found");
        builder.label("computer", &format!("ws-{:03}", number % 7));
        builder.annotation("summary", &format!("number {number}"));
        let id = format!("id-{number}");
        let times = AlertTimes { starts_at: Some(Wall(1_700_000_000_000 + *number as i64)), ends_at: None };
        builder.finish_alert(times, (number % 2 == 0).then_some(&id), None).expect("valid");
    }
    builder.finish()
}

pub(super) fn alerts(numbers: &[u64]) -> Input {
    Input::Alerts(Arrival { client: "test".into(), batch: Arc::new(batch(numbers)) })
}

pub(super) fn open(disk: &SimulatedDisk) -> (Writer, JournalReader, Vec<JournalRecord>, Vec<String>) {
    let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
    let mut records = Vec::new();
    opened.replay(0, At(0), |record| records.push(record)).expect("readable");
    let (writer, reader, _, damage) = opened.finish(1_700_000_000_000).expect("a new segment");
    (writer, reader, records, damage)
}

#[test]
fn what_is_flushed_is_read_again_in_order() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    assert_eq!(writer.flush(At(5), &[alerts(&[1, 2, 3]), Input::Advanced]).expect("flushed"), 1);
    assert_eq!(writer.flush(At(4), &[alerts(&[1])]).expect("flushed"), 5);
    drop(writer);
    let (writer, _, records, damage) = open(&disk);
    let seen: Vec<_> = records.iter().map(|record| (record.seq, record.at.0)).collect();
    assert_eq!(seen, [(1, 5), (4, 5), (5, 5)], "the clock does not fall");
    assert_eq!(records[0].input, alerts(&[1, 2, 3]));
    assert_eq!((writer.next_seq(), damage), (6, vec![]));
}

#[test]
fn a_refresh_costs_a_few_bytes_and_decodes_alone() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    let mut builder = BatchBuilder::default();
    builder.label("event", &"long ".repeat(50));
    builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
    let input = Input::Alerts(Arrival { client: "c".into(), batch: builder.finish().into() });
    let size = |writer: &mut Writer| {
        let before = writer.segments.read().expect("no panic").last().expect("one").end.expect("flushed");
        writer.flush(At(1), std::slice::from_ref(&input)).expect("flushed");
        writer.segments.read().expect("no panic").last().expect("one").end.expect("flushed") - before
    };
    assert!(size(&mut writer) > 250);
    let refresh = size(&mut writer) - segment::FRAME_HEADER as u64;
    assert!(refresh <= 12, "{refresh} bytes");
}

#[test]
fn texts_are_read_back_by_position_beside_the_writing() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, reader, ..) = open(&disk);
    for round in 0..300u64 {
        let numbers: Vec<u64> = (0..5).map(|i| round * 5 + i).collect();
        writer.flush(At(round), &[Input::Advanced, alerts(&numbers)]).expect("flushed");
    }
    let item = CarriedItem {
        from: Position::arrived(2),
        text: CarriedText::Alert { client: "old".into(), batch: batch(&[77]) },
    };
    let seq = writer.flush(At(999), &[Input::Carried(Carried { items: vec![item] })]).expect("flushed");
    assert_eq!(reader.alert(Position::arrived(seq)).expect("readable").batch, batch(&[77]));
    for round in [0u64, 1, 150, 299] {
        for i in 0..5 {
            let seq = 1 + round * 6 + 1 + i;
            let stored = reader.alert(Position::arrived(seq)).expect("readable");
            assert_eq!((stored.batch, stored.at), (batch(&[round * 5 + i]), At(round)));
        }
    }
    assert!(reader.alert(Position::arrived(1)).is_err(), "an advance is no alert");
    assert!(reader.alert(Position::arrived(99_999)).is_err());
    let (_, reader, ..) = open(&disk);
    assert_eq!(reader.alert(Position::arrived(2)).expect("readable").batch, batch(&[0]));
    let mut count = 0;
    reader.records(97, 200, |record| count += record.input.sequences()).expect("readable");
    assert_eq!(count, 108, "97 to 204: the record at 200 has five");
    assert!(reader.records(99, 200, |_| ()).is_err(), "no record begins at 99: one was lost");
}

#[test]
fn every_truncation_and_every_flipped_bit_is_noticed_and_costs_only_itself() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    for number in 0..7 {
        writer.flush(At(number), &[alerts(&[number]), Input::Advanced]).expect("flushed");
    }
    let end = writer.segments.read().expect("no panic")[0].end.expect("flushed") as usize;
    drop(writer);
    let name = writer::segment_name(1);
    let whole = disk.content(&name);
    let all = open(&disk).2;
    let try_with = |content: Vec<u8>| {
        let disk = SimulatedDisk::new(1);
        disk.create(&name, 0).expect("a file");
        disk.corrupt(&name, |bytes| *bytes = content);
        let options = Options { segment_bytes: 4096, ..small() };
        let mut opened = Opened::open(Arc::new(disk), options, [11, 22, 33]).expect("opens");
        let mut records = Vec::new();
        opened.replay(0, At(0), |record| records.push(record)).expect("readable");
        assert!(records.iter().all(|record| all.contains(record)), "nothing is made up");
        let damage = std::mem::take(&mut opened.damage);
        opened.finish(0).expect("a new segment");
        (records.len(), damage)
    };
    for length in 0..end {
        let (count, _) = try_with(whole[..length].to_vec());
        assert_eq!(count % 2, 0, "a frame is there as a whole or not at all");
    }
    let last_frame = end - (end - segment::SEGMENT_HEADER as usize) / 7 - 8;
    for offset in 0..end {
        for bit in 0..8 {
            let mut bytes = whole[..end].to_vec();
            bytes[offset] ^= 1 << bit;
            let (count, damage) = try_with(bytes);
            let lost = if offset < segment::SEGMENT_HEADER as usize { 0 } else { 2 };
            assert_eq!(count, all.len() - lost, "byte {offset} bit {bit}: the other frames are read");
            // In the last frame it cannot be told from a torn end.
            assert!(offset >= last_frame || !damage.is_empty(), "byte {offset} bit {bit} went unnoticed");
        }
    }
}

#[test]
fn a_text_that_stands_in_damage_is_not_made_up() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    for _ in 0..3 {
        writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
    }
    drop(writer);
    disk.corrupt(&writer::segment_name(1), |bytes| {
        let place = bytes.windows(6).position(|window| window == b"ws-001").expect("the definition");
        bytes[place] = b'x';
    });
    let (_, reader, records, damage) = open(&disk);
    assert_eq!((records, damage.len()), (vec![], 3), "the frame and both that point into it");
    assert!(reader.alert(Position::arrived(2)).is_err());
}

#[test]
fn nothing_flushed_is_lost_in_crashes() {
    for seed in 0..300u64 {
        let disk = SimulatedDisk::new(seed);
        let mut flushed: Vec<(u64, u64)> = Vec::new();
        let mut number = 0;
        for round in 0..6 {
            let (mut writer, _, records, damage) = open(&disk);
            let found: Vec<(u64, u64)> = records
                .iter()
                .filter_map(|record| match &record.input {
                    Input::Alerts(arrival) => {
                        let text = arrival.batch.alert(0)?.annotations().next()?.1;
                        Some((record.seq, text.strip_prefix("number ")?.parse().ok()?))
                    }
                    _ => None,
                })
                .collect();
            for kept in &flushed {
                assert!(
                    found.contains(kept),
                    "seed {seed} round {round}: {kept:?} is lost; damage {damage:?}"
                );
            }
            let first_call = disk.calls();
            disk.fail_at(first_call + 3 + seed % 17 + round, io::ErrorKind::Other, Failing::Once);
            for _ in 0..10 + seed % 200 {
                number += 1;
                if let Ok(seq) = writer.flush(At(number), &[alerts(&[number])]) {
                    flushed.push((seq, number));
                }
            }
            disk.crash();
        }
    }
}

#[test]
fn a_failed_sync_is_final_for_its_segment_and_nothing_is_answered_twice() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    for call in 0..40 {
        disk.fail_at(disk.calls() + 1 + call % 4, io::ErrorKind::Other, Failing::Once);
        writer.flush(At(call), &[alerts(&[call])]).expect("a new segment takes it");
    }
    assert!(writer.failures > 10);
    disk.fail_at(u64::MAX, io::ErrorKind::Other, Failing::Once);
    drop(writer);
    let (_, _, records, _) = open(&disk);
    let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>(), "each number once, in order");
}

#[test]
fn a_disk_that_fails_for_good_is_said_and_nothing_more_is_taken() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    disk.fail_at(disk.calls() + 1, io::ErrorKind::Other, Failing::ForGood);
    assert!(writer.flush(At(1), &[alerts(&[1])]).is_err());
}

#[test]
fn old_segments_go_only_behind_a_snapshot_and_are_recycled() {
    let disk = SimulatedDisk::new(1);
    let options =
        Options { retention: Retention { age: Duration::from_secs(1), bytes: u64::MAX }, ..small() };
    let opened = Opened::open(Arc::new(disk.clone()), options, [1, 2, 3]).expect("opens");
    let (mut writer, reader, snapshots, _) = opened.finish(0).expect("a segment");
    let mut number = 0;
    while writer.segments.read().expect("no panic").len() < 6 {
        number += 1;
        let text = format!("{number}").repeat(2000);
        let mut builder = BatchBuilder::default();
        builder.label("event", &text);
        builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
        let input = Input::Alerts(Arrival { client: "c".into(), batch: builder.finish().into() });
        writer.flush(At(number * 1000), &[input]).expect("flushed");
    }
    let (now, none) = (writer.at(), Pressure::None);
    assert_eq!(writer.droppable(0, now, none), None, "no snapshot covers anything");
    let covered = writer.next_seq() - 1;
    snapshots.write(covered, b"the state").expect("written");
    assert_eq!(writer.droppable(covered, At(0), none), None, "nothing is old enough");
    // Under pressure age is nothing, and the oldest goes first; retention goes by the time now, not by that of the last flush.
    let second = writer.segments.read().expect("no panic")[1].header.first_seq;
    assert_eq!(writer.droppable(covered, At(0), Pressure::Scarce), Some(second));
    assert_eq!(writer.droppable(0, At(0), Pressure::Scarce), None, "no snapshot covers anything");
    let newest = writer.segments.read().expect("no panic").last().expect("one").header.first_seq;
    assert_eq!(writer.droppable(covered, now.plus(10_000), none), Some(newest));
    let keep_from = writer.droppable(covered, now, none).expect("old enough");
    writer.drop_before(keep_from).expect("dropped");
    assert!(reader.alert(Position::arrived(1)).is_err());
    assert!(reader.alert(Position::arrived(keep_from)).is_ok());
    // Who still asks for what went with its segment is not told that it is lost: it was carried forward.
    let asked = |reader: &JournalReader| Texts::alert(reader, Position::arrived(1)).err();
    assert!(matches!(asked(&reader), Some(TextError::Unreadable(_))));
    let free = disk.list().expect("readable").iter().filter(|(name, _)| name.ends_with(".free")).count();
    assert!(free >= 1, "files are used again");
    // A recycled file still holds frames of its earlier life: they must not come back.
    for more in 0..40 {
        writer.flush(At(1_000_000 + more), &[alerts(&[more])]).expect("flushed");
    }
    let next = writer.next_seq();
    drop(writer);
    let mut opened = Opened::open(Arc::new(disk), small(), [9, 9, 9]).expect("opens");
    let (covers, body) = opened.snapshot(|body| Ok(body.to_vec())).expect("readable").expect("a snapshot");
    assert_eq!((covers, body.as_slice()), (covered, b"the state".as_slice()));
    let mut seqs = Vec::new();
    opened.replay(covers, At(0), |record| seqs.push(record.seq)).expect("readable");
    assert_eq!(seqs, (covered + 1..next).collect::<Vec<_>>());
    assert_eq!(opened.damage, Vec::<String>::new());
    let (_, reader, ..) = opened.finish(0).expect("a segment");
    assert_eq!(asked(&reader), Some(TextError::Lost), "nothing that is under way asks for it any more");
}

/// A file is used again only once it is durable that its segment went: else that segment came back under its old name,
/// with a header that another had written over its own.
#[test]
fn a_segment_that_went_never_comes_back_as_damage() {
    for seed in 0..20 {
        for call in 1..=12 {
            let disk = SimulatedDisk::new(seed);
            let options =
                Options { retention: Retention { age: Duration::from_secs(1), bytes: u64::MAX }, ..small() };
            let opened = Opened::open(Arc::new(disk.clone()), options.clone(), [1, 2, 3]).expect("opens");
            let (mut writer, _, snapshots, _) = opened.finish(0).expect("a segment");
            let mut number = 0;
            let mut flush = |writer: &mut Writer| {
                number += 1;
                let mut builder = BatchBuilder::default();
                builder.label("event", &format!("{number}").repeat(20_000));
                builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
                let input = Input::Alerts(Arrival { client: "c".into(), batch: builder.finish().into() });
                writer.flush(At(number * 1000), &[input])
            };
            while writer.segments.read().expect("no panic").len() < 4 {
                flush(&mut writer).expect("flushed");
            }
            let covered = writer.next_seq() - 1;
            snapshots.write(covered, b"the state").expect("written");
            let keep_from = writer.droppable(covered, writer.at(), Pressure::None).expect("old enough");
            // A segment goes where the next one begins no later than what is kept.
            let firsts = |writer: &Writer| -> Vec<u64> {
                let segments = writer.segments.read().expect("no panic");
                segments.iter().map(|segment| segment.header.first_seq).collect()
            };
            let gone = firsts(&writer)[1..].iter().filter(|first| **first <= keep_from).count() as u64;
            // The renames are done, and whether they last is not known.
            disk.fail_at(disk.calls() + gone + 1, io::ErrorKind::Other, Failing::Once);
            writer.drop_before(keep_from).expect_err("the names are not synced");
            disk.fail_at(disk.calls() + call, io::ErrorKind::Other, Failing::ForGood);
            while flush(&mut writer).is_ok() {}
            drop(writer);
            disk.crash();
            let mut opened = Opened::open(Arc::new(disk), options, [9, 9, 9]).expect("opens");
            opened.snapshot(|body| Ok(body.to_vec())).expect("readable").expect("a snapshot");
            opened.replay(covered, At(0), |_| {}).expect("readable");
            assert_eq!(opened.damage, Vec::<String>::new(), "seed {seed}, power went at call {call}");
        }
    }
}

#[test]
fn a_bad_snapshot_falls_back_to_the_older_one() {
    let disk = SimulatedDisk::new(1);
    let opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
    let (mut writer, _, snapshots, _) = opened.finish(0).expect("a segment");
    for number in 0..10 {
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
        snapshots.write(number + 1, &[number as u8]).expect("written");
    }
    disk.corrupt(&format!("{:016x}.snap", 10), |bytes| bytes[45 - 5] ^= 1);
    let mut opened = Opened::open(Arc::new(disk), small(), [1, 2, 3]).expect("opens");
    let (covers, body) = opened.snapshot(|body| Ok(body.to_vec())).expect("readable").expect("the older one");
    assert_eq!((covers, body), (9, vec![8]));
    assert_eq!(opened.damage.len(), 1);
}

#[test]
fn what_the_older_snapshot_needs_stays_until_there_is_another_to_fall_back_on() {
    let disk = SimulatedDisk::new(1);
    let options = Options { retention: Retention { age: Duration::ZERO, bytes: 0 }, ..small() };
    let opened = Opened::open(Arc::new(disk.clone()), options.clone(), [1, 2, 3]).expect("opens");
    let (mut writer, _, snapshots, _) = opened.finish(0).expect("a segment");
    let mut made = Vec::new();
    for number in 0..3000 {
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
        if number % 1000 == 999 {
            snapshots.write(number + 1, &[made.len() as u8]).expect("written");
            made.push(number + 1);
            let covered = snapshots.covered().expect("readable");
            if let Some(keep_from) = writer.droppable(covered, writer.at(), Pressure::None) {
                writer.drop_before(keep_from).expect("dropped");
            }
            // The newest is rotten: the one before it, or the beginning, is begun with.
            let rotten = SimulatedDisk::clone(&disk);
            rotten.corrupt(&format!("{:016x}.snap", number + 1), |bytes| bytes[40] ^= 1);
            let mut opened = Opened::open(Arc::new(disk.clone()), options.clone(), [1, 2, 3]).expect("opens");
            let found = opened.snapshot(|body| Ok(body.to_vec())).expect("readable");
            let covered = found.map_or(0, |(covers, _)| covers);
            let mut next = covered + 1;
            opened
                .replay(covered, At(0), |record| {
                    assert_eq!(record.seq, next, "behind {covered}");
                    next += 1;
                })
                .expect("readable");
            assert_eq!(next, number + 2);
            rotten.corrupt(&format!("{:016x}.snap", number + 1), |bytes| bytes[40] ^= 1);
        }
    }
    let first = writer.segments.read().expect("no panic")[0].header.first_seq;
    assert!(first > 1 && first <= made[1] + 1, "{first}: what both cover may go");
}

#[test]
fn a_read_error_is_not_taken_for_a_loss() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(0), &[alerts(&[1])]).expect("flushed");
    let others: Vec<u64> = (100..400).collect();
    writer.flush(At(1), &[alerts(&others)]).expect("flushed");
    let seq = writer.flush(At(2), &[alerts(&[1])]).expect("flushed");
    // The last frame is written again by a start.
    writer.flush(At(3), &[Input::Advanced]).expect("flushed");
    drop(writer);
    let (_, reader, ..) = open(&disk);
    let read = || Texts::alert(&reader, Position::arrived(seq)).map(|stored| stored.batch);
    assert_eq!(read(), Ok(batch(&[1])));
    // Its own frame is pages behind; what it says stands in the first one.
    let place = segment::SEGMENT_HEADER + segment::FRAME_HEADER as u64 + 20;
    disk.lose(&writer::segment_name(1), place..place + 1);
    assert!(matches!(read(), Err(TextError::Unreadable(_))), "{:?}", read());
}

#[test]
fn the_text_of_a_config_is_read_without_what_came_with_it() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(0), &[alerts(&[1])]).expect("flushed");
    let end = writer.segments.read().expect("no panic")[0].end.expect("flushed") as usize;
    let install = ams2_core::config::Install {
        config: ams2_core::Config::single(
            ams2_core::config::Receiver { name: "ops".into(), actions: vec![] },
            ams2_core::config::Route::default(),
        ),
        text: "the text".into(),
        rule_version: 1,
        removed: vec![],
        by: "test".into(),
    };
    // The alert says where its labels stand, and there is damage.
    let seq = writer.flush(At(1), &[alerts(&[1]), Input::ConfigInstalled(install.into())]).expect("flushed");
    drop(writer);
    disk.corrupt(&writer::segment_name(1), |bytes| bytes[end - 1] ^= 1);
    let (_, reader, ..) = open(&disk);
    assert!(matches!(reader.alert(Position::arrived(seq)), Err(ReadError::Missing(_))));
    assert_eq!(reader.config_text(Position::arrived(seq + 1)).expect("readable"), "the text");
    assert!(reader.config_text(Position::arrived(seq)).is_err(), "an alert is no config");
}

#[test]
fn an_input_that_does_not_decode_costs_no_other_of_its_flush() {
    for (bad, sequences, seqs) in
        [(1, 1, vec![1, 2, 4]), (1, 3, vec![1, 2, 6]), (2, 2, vec![1, 2, 5]), (2, 3, vec![1, 2])]
    {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk);
        writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
        let info = writer.segments.read().expect("no panic")[0].clone();
        drop(writer);
        let place = info.end.expect("flushed") as usize;
        let mut frame = vec![0; segment::FRAME_HEADER];
        let mut dictionary = codec::Dictionary::new([1, 2]);
        let mut encode = |number, frame: &mut Vec<u8>| {
            codec::encode(&alerts(&[number]), frame, place as u64, info.header.base_ms, &mut dictionary);
        };
        encode(2, &mut frame);
        for _ in 0..bad {
            // Kind, version, length, and no input at all.
            frame.extend_from_slice(&[0, codec::INPUT_VERSION, 1, 0x7F]);
        }
        encode(3, &mut frame);
        segment::seal_frame(&mut frame, &info.header, 2, At(2), 2 + sequences);
        disk.corrupt(&writer::segment_name(1), |bytes| {
            bytes[place..place + frame.len()].copy_from_slice(&frame)
        });
        let (writer, _, records, damage) = open(&disk);
        let found: Vec<u64> = records.iter().map(|record| record.seq).collect();
        assert_eq!(found, seqs, "{bad} bad ones that take {sequences} numbers");
        assert_eq!(writer.next_seq(), 4 + u64::from(sequences));
        assert!(
            damage.iter().any(|said| said.contains("the record 3 ") || said.contains("the records 3 to ")),
            "{damage:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_batch_comes_back_as_it_was(
        alerts in proptest::collection::vec(
            (
                proptest::collection::btree_map("\\PC{1,8}", "\\PC{1,40}", 1..6),
                proptest::collection::btree_map("\\PC{1,8}", "\\PC{0,80}", 0..4),
                proptest::option::of(any::<i64>()), proptest::option::of("\\PC{1,20}"), proptest::option::of("\\PC{1,30}"),
            ), 1..20),
        base in any::<i64>(),
    ) {
        let mut builder = BatchBuilder::default();
        for (labels, annotations, time, id, url) in &alerts {
            labels.iter().for_each(|(name, value)| builder.label(name, value));
            annotations.iter().for_each(|(name, value)| builder.annotation(name, value));
            let times = AlertTimes { starts_at: time.map(Wall), ends_at: time.map(Wall) };
            builder.finish_alert(times, id.as_deref(), url.as_deref()).expect("valid");
        }
        let input = Input::Alerts(Arrival { client: "någon".into(), batch: Arc::new(builder.finish()) });
        let mut dictionary = codec::Dictionary::new([1, 2]);
        let mut bytes = Vec::new();
        for _ in 0..2 {
            codec::encode(&input, &mut bytes, 0, base, &mut dictionary);
        }
        let mut decoder = codec::Decoder::new(&bytes);
        for _ in 0..2 {
            prop_assert_eq!(&decoder.input(&codec::InMemory { bytes: &bytes, damaged: &[] }, base).expect("decodes"), &input);
        }
        prop_assert!(decoder.is_empty());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = codec::Decoder::new(&bytes);
        while decoder.input(&codec::InMemory { bytes: &bytes, damaged: &[] }, 0).is_ok() {
            if decoder.is_empty() { break; }
        }
        let header = segment::SegmentHeader { journal: 1, id: 1, first_seq: 1, base_ms: 0, first_at: At(0), by: [0; 4] };
        segment::Walk::new(&bytes, header).for_each(drop);
    }
}

#[test]
fn a_text_whose_frame_has_rotted_since_is_not_believed_and_said_once() {
    for rots_later in [false, true] {
        let disk = SimulatedDisk::new(1);
        let (mut writer, reader, ..) = open(&disk);
        writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
        let seq = writer.flush(At(2), &[alerts(&[1])]).expect("flushed");
        let read = || reader.alert(Position::arrived(seq)).map(|stored| stored.batch);
        if rots_later {
            assert_eq!(read().expect("whole"), batch(&[1]));
        }
        // The text stays readable as one: nothing but the checksum tells.
        disk.corrupt(&writer::segment_name(1), |bytes| {
            let place = bytes.windows(6).position(|window| window == b"ws-001").expect("the definition");
            bytes[place + 5] = b'7';
        });
        for _ in 0..2 {
            assert!(matches!(read(), Err(ReadError::Missing(_))), "{:?}", read());
        }
        let said = reader.take_damage();
        assert!(said.len() == 1 && said[0].contains("0000000000000001.seg"), "{said:?}");
        assert_eq!(reader.take_damage(), Vec::<String>::new());
    }
}

#[test]
fn a_long_text_that_stands_earlier_is_read_without_the_rest_of_its_frame() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, reader, ..) = open(&disk);
    let mut builder = BatchBuilder::default();
    for number in 0..200 {
        builder.label("event", &number.to_string());
        builder.annotation("text", &number.to_string().repeat(100_000 / (1 + number % 7)));
        builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
    }
    let input = Input::Alerts(Arrival { client: "c".into(), batch: builder.finish().into() });
    writer.flush(At(1), std::slice::from_ref(&input)).expect("flushed");
    writer.flush(At(2), std::slice::from_ref(&input)).expect("flushed");
    writer.flush(At(3), &[Input::Advanced]).expect("flushed");
    let Input::Alerts(Arrival { batch, .. }) = &input else { panic!("alerts") };
    for number in 0..200 {
        let stored = reader.alert(Position::arrived(201 + number)).expect("readable");
        let (read, wanted) =
            (stored.batch.alert(0).expect("one"), batch.alert(number as usize).expect("there"));
        assert_eq!(read.annotations().next(), wanted.annotations().next(), "{number}");
    }
}

#[test]
fn orderly_restarts_take_no_segment_each() {
    let disk = SimulatedDisk::new(1);
    for number in 0..40 {
        let (mut writer, _, records, damage) = open(&disk);
        assert_eq!((records.len() as u64, damage), (number, vec![]));
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
    }
    let is_segment = |(name, _): &(String, u64)| name.ends_with(".seg");
    assert_eq!(disk.list().expect("readable").iter().filter(|file| is_segment(file)).count(), 1);
    // One that does not check to its end is left as it is.
    let end = disk.content(&writer::segment_name(1)).iter().rposition(|byte| *byte != 0).expect("written");
    disk.corrupt(&writer::segment_name(1), |bytes| bytes[end] ^= 1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(99), &[alerts(&[99])]).expect("flushed");
    assert_eq!(disk.list().expect("readable").iter().filter(|file| is_segment(file)).count(), 2);
}

#[test]
fn a_whole_segment_under_another_name_is_read_and_one_that_nobody_needs_is_used_again() {
    for covers in [0, 5] {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk);
        for number in 0..5 {
            writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
        }
        drop(writer);
        let (from, to) = (writer::segment_name(1), writer::segment_name(7));
        disk.rename(&from, &to).expect("renamed");
        let before = disk.content(&to);
        let start = |covers: u64| {
            let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
            let mut records = 0;
            opened.replay(covers, At(0), |_| records += 1).expect("readable");
            let (writer, reader, _, damage) = opened.finish(0).expect("a segment");
            assert_eq!(damage, Vec::<String>::new());
            (writer, reader, records)
        };
        let (mut writer, _, records) = start(covers);
        assert_eq!(writer.flush(At(9), &[alerts(&[9])]).expect("flushed"), 6);
        drop(writer);
        if covers == 0 {
            assert_eq!(records, 5);
            // A snapshot that covers it takes nothing away.
            let (_, reader, _) = start(6);
            for seq in 1..=6 {
                assert!(reader.alert(Position::arrived(seq)).is_ok(), "{seq}");
            }
        } else {
            assert!(records == 0 && disk.content(&to) != before);
        }
    }
}

#[test]
fn a_snapshot_that_does_not_check_is_none_to_fall_back_on() {
    let disk = SimulatedDisk::new(1);
    let start = || {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
        let found = opened.snapshot(|body| Ok(body.to_vec())).expect("readable").map(|(covers, _)| covers);
        opened.replay(found.unwrap_or(0), At(0), drop).expect("readable");
        let (writer, _, snapshots, damage) = opened.finish(0).expect("a segment");
        (found, writer, snapshots, damage.len())
    };
    let names = || -> Vec<String> {
        let names = disk.list().expect("readable").into_iter().map(|(name, _)| name);
        names.filter(|name| name.contains(".snap")).collect()
    };
    let name = |covers: u64| format!("{covers:016x}.snap");
    let (_, mut writer, snapshots, _) = start();
    for number in 1..=40 {
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
    }
    snapshots.write(10, b"one").expect("written");
    snapshots.write(20, b"two").expect("written");
    assert_eq!(snapshots.covered().expect("readable"), 10);
    // A stranger's file of the same length is no snapshot of ours.
    disk.create("my-own-notes-ab.snap", 0).expect("made");
    drop(writer);
    disk.corrupt(&name(20), |bytes| bytes[41] ^= 1);
    let (found, _, snapshots, damage) = start();
    assert_eq!((found, damage), (Some(10), 1));
    assert_eq!(snapshots.covered().expect("readable"), 0, "one is left, and none to fall back on");
    snapshots.write(30, b"three").expect("written");
    let left = [name(10), format!("{}.damaged", name(20)), name(30), "my-own-notes-ab.snap".into()];
    assert_eq!(names(), left);
    assert_eq!(snapshots.covered().expect("readable"), 10);
    // The same for one that rots while the process runs: it is met when it is read.
    disk.corrupt(&name(30), |bytes| bytes[41] ^= 1);
    assert_eq!(snapshots.newest().expect("readable"), Some((10, b"one".to_vec())));
    snapshots.write(40, b"four").expect("written");
    assert_eq!(snapshots.covered().expect("readable"), 10);
    // And for the one to fall back on: a start reads the newest alone.
    disk.corrupt(&name(10), |bytes| bytes[41] ^= 1);
    let (found, _, snapshots, _) = start();
    assert_eq!((found, snapshots.covered().expect("readable")), (Some(40), 0));
    assert!(names().contains(&format!("{}.damaged", name(10))), "{:?}", names());
}

#[test]
fn a_segment_that_cannot_be_begun_costs_another_try_not_the_journal() {
    // Ten flushes fill the small segment; each call of the change to the next one fails once.
    for call in 1..=8 {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk);
        let size = small().segment_bytes;
        while writer.segments.read().expect("no panic")[0].end.is_some_and(|end| end + 600 < size) {
            writer.flush(At(1), &[alerts(&[writer.next_seq()])]).expect("flushed");
        }
        disk.fail_at(disk.calls() + call, io::ErrorKind::Other, Failing::Once);
        for _ in 0..20 {
            writer.flush(At(2), &[alerts(&[writer.next_seq()])]).expect("another segment takes it");
        }
        let kept = writer.next_seq() - 1;
        drop(writer);
        let (_, _, records, _) = open(&disk);
        let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, (1..=kept).collect::<Vec<_>>(), "call {call}");
    }
}

#[test]
fn a_record_whose_texts_are_damaged_takes_no_other_of_its_flush_along() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
    // The same alert again refers to the first; a stranger and an advance are in the same flush.
    writer.flush(At(2), &[alerts(&[1, 1]), alerts(&[2]), Input::Advanced]).expect("flushed");
    writer.flush(At(3), &[Input::Advanced]).expect("flushed");
    drop(writer);
    let whole = open(&disk).2;
    let first_frame = whole.len();
    assert_eq!(first_frame, 5);
    let at = segment::SEGMENT_HEADER as usize + segment::FRAME_HEADER + 20;
    disk.corrupt(&writer::segment_name(1), |bytes| bytes[at] ^= 0x40);
    let (_, _, records, damage) = open(&disk);
    let kept: Vec<u64> = records.iter().map(|record| record.seq).collect();
    assert_eq!(kept, [4, 5, 6], "1 is damaged, and what refers to it: 2 and 3; {damage:?}");
    assert!(damage.iter().any(|words| words.contains("records 2 to 3 do not decode")), "{damage:?}");
    assert_eq!(records[0], whole[2]);
}

#[test]
fn a_segment_that_has_grown_is_not_used_again() {
    let disk = SimulatedDisk::new(1);
    let options =
        Options { retention: Retention { age: Duration::from_secs(1), bytes: u64::MAX }, ..small() };
    let opened = Opened::open(Arc::new(disk.clone()), options, [1, 2, 3]).expect("opens");
    let (mut writer, _, snapshots, _) = opened.finish(0).expect("a segment");
    let numbers: Vec<u64> = (0..5_000).collect();
    writer.flush(At(1_000), &[alerts(&numbers)]).expect("flushed");
    writer.flush(At(2_000), &[alerts(&[1])]).expect("flushed");
    let size = small().segment_bytes;
    let large = |disk: &SimulatedDisk| {
        let files = disk.list().expect("readable");
        files.into_iter().filter(|(_, bytes)| *bytes > size).map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(large(&disk), [writer::segment_name(1)]);
    snapshots.write(writer.next_seq() - 1, b"the state").expect("written");
    let keep_from = writer.droppable(writer.next_seq() - 1, At(9_000), Pressure::None).expect("old enough");
    writer.drop_before(keep_from).expect("dropped");
    assert_eq!(large(&disk), Vec::<String>::new());
    drop(writer);
    // One that was kept by another setting goes at the start.
    disk.create("77.free", size + 1).expect("made");
    open(&disk);
    assert_eq!(large(&disk), Vec::<String>::new());
}
