//! Files of another journal in the folder, and snapshots without segments: whose journal it is is not guessed.

use std::sync::Arc;

use ams2_core::At;

use super::{
    simulated::SimulatedDisk,
    storage::Storage,
    tests::{alerts, small},
    *,
};

fn started(disk: &SimulatedDisk, journal: u64) -> (Writer, SnapshotWriter, usize) {
    let mut opened = Opened::open(Arc::new(disk.clone()), small(), [journal, 22, 33]).expect("opens");
    let mut records = 0;
    opened.replay(0, At(0), |_| records += 1).expect("readable");
    let (writer, _, snapshots, damage) = opened.finish(0).expect("a segment");
    assert_eq!(damage, Vec::<String>::new());
    (writer, snapshots, records)
}

fn put(disk: &SimulatedDisk, name: &str, content: &[u8]) {
    let file = disk.create(name, 0).expect("created");
    file.write_at(content, 0).expect("written");
    file.sync().expect("synced");
    disk.sync_names().expect("synced");
}

fn refused(disk: &SimulatedDisk) -> String {
    let files = disk.list().expect("readable");
    let opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]);
    let error = opened.err().expect("the start is refused").to_string();
    assert_eq!(disk.list().expect("readable"), files, "nothing was changed");
    error
}

#[test]
fn a_stray_segment_of_another_journal_refuses_the_start_and_is_named() {
    let (ours, theirs) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    started(&ours, 11).0.flush(At(1), &[alerts(&[1])]).expect("flushed");
    let mut writer = started(&theirs, 99).0;
    while writer.segments.read().expect("no panic").len() < 3 {
        writer.flush(At(1), &[alerts(&[writer.next_seq()])]).expect("flushed");
    }
    let stray = writer::segment_name(3);
    put(&ours, &stray, &theirs.content(&stray));
    let error = refused(&ours);
    assert!(error.contains(&stray) && error.contains(&writer::segment_name(1)), "{error}");
    // Moved away, nothing is missing.
    ours.remove(&stray).expect("removed");
    assert_eq!(started(&ours, 55).2, 1);
}

#[test]
fn a_stray_snapshot_of_another_journal_refuses_the_start_and_is_named() {
    let (ours, theirs) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    started(&ours, 11).0.flush(At(1), &[alerts(&[1])]).expect("flushed");
    started(&theirs, 99).1.write(7, b"their state").expect("written");
    let stray = format!("{:016x}.snap", 7);
    put(&ours, &stray, &theirs.content(&stray));
    assert!(refused(&ours).contains(&stray));
    // One that does not check belongs to nobody.
    ours.corrupt(&stray, |bytes| bytes[41] ^= 1);
    let mut opened = Opened::open(Arc::new(ours), small(), [11, 22, 33]).expect("opens");
    assert!(opened.snapshot(|body| Ok(body.to_vec())).expect("readable").is_none());
}

#[test]
fn a_snapshot_is_used_when_every_segment_is_gone() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, snapshots, _) = started(&disk, 11);
    writer.flush(At(1), &[alerts(&[1])]).expect("flushed");
    snapshots.write(1, b"the state").expect("written");
    drop(writer);
    disk.remove(&writer::segment_name(1)).expect("removed");
    for round in 0..2 {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [77, 22, 33]).expect("opens");
        let found = opened.snapshot(|body| Ok(body.to_vec())).expect("readable");
        assert_eq!(found, Some((1, b"the state".to_vec())), "start {round}");
        opened.replay(1, At(1), |_| panic!("nothing is left")).expect("readable");
        assert_eq!(opened.finish(0).expect("a segment").0.next_seq(), 2);
    }
}
