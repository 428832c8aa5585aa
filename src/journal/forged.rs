//! Bytes that are made to look like frames, and damage in places where it is easily taken for something else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ams2_core::{AlertBatch, At, BatchBuilder, Input, Position, batch::AlertTimes, input::Arrival};

use super::{
    segment::{FRAME_HEADER, Found, SEGMENT_HEADER, SegmentHeader, Walk, seal_frame},
    simulated::SimulatedDisk,
    storage::Storage,
    tests::{alerts, open, small},
    *,
};

#[test]
fn marks_that_a_client_sent_do_not_make_a_start_long() {
    let segment = SegmentHeader { journal: 7, id: 1, first_seq: 1, base_ms: 0, first_at: At(0), by: [0; 4] };
    let mut bytes = segment.encode().to_vec();
    bytes.resize(8 << 20, 0);
    let size = bytes.len();
    // Each mark says that its frame reaches to the end of the file, and has the numbers that are due.
    for place in (SEGMENT_HEADER as usize + 4..size - FRAME_HEADER).step_by(FRAME_HEADER) {
        let mark = &mut bytes[place..place + FRAME_HEADER];
        mark[..4].copy_from_slice(b"FRM1");
        mark[4..8].copy_from_slice(&((size - place - FRAME_HEADER) as u32).to_le_bytes());
        mark[8] = 1;
        mark[24] = 1;
    }
    let began = Instant::now();
    assert_eq!(Walk::new(&bytes, segment).collect::<Vec<_>>(), []);
    // Each byte once for each mark would be a million million bytes.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_frame_of_another_segment_or_journal_is_none_of_ours() {
    let ours = SegmentHeader { journal: 7, id: 2, first_seq: 1, base_ms: 0, first_at: At(0), by: [0; 4] };
    for (journal, id) in [(7, 1), (8, 2)] {
        let mut frame = vec![0; FRAME_HEADER + 4];
        seal_frame(&mut frame, &SegmentHeader { journal, id, ..ours }, 5, At(1), 1);
        let mut bytes = ours.encode().to_vec();
        bytes.extend_from_slice(&frame);
        assert_eq!(Walk::new(&bytes, ours).collect::<Vec<_>>(), [], "{journal} {id}");
    }
}

/// Several segments of one journal.
fn segments() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk);
    while writer.segments.read().expect("no panic").len() < 3 {
        let number = writer.next_seq();
        let mut builder = BatchBuilder::default();
        builder.label("event", &format!("{number}-").repeat(200));
        builder.finish_alert(AlertTimes::default(), None, None).expect("valid");
        let batch: AlertBatch = builder.finish();
        let input = Input::Alerts(Arrival { client: "test".into(), batch: Arc::new(batch) });
        writer.flush(At(number), &[input]).expect("flushed");
    }
    disk
}

#[test]
fn rot_in_the_last_frame_of_a_sealed_segment_is_damage_not_a_torn_end() {
    // In its header, in its payload, and in the whole of it.
    for (from, bytes) in [(0, 4), (9, 1), (FRAME_HEADER + 3, 1), (0, FRAME_HEADER)] {
        let disk = segments();
        let name = writer::segment_name(1);
        let (content, mut last) = (disk.content(&name), 0);
        let header = SegmentHeader::decode(&content).expect("whole").0;
        Walk::new(&content, header).for_each(|found| {
            if let Found::Frame(offset, ..) = found {
                last = offset as usize;
            }
        });
        let all = open(&disk).2.len();
        disk.corrupt(&name, |content| {
            content[last + from..last + from + bytes].iter_mut().for_each(|byte| *byte ^= 0x55);
        });
        let (_, _, records, damage) = open(&disk);
        assert_eq!(records.len(), all - 1);
        let said = format!("bytes at {last} do not check");
        assert!(damage.iter().any(|words| words.contains(&said)), "{from}: {damage:?}");
        assert!(disk.list().expect("readable").iter().any(|(name, _)| name.ends_with(".damaged")));
    }
}

#[test]
fn texts_behind_damage_are_read_whether_a_start_or_a_question_finds_them() {
    let disk = segments();
    let name = writer::segment_name(1);
    let content = disk.content(&name);
    let header = SegmentHeader::decode(&content).expect("whole").0;
    let frames: Vec<(u64, u64)> = Walk::new(&content, header)
        .filter_map(|found| match found {
            Found::Frame(offset, header, _) => Some((header.seq, offset)),
            _ => None,
        })
        .collect();
    let (lost, place) = frames[10];
    // The length: whoever believes it lands anywhere.
    disk.corrupt(&name, |bytes| bytes[place as usize + 5] ^= 1);
    let covered = frames.len() as u64 + 5;
    for replayed_from in [0, covered] {
        let mut opened = Opened::open(Arc::new(disk.clone()), small(), [11, 22, 33]).expect("opens");
        opened.replay(replayed_from, At(0), drop).expect("readable");
        let (_, reader, ..) = opened.finish(0).expect("a segment");
        for (seq, _) in &frames {
            let found = reader.alert(Position::arrived(*seq)).is_ok();
            assert_eq!(found, *seq != lost, "{seq}, replayed from {replayed_from}");
        }
    }
    assert!(open(&disk).0.flush(At(u64::MAX), &[alerts(&[1])]).is_ok());
}
