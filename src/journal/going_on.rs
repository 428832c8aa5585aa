//! A journal that met a fault while it runs goes on: in another segment, under another number, without what is rotten.

use std::{io, sync::Arc};

use ams2_core::{At, Input, Position};

use super::{
    segment::{FRAME_HEADER, Found, FrameHeader, SegmentHeader, Walk, seal_frame},
    simulated::{Failing, SimulatedDisk},
    storage::Storage,
    tests::{alerts, batch, open, small},
    *,
};

/// The frames of a segment: where each begins, and what it says of itself.
fn frames(disk: &SimulatedDisk, id: u64) -> (SegmentHeader, Vec<(usize, FrameHeader)>) {
    let content = disk.content(&writer::segment_name(id));
    let header = SegmentHeader::decode(&content).expect("whole").0;
    let frames = Walk::new(&content, header).filter_map(|found| match found {
        Found::Frame(offset, header, _) => Some((offset as usize, header)),
        _ => None,
    });
    (header, frames.collect())
}

fn numbers(disk: &SimulatedDisk) -> Vec<u64> {
    open(disk).2.iter().map(|record| record.seq).collect()
}

fn segments(writer: &Writer) -> usize {
    writer.segments.read().expect("no panic").len()
}

fn copy(disk: &SimulatedDisk, from: &str, to: &str) {
    let content = disk.content(from);
    disk.create(to, content.len() as u64).expect("made");
    disk.corrupt(to, |bytes| *bytes = content);
}

/// A journal whose first segment is gone on in, beside many files that are left alone and have the numbers behind it; with
/// how many spare files it has, and no room for another.
fn beside_strays(strays: u64) -> (SimulatedDisk, Writer) {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
    drop(writer);
    for number in 2..2 + strays {
        copy(&disk, &writer::segment_name(1), &writer::segment_name(number));
    }
    let (writer, _, _, damage) = open(&disk);
    assert_eq!(damage.len() as u64, strays, "each is left alone, and said: {damage:?}");
    assert_eq!(segments(&writer), 1);
    (disk, writer)
}

#[test]
fn numbers_that_files_left_alone_have_are_not_tried_for_new_segments() {
    for (fails, strays) in [(false, 1), (false, 9), (true, 1), (true, 9)] {
        let (disk, mut writer) = beside_strays(strays);
        // One spare is there, and that is all: no try may cost it.
        disk.set_capacity(Some(1));
        if fails {
            disk.fail_at(disk.calls() + 2, io::ErrorKind::Other, Failing::Once);
        }
        let mut number = 1;
        while segments(&writer) < 2 {
            number += 1;
            writer.flush(At(number), &[alerts(&[number])]).expect("the spare takes it");
        }
        assert_eq!(writer.failures, u64::from(fails));
        drop(writer);
        assert_eq!(numbers(&disk), (1..=number).collect::<Vec<_>>(), "{strays} strays, {fails}");
    }
}

#[test]
fn a_spare_whose_renaming_fails_is_not_lost() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    disk.set_capacity(Some(1));
    let size = small().segment_bytes;
    while writer.offset() + 600 < size {
        writer.flush(At(1), &[alerts(&[writer.next_seq()])]).expect("flushed");
    }
    // The names are synced before it is renamed: that fails once, then the renaming itself.
    for call in [1, 2] {
        // More than what is left, and not told before.
        let large: Vec<u64> = (call * 1_000..call * 1_000 + 20).collect();
        disk.fail_at(disk.calls() + call, io::ErrorKind::Other, Failing::Once);
        writer.flush(At(2), &[alerts(&large)]).expect("the spare takes it");
        assert_eq!((segments(&writer) as u64, writer.failures), (1 + call, 0), "call {call}");
        // Room for one more.
        disk.set_capacity(None);
        assert!(writer.ensure_spare());
        disk.set_capacity(Some(1));
        while writer.offset() + 600 < size {
            writer.flush(At(1), &[alerts(&[writer.next_seq()])]).expect("flushed");
        }
    }
}

#[test]
fn what_the_disk_lost_is_written_again_in_a_second_try() {
    for call in 1..=8 {
        let disk = SimulatedDisk::new(1);
        let (mut writer, reader, ..) = open(&disk);
        for number in 1..=7 {
            writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
        }
        let (_, places) = frames(&disk, 1);
        disk.corrupt_medium(&writer::segment_name(1), |bytes| bytes[places[1].0 + 40] ^= 1);
        let sync = disk.calls() + 2;
        disk.fail_at(sync, io::ErrorKind::Other, Failing::Once);
        disk.fail_next(sync + call, io::ErrorKind::Other, Failing::Once);
        writer.flush(At(20), &[alerts(&[77])]).expect("another segment takes it");
        for number in 30..40 {
            writer.flush(At(number), &[alerts(&[number])]).expect("it goes on");
        }
        let next = writer.next_seq();
        for seq in 1..next {
            assert!(reader.alert(Position::arrived(seq)).is_ok(), "call {call}: text {seq}");
        }
        drop(writer);
        assert_eq!(numbers(&disk), (1..next).collect::<Vec<_>>(), "call {call}: nothing answered is lost");
    }
}

/// Makes the advance in a frame one that no decoder understands; its checksums are right.
fn spoil(disk: &SimulatedDisk, place: usize, frame: FrameHeader, header: &SegmentHeader) {
    disk.corrupt(&writer::segment_name(1), |bytes| {
        let frame_bytes = &mut bytes[place..place + FRAME_HEADER + frame.payload as usize];
        let mark = [0, codec::INPUT_VERSION, 1];
        let found = frame_bytes.windows(3).rposition(|window| window == mark).expect("an advance");
        frame_bytes[found + 3] = 0x7F;
        seal_frame(frame_bytes, header, frame.seq, frame.at, frame.sequences);
    });
}

#[test]
fn an_input_that_does_not_decode_takes_no_other_along_when_its_frame_is_written_again() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, reader, ..) = open(&disk);
    writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
    writer.flush(At(2), &[alerts(&[2]), Input::Advanced, alerts(&[3, 4])]).expect("flushed");
    writer.flush(At(3), &[alerts(&[5])]).expect("flushed");
    let (header, places) = frames(&disk, 1);
    spoil(&disk, places[1].0, places[1].1, &header);
    disk.corrupt_medium(&writer::segment_name(1), |bytes| bytes[places[0].0 + 40] ^= 1);
    disk.fail_at(disk.calls() + 2, io::ErrorKind::Other, Failing::Once);
    assert_eq!(writer.flush(At(4), &[alerts(&[6])]).expect("another segment takes it"), 7);
    assert_eq!(writer.damaged, 2, "what the disk lost, and what does not decode");
    let read = |seq| reader.alert(Position::arrived(seq)).map(|stored| stored.batch).ok();
    for (seq, number) in [(1, 1), (2, 2), (4, 3), (5, 4), (6, 5), (7, 6)] {
        assert_eq!(read(seq), Some(batch(&[number])), "{seq}");
    }
    assert_eq!(writer.next_seq(), 8);
    drop(writer);
    let (_, _, records, _) = open(&disk);
    let found: Vec<u64> = records.iter().map(|record| record.seq).collect();
    assert_eq!(found, [1, 2, 4, 6, 7]);
    assert_eq!(records[2].input, alerts(&[3, 4]));
}

#[test]
fn texts_beside_an_input_that_does_not_decode_are_read() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(2), &[alerts(&[2]), Input::Advanced, alerts(&[3, 4])]).expect("flushed");
    writer.flush(At(3), &[alerts(&[5])]).expect("flushed");
    drop(writer);
    let (header, places) = frames(&disk, 1);
    spoil(&disk, places[0].0, places[0].1, &header);
    let (_, reader, ..) = open(&disk);
    for (seq, number) in [(1, 2), (3, 3), (4, 4), (5, 5)] {
        let stored = reader.alert(Position::arrived(seq)).expect("readable");
        assert_eq!(stored.batch, batch(&[number]), "{seq}");
    }
    assert!(reader.alert(Position::arrived(2)).is_err());
}

#[test]
fn what_comes_after_rot_was_met_does_not_refer_to_it() {
    for by_records in [false, true] {
        let disk = SimulatedDisk::new(1);
        let (mut writer, reader, ..) = open(&disk);
        writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
        writer.flush(At(2), &[alerts(&[2])]).expect("flushed");
        let (_, places) = frames(&disk, 1);
        disk.corrupt(&writer::segment_name(1), |bytes| bytes[places[0].0 + 40] ^= 1);
        // A delivery that is attempted meets it, or a snapshot that is made.
        if by_records {
            assert!(reader.records(1, 2, |_| ()).is_err());
        } else {
            assert!(reader.alert(Position::arrived(1)).is_err());
        }
        let said = reader.take_damage();
        assert_eq!(said.len(), 1, "{said:?}");
        for seq in 3..=4 {
            assert_eq!(writer.flush(At(seq), &[alerts(&[1])]).expect("flushed"), seq);
            let stored = reader.alert(Position::arrived(seq)).expect("it defines what it tells");
            assert_eq!(stored.batch, batch(&[1]));
        }
        // Once is enough: later ones refer to that.
        let (_, places) = frames(&disk, 1);
        let last = places.last().expect("a frame").1;
        assert!(last.payload < 40, "{} bytes", last.payload);
        drop(writer);
        assert_eq!(numbers(&disk), [2, 3, 4]);
    }
}

#[test]
fn a_disk_that_can_only_be_read_is_a_failed_journal_and_not_a_full_one() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    for number in 1..=5 {
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
    }
    disk.fail_at(disk.calls() + 1, io::ErrorKind::ReadOnlyFilesystem, Failing::ForGood);
    let error = writer.flush(At(6), &[alerts(&[6])]).expect_err("it cannot be written");
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    drop(writer);
    // Nor does a start say that it wants room.
    let start = || {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
        opened.replay(0, At(0), drop).expect("readable");
        opened.finish(0).err()
    };
    let error = start().expect("it cannot be written");
    assert!(
        matches!(&error, OpenError::Io(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem),
        "{error}"
    );
    disk.heal();
    disk.crash();
    assert_eq!(numbers(&disk), (1..=5).collect::<Vec<_>>());
}

#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
    disk.set_quota(Some(1));
    writer.forget_free();
    let space = writer.look_at_space().expect("it stands");
    assert!(!space.full && space.free > 1 << 40, "the disk has room, and the segment: {space:?}");
    while writer.has_room_for_clients() {
        writer.flush(At(2), &[alerts(&[1])]).expect("there is room");
    }
    assert!(writer.look_at_space().expect("it stands").full, "clients are refused");
    writer.flush(At(3), &[Input::Advanced]).expect("our own inputs have room");
    let last = writer.next_seq() - 1;
    drop(writer);
    assert_eq!(numbers(&disk).last(), Some(&last), "nor is a start refused");
    disk.set_quota(None);
    let (mut writer, ..) = open(&disk);
    assert!(!writer.look_at_space().expect("it stands").full);
}

#[test]
fn what_comes_after_rot_does_not_refer_to_it_however_much_was_met_before() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, reader, ..) = open(&disk);
    for number in 1..=300 {
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
    }
    assert_eq!(segments(&writer), 1);
    let rot = |place: usize| disk.corrupt(&writer::segment_name(1), |bytes| bytes[place + 40] ^= 1);
    let (_, places) = frames(&disk, 1);
    for (place, _) in &places {
        rot(*place);
    }
    for seq in 1..=300 {
        assert!(reader.alert(Position::arrived(seq)).is_err(), "{seq}");
    }
    assert_eq!(reader.take_damage().len(), 256, "more are not said");
    let mut offset = writer.offset();
    for seq in (301..=305).step_by(2) {
        assert_eq!(writer.flush(At(seq), &[alerts(&[1])]).expect("flushed"), seq);
        rot(offset as usize);
        assert!(reader.alert(Position::arrived(seq)).is_err(), "{seq} is rotten");
        writer.flush(At(seq), &[alerts(&[1])]).expect("flushed");
        let stored = reader.alert(Position::arrived(seq + 1)).expect("it defines what it tells");
        assert_eq!(stored.batch, batch(&[1]));
        offset = writer.offset();
    }
}

#[test]
fn the_disk_is_not_asked_for_its_room_at_each_flush() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    let asked = disk.asked();
    for number in 0..50 {
        assert!(writer.room_for_clients() > small().segment_bytes && writer.room_for_operators() > 0);
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
    }
    assert_eq!(disk.asked(), asked);
    disk.set_capacity(Some(1));
    assert!(!writer.look_at_space().expect("it stands").full);
    assert!(writer.room_for_clients() < small().segment_bytes, "what was seen counts");
}
