//! Snapshots: the state in bytes. Two bytes of version, then the state by postcard.

use alloc::{string::ToString, vec::Vec};
use core::fmt;

use super::{Machine, groups::hash_group, routing::Routing, state::State};

/// The version that this program writes. Older ones are read and migrated; there is none yet.
const VERSION: u16 = 1;

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// It was written by a newer program.
    Newer {
        /// Its version.
        version: u16,
    },
    /// It does not decode.
    Damaged {
        /// What the decoder said.
        reason: alloc::string::String,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Newer { version } => write!(
                f,
                "the snapshot has version {version}, this program reads up to {VERSION}: use the program that wrote it, or a newer one"
            ),
            SnapshotError::Damaged { reason } => write!(f, "the snapshot does not decode: {reason}"),
        }
    }
}

impl core::error::Error for SnapshotError {}

impl Machine {
    /// The state in bytes. Only between records.
    ///
    /// # Panics
    /// If a record is under way: half a record is no state.
    pub fn snapshot(&self) -> Vec<u8> {
        assert!(self.job.is_none(), "a snapshot is taken between records");
        let bytes = VERSION.to_le_bytes().to_vec();
        postcard::to_extend(&self.state, bytes).expect("plain data encodes")
    }

    /// The router as it was when the snapshot was taken.
    pub fn restore(bytes: &[u8]) -> Result<Machine, SnapshotError> {
        let damaged = |reason: &str| SnapshotError::Damaged { reason: reason.into() };
        let (version, body) = bytes.split_first_chunk::<2>().ok_or_else(|| damaged("it is empty"))?;
        let version = u16::from_le_bytes(*version);
        if version > VERSION {
            return Err(SnapshotError::Newer { version });
        }
        if version == 0 {
            return Err(damaged("version 0 does not exist"));
        }
        let state: State = postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))?;
        let mut machine = Machine { now: state.at, state, ..Machine::default() };
        machine.rebuild().map_err(|reason| damaged(&reason))?;
        Ok(machine)
    }

    /// Makes again what follows from the state.
    fn rebuild(&mut self) -> Result<(), alloc::string::String> {
        if let Some((config, _)) = &self.state.config {
            self.routing = Routing::compile(config).map_err(|error| error.to_string())?;
        }
        let Machine { state, alert_table, group_table, delivery_table, .. } = self;
        state.strings.rebuild();
        for (row, alert) in state.alerts.iter() {
            alert_table.insert_unique(alert.identity, row, |&row| state.alerts[row].identity);
        }
        let hash = |group: u32| {
            let row = &state.groups[group];
            hash_group(state.seed, &state.strings, row.route, &row.labels)
        };
        for (group, _) in state.groups.iter() {
            group_table.insert_unique(hash(group), group, |&group| hash(group));
        }
        for (delivery, row) in state.deliveries.iter() {
            delivery_table.insert_unique(row.id.0 as u64, delivery, |&row| state.deliveries[row].id.0 as u64);
        }
        self.arm_all();
        Ok(())
    }
}
