//! What keeps the machine and its journal together, without threads or clocks: recovery, the first inputs of a life,
//! the question of orphaned deliveries, snapshots behind the live fold, and texts carried forward. The server drives
//! it, and so does the simulation.

use std::{io, sync::Arc};

use ams2_core::{
    Input, Machine, Position,
    config::{ActionId, Install, Removed},
    input::{Carried, CarriedItem, CarriedText, JournalRecord, Started},
    machine::SnapshotError,
};

use crate::{
    journal::{
        JournalReader, OpenError, Opened, Options, ReadError, SnapshotWriter, Unusable, Writer,
        storage::Storage,
    },
    poison::{PANICS_MAX, Panics},
    router::Folded,
};

/// Texts that are carried forward in one record, and how many bytes of them end it early.
const CARRY_MAX: usize = 4_000;
const CARRY_BYTES: usize = 4 << 20;

/// A data folder that was read and folded, and in which nothing is changed yet.
pub struct Read {
    /// The machine, with the newest decisions.
    pub folded: Folded,
    opened: Opened,
    panics: Panics,
    left_out: Vec<u64>,
    covered: u64,
}

/// What recovery made of a data folder.
pub struct Recovered {
    /// The machine, with the newest decisions.
    pub folded: Folded,
    /// Where new inputs go.
    pub writer: Writer,
    /// Reads what is flushed.
    pub reader: JournalReader,
    /// Writes snapshots.
    pub snapshots: SnapshotWriter,
    /// Records at which the router panicked.
    pub panics: Panics,
    /// What was set aside, in words for people.
    pub damage: Vec<String>,
    /// The last sequence number that the snapshot covers.
    pub covered: u64,
}

/// Opens a journal and folds it: the newest usable snapshot, then what came after.
pub fn recover(
    storage: Arc<dyn Storage>,
    options: &Options,
    random: [u64; 3],
    wall_ms: i64,
) -> Result<Recovered, OpenError> {
    read(storage, options, random)?.begin(wall_ms)
}

/// Opens a journal and folds it, and leaves it as it is: whoever does not like what is in it may go again.
pub fn read(storage: Arc<dyn Storage>, options: &Options, random: [u64; 3]) -> Result<Read, OpenError> {
    read_by(storage, options, random, |folded, record| folded.recover(record))
}

/// The same with a fold of the caller's.
pub(crate) fn read_by(
    storage: Arc<dyn Storage>,
    options: &Options,
    random: [u64; 3],
    mut fold: impl FnMut(&mut Folded, JournalRecord),
) -> Result<Read, OpenError> {
    let mut panics = None;
    loop {
        let mut opened = Opened::open(storage.clone(), options.clone(), random)?;
        let panics = match &panics {
            Some(panics) => Panics::clone(panics),
            None => panics.insert(Panics::read(storage.clone(), opened.journal())?).clone(),
        };
        let snapshot = opened.snapshot(|body| {
            Machine::restore(body).map_err(|error| match error {
                SnapshotError::Unknown { version } => Unusable::Newer(version),
                SnapshotError::Damaged { .. } => Unusable::Damaged(error.to_string()),
            })
        })?;
        let (covered, machine) = snapshot.unwrap_or_default();
        let mut folded = Folded { machine, ..Folded::default() };
        let (mut panicked_at, mut left_out) = (None, Vec::new());
        let at = folded.machine.at();
        opened.replay(covered, at, |record| {
            // What a panic leaves is no state: nothing more is folded into it.
            if panicked_at.is_none() {
                let seq = record.seq;
                match panics.watch(&record, || fold(&mut folded, record.clone())) {
                    Ok(true) => {}
                    Ok(false) => left_out.push(seq),
                    Err(_) => panicked_at = Some(seq),
                }
            }
        })?;
        let Some(sequence) = panicked_at else {
            return Ok(Read { folded, opened, panics, left_out, covered });
        };
        if !panics.sets_aside(sequence) {
            return Err(OpenError::Panicked { sequence });
        }
        // It is left out now, and all is read once more.
    }
}

impl Read {
    /// Goes on in the journal behind what was read.
    pub fn begin(self, wall_ms: i64) -> Result<Recovered, OpenError> {
        let Read { folded, opened, panics, left_out, covered } = self;
        let (writer, reader, snapshots, mut damage) = opened.finish(wall_ms)?;
        damage.extend(panics.damage().map(Into::into));
        damage.extend(left_out.iter().map(|seq| {
            format!("the record {seq}: the router panicked at it {PANICS_MAX} times, see {seq:016x}.poison")
        }));
        Ok(Recovered { folded, writer, reader, snapshots, panics, damage, covered })
    }
}

/// The first input of a life: the start, and with it the config if it, or the rules of this program, differ from what is in
/// force.
pub fn first_input(folded: &Folded, reader: &JournalReader, started: Started, install: Install) -> Input {
    let unchanged = folded.machine.config().is_some_and(|(core, position)| {
        *core == install.config
            && folded.machine.rule_version() == install.rule_version
            && reader.config_text(position).ok().as_deref() == Some(&install.text)
    });
    Input::Started(Started { install: (!unchanged).then(|| install.into()), ..started })
}

/// Actions that have deliveries waiting, that a new config no longer has, and about which it says nothing; with how
/// many wait.
pub fn orphans(
    machine: &Machine,
    has: impl Fn(&ActionId) -> bool,
    removed: &[(ActionId, Removed)],
) -> Vec<(ActionId, u32)> {
    machine
        .pending()
        .into_iter()
        .filter(|of| of.pending > 0 && !has(&of.action))
        .filter(|of| removed.iter().all(|(id, _)| *id != of.action))
        .map(|of| (of.action, of.pending))
        .collect()
}

/// Why no snapshot was made behind the live fold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMade {
    /// What it would be made of has rotted since the start: only the live state can be kept.
    #[error("{0}")]
    Damaged(String),
    /// The disk said no; the next try may do better.
    #[error("{0}")]
    Failed(String),
}

impl From<ReadError> for NotMade {
    fn from(error: ReadError) -> NotMade {
        match error {
            ReadError::Missing(_) => NotMade::Damaged(error.to_string()),
            ReadError::Io(_) => NotMade::Failed(error.to_string()),
        }
    }
}

/// Folds what came since the last snapshot, up to `to`, and writes the next one. Answers what it covers.
pub fn snapshot_behind(
    reader: &JournalReader,
    snapshots: &SnapshotWriter,
    panics: &Panics,
    covered: u64,
    to: u64,
) -> Result<u64, NotMade> {
    let failed = |error: io::Error| NotMade::Failed(error.to_string());
    let newest = snapshots.newest().map_err(failed)?;
    let (covered, mut machine) = match newest {
        Some((covers, body)) => {
            (covers, Machine::restore(&body).map_err(|error| NotMade::Damaged(error.to_string()))?)
        }
        None if covered == 0 => (0, Machine::new()),
        None => return Err(NotMade::Damaged("no snapshot can be read any more".into())),
    };
    let fold = |record: JournalRecord| {
        if panics.leaves_out(record.seq) {
            return;
        }
        machine.apply_whole(record);
        while machine.next_effect().is_some() {}
    };
    reader.records(covered + 1, to, fold)?;
    let covers = machine.next_seq() - 1;
    snapshots.write(covers, &machine.snapshot()).map_err(failed)?;
    Ok(covers)
}

/// What writes these texts again, or as many of the first as one record carries, so that their segments may go.
pub fn carried(needed: &[Position], reader: &JournalReader) -> Result<Carried, String> {
    let mut items = Vec::with_capacity(needed.len().min(CARRY_MAX));
    let mut bytes = 0;
    for &from in needed.iter().take(CARRY_MAX) {
        let text = match reader.alert(from) {
            Ok(stored) => {
                bytes += stored.batch.memory_bytes();
                CarriedText::Alert { client: stored.client, batch: stored.batch }
            }
            Err(ReadError::Missing(_)) => match reader.config_text(from) {
                Ok(text) => {
                    bytes += text.len();
                    CarriedText::Config(text)
                }
                Err(ReadError::Missing(_)) => CarriedText::Lost,
                Err(error) => return Err(error.to_string()),
            },
            Err(error) => return Err(error.to_string()),
        };
        items.push(CarriedItem { from, text });
        if bytes > CARRY_BYTES {
            break;
        }
    }
    Ok(Carried { items })
}

#[cfg(test)]
mod tests {
    use ams2_core::{
        At, Config,
        config::{Receiver, Route},
    };

    use super::*;
    use crate::journal::simulated::SimulatedDisk;

    #[test]
    fn a_start_installs_the_config_anew_when_the_rules_are_others() {
        let disk = SimulatedDisk::new(1);
        let options = Options { segment_bytes: 64 << 10, free_bytes_min: 0, ..Options::default() };
        let receiver = Receiver { name: "ops".into(), actions: vec![] };
        let config = Config::single(receiver, Route::default());
        for (at, (rule_version, installs)) in (0..).zip([(1, true), (1, false), (2, true), (2, false)]) {
            let recovered =
                recover(Arc::new(disk.clone()), &options, [11, 22, 33], 0).expect("an intact journal");
            let Recovered { folded, mut writer, reader, .. } = recovered;
            let started = Started {
                incarnation: 1,
                seed: [1, 2],
                wall_offset_ms: 0,
                version: "test".into(),
                damage: vec![],
                install: None,
            };
            let text = "the text".to_owned();
            let install =
                Install { config: config.clone(), text, rule_version, removed: vec![], by: "test".into() };
            let first = first_input(&folded, &reader, started, install);
            let Input::Started(Started { install, .. }) = &first else { panic!("{first:?}") };
            assert_eq!(install.is_some(), installs, "start {at}");
            writer.flush(At(at), &[first]).expect("flushed");
        }
    }
}
