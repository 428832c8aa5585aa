//! What a newer program wrote refuses the start, names that program, and changes nothing on disk.

use std::{collections::BTreeMap, sync::Arc};

use ams2_core::{At, Input, Machine};

use super::{
    segment::{FRAME_HEADER, SEGMENT_HEADER},
    simulated::SimulatedDisk,
    storage::Storage,
    tests::{alerts, open, small},
    *,
};
use crate::upkeep;

/// A journal with two snapshots, an unfinished one, a segment that was begun and holds nothing, and damage.
fn journal() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let opened = Opened::open(Arc::new(disk.clone()), small(), [1, 2, 3]).expect("opens");
    let (mut writer, _, snapshots, _) = opened.finish(0).expect("a segment");
    for number in 0..5 {
        writer.flush(At(number), &[alerts(&[number])]).expect("flushed");
    }
    drop(writer);
    snapshots.write(2, &Machine::new().snapshot()).expect("written");
    snapshots.write(3, &Machine::new().snapshot()).expect("written");
    disk.create("0000000000000009.snap.tmp", 10).expect("made");
    disk.create("0000000000000009.seg", small().segment_bytes).expect("made");
    disk.create("7.free", 10).expect("made");
    disk.corrupt(&writer::segment_name(1), |bytes| {
        bytes[SEGMENT_HEADER as usize + FRAME_HEADER + 3] ^= 1;
    });
    disk
}

fn contents(disk: &SimulatedDisk) -> BTreeMap<String, Vec<u8>> {
    let files = disk.list().expect("readable").into_iter();
    files.map(|(name, _)| (name.clone(), disk.content(&name))).collect()
}

/// Asserts that the start is refused with these words, and leaves every file as it was.
fn is_refused(disk: &SimulatedDisk, words: &[&str]) {
    let before = contents(disk);
    let refused = upkeep::recover(Arc::new(disk.clone()), &small(), [1, 2, 3], 0).err().expect("refused");
    let said = refused.to_string();
    for words in
        words.iter().chain(&["does not know; nothing was changed: start that version, or a newer one"])
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(contents(disk) == before, "{said}");
}

#[test]
fn a_segment_of_a_newer_format_is_refused_and_named() {
    let disk = journal();
    disk.corrupt(&writer::segment_name(1), |bytes| {
        bytes[7] = b'2';
        bytes[48..52].copy_from_slice(&[1, 4, 2, 0]);
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    is_refused(&disk, &["the segment 0000000000000001.seg", "ams2 1.4.2", "format 2"]);
}

/// Changes a snapshot as a newer program would have written it.
fn change_snapshot(disk: &SimulatedDisk, change: impl FnOnce(&mut Vec<u8>)) {
    disk.corrupt("0000000000000003.snap", |bytes| {
        change(bytes);
        bytes[36..40].copy_from_slice(&[0, 9, 1, 1]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..32]), &bytes[40..]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    });
}

#[test]
fn a_snapshot_of_a_newer_format_is_refused_and_named() {
    let disk = journal();
    change_snapshot(&disk, |bytes| bytes[7] = b'3');
    is_refused(&disk, &["the snapshot 0000000000000003.snap", "ams2 0.9.257", "format 3"]);
}

#[test]
fn a_snapshot_of_a_newer_state_is_refused_and_named() {
    let disk = journal();
    change_snapshot(&disk, |bytes| bytes[40] = 200);
    is_refused(&disk, &["the snapshot 0000000000000003.snap", "ams2 0.9.257", "version 200"]);
}

#[test]
fn a_record_of_a_newer_kind_is_refused_and_named() {
    for (offset, byte) in [(0, 9), (1, 1), (1, 3), (1, 200)] {
        let disk = journal();
        let (mut writer, ..) = open(&disk);
        writer.flush(At(9), &[Input::Advanced]).expect("flushed");
        let info = writer.segments.read().expect("no panic").last().expect("one").clone();
        let seq = writer.next_seq() - 1;
        // The last frame again, with another record.
        let name = writer::segment_name(info.header.id);
        let end = info.end.expect("flushed") as usize;
        let start = end - FRAME_HEADER - 4;
        disk.corrupt(&name, |bytes| {
            bytes[start + FRAME_HEADER + offset] = byte;
            segment::seal_frame(&mut bytes[start..end], &info.header, seq, At(9), 1);
        });
        drop(writer);
        let by = format!("ams2 {}", env!("CARGO_PKG_VERSION"));
        is_refused(&disk, &[&format!("the record {seq} in {name}"), &by]);
    }
}

#[test]
fn a_flipped_bit_in_the_format_is_damage_not_another_format() {
    let disk = journal();
    disk.corrupt(&writer::segment_name(1), |bytes| bytes[7] ^= 2);
    disk.corrupt("0000000000000003.snap", |bytes| bytes[7] ^= 2);
    let recovered = upkeep::recover(Arc::new(disk), &small(), [1, 2, 3], 0);
    assert!(recovered.is_ok_and(|recovered| recovered.covered == 2));
}
