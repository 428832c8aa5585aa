//! After a failed sync what was answered before is looked for on the disk itself: memory may hold what the disk has lost.

use std::io;

use ams2_core::{At, Position};

use super::{
    segment::{Found, SegmentHeader, Walk},
    simulated::{Failing, SimulatedDisk},
    tests::{alerts, batch, open},
    *,
};

#[test]
fn what_a_failed_sync_took_along_is_found_counted_and_written_again() {
    for rotten in 0..10 {
        let disk = SimulatedDisk::new(1);
        let (mut writer, reader, ..) = open(&disk);
        for number in 0..10 {
            // The same alerts again: later records refer to earlier ones.
            writer.flush(At(number), &[alerts(&[number % 3, number])]).expect("flushed");
        }
        let name = writer::segment_name(1);
        let content = disk.content(&name);
        let header = SegmentHeader::decode(&content).expect("whole").0;
        let place = Walk::new(&content, header)
            .filter_map(|found| match found {
                Found::Frame(offset, ..) => Some(offset as usize),
                _ => None,
            })
            .nth(rotten)
            .expect("a frame");
        disk.corrupt_medium(&name, |bytes| bytes[place + 40] ^= 1);
        // The write succeeds, the sync does not.
        disk.fail_at(disk.calls() + 2, io::ErrorKind::Other, Failing::Once);
        let seq = writer.flush(At(20), &[alerts(&[77])]).expect("another segment takes it");
        assert_eq!((seq, writer.next_seq(), writer.failures, writer.damaged), (21, 22, 1, 1));
        for seq in 1..=21 {
            assert!(reader.alert(Position::arrived(seq)).is_ok(), "frame {rotten}: text {seq}");
        }
        drop(writer);
        disk.crash();
        let (_, _, records, _) = open(&disk);
        let found: Vec<u64> = records.iter().map(|record| record.seq).collect();
        let all: Vec<u64> = (0..10).map(|number| 1 + 2 * number).chain([21]).collect();
        assert_eq!(found, all, "frame {rotten}: nothing that was answered is lost");
        assert_eq!(records[3].input, alerts(&[0, 3]));
    }
}

#[test]
fn what_even_memory_has_lost_is_counted_as_damage() {
    for rotten in [3, 9] {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk);
        for number in 0..10 {
            writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
        }
        let name = writer::segment_name(1);
        let content = disk.content(&name);
        let header = SegmentHeader::decode(&content).expect("whole").0;
        let frames = Walk::new(&content, header).filter_map(|found| match found {
            Found::Frame(offset, ..) => Some(offset as usize),
            _ => None,
        });
        let place = frames.collect::<Vec<_>>()[rotten];
        disk.corrupt(&name, |bytes| bytes[place + 40] ^= 1);
        disk.fail_at(disk.calls() + 2, io::ErrorKind::Other, Failing::Once);
        writer.flush(At(20), &[alerts(&[77])]).expect("another segment takes it");
        assert_eq!((writer.failures, writer.damaged), (1, 1), "frame {rotten}");
    }
}

#[test]
fn a_failed_sync_that_took_nothing_along_is_no_damage() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    for number in 0..10 {
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
    }
    disk.fail_at(disk.calls() + 2, io::ErrorKind::Other, Failing::Once);
    assert_eq!(writer.flush(At(20), &[alerts(&[77])]).expect("another segment takes it"), 11);
    assert_eq!((writer.failures, writer.damaged), (1, 0));
    drop(writer);
    disk.crash();
    let (_, _, records, damage) = open(&disk);
    assert_eq!((records.len(), damage), (11, vec![]));
}

#[test]
fn a_power_cut_while_it_is_written_again_costs_nothing_more() {
    for call in 0..8 {
        let disk = SimulatedDisk::new(call);
        let (mut writer, ..) = open(&disk);
        for number in 0..7 {
            writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
        }
        // The second frame has rotted; the power goes in some call after the failed sync.
        let name = writer::segment_name(1);
        let content = disk.content(&name);
        let place = content.windows(4).enumerate().filter(|(_, bytes)| bytes == b"FRM1").nth(1);
        let place = place.expect("a frame").0;
        disk.corrupt_medium(&name, |bytes| bytes[place + 40] ^= 1);
        let sync = disk.calls() + 2;
        disk.fail_at(sync, io::ErrorKind::Other, Failing::Once);
        disk.fail_next(sync + 1 + call, io::ErrorKind::Other, Failing::PowerGone);
        drop(writer.flush(At(20), &[alerts(&[77])]));
        drop(writer);
        disk.crash();
        let (_, _, records, damage) = open(&disk);
        let found: Vec<u64> = records.iter().map(|record| record.seq).collect();
        for seq in [1].into_iter().chain(3..=7) {
            assert!(found.contains(&seq), "call {call}: {seq} is lost: {found:?}");
        }
        assert!(found.contains(&2) || !damage.is_empty(), "call {call}");
    }
}

#[test]
fn what_refers_to_a_frame_that_the_disk_lost_is_written_again_though_nothing_in_that_decodes() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, reader, ..) = open(&disk);
    writer.flush(At(1), &[alerts(&[1, 2])]).expect("flushed");
    writer.flush(At(2), &[alerts(&[2])]).expect("flushed");
    let name = writer::segment_name(1);
    let content = disk.content(&name);
    let header = SegmentHeader::decode(&content).expect("whole").0;
    let (start, frame, length) = Walk::new(&content, header)
        .find_map(|found| match found {
            Found::Frame(offset, frame, payload) => Some((offset as usize, frame, payload.len())),
            _ => None,
        })
        .expect("a frame");
    // Its record does not decode, and its checksums are right: the name of the client is none.
    disk.corrupt(&name, |bytes| {
        let bytes = &mut bytes[start..start + segment::FRAME_HEADER + length];
        let client = bytes.windows(4).position(|bytes| bytes == b"test").expect("the client");
        bytes[client] = 0xFF;
        segment::seal_frame(bytes, &header, frame.seq, frame.at, frame.sequences);
    });
    disk.corrupt_medium(&name, |bytes| bytes[start + segment::FRAME_HEADER + length - 1] ^= 1);
    disk.fail_at(disk.calls() + 2, io::ErrorKind::Other, Failing::Once);
    assert_eq!(writer.flush(At(3), &[alerts(&[3])]).expect("another segment takes it"), 4);
    for (seq, number) in [(3, 2), (4, 3)] {
        let stored = reader.alert(Position::arrived(seq)).expect("it is written again");
        assert_eq!(stored.batch, batch(&[number]), "{seq}");
    }
}
