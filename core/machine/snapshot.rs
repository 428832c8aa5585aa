//! Snapshots: the state in bytes. Two bytes of version, then the state by postcard.

use alloc::{collections::BTreeSet, string::ToString, sync::Arc, vec::Vec};
use core::fmt;

use super::{Machine, groups::hash_group, routing::Routing, state::State};
use crate::effect::GroupName;

/// The version that this program writes. A release that writes another migrates those of all releases before.
const VERSION: u16 = 9;

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// It was written by a program that this one does not know.
    Unknown {
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
            SnapshotError::Unknown { version } => write!(
                f,
                "the snapshot has version {version}, this program reads {VERSION}: use the program that wrote it, or a newer one"
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
        let state = match version {
            VERSION => postcard::from_bytes(body),
            version => return Err(SnapshotError::Unknown { version }),
        };
        let state: State = state.map_err(|error| damaged(&error.to_string()))?;
        let mut machine = Machine { now: state.at, state, ..Machine::default() };
        machine.rebuild().map_err(|reason| damaged(&reason))?;
        Ok(machine)
    }

    /// Makes again what follows from the state.
    fn rebuild(&mut self) -> Result<(), alloc::string::String> {
        if let Some((config, _)) = &self.state.config {
            self.routing = Routing::compile(config).map_err(|error| error.to_string())?;
        }
        self.state.find_actions();
        self.number_actions();
        let Machine { state, alert_table, group_table, delivery_table, .. } = self;
        state.strings.rebuild();
        state.heartbeats.rebuild();
        state.clients.rebuild();
        state.detached.rebuild(&state.deliveries);
        let State { actions, deliveries, .. } = state;
        for action in actions.iter_mut().filter(|action| action.spec.patient) {
            action.ready.part(|row| deliveries[row].critical);
        }
        for (row, alert) in state.alerts.iter() {
            alert_table.insert(alert.identity, row);
        }
        for (group, row) in state.groups.iter() {
            group_table.insert(hash_group(state.seed, &state.strings, row.route, &row.labels), group);
        }
        for (delivery, row) in state.deliveries.iter() {
            delivery_table.insert(row.id.0 as u64, delivery);
        }
        let keyed: Vec<(u64, u32)> =
            self.state.alerts.iter().filter_map(|(row, _)| Some((self.hash_key_of(row)?, row))).collect();
        keyed.into_iter().for_each(|(hash, row)| self.key_table.insert(hash, row));
        self.state.silences.rebuild(self.routing.severities());
        self.find_all_sources();
        self.share_names();
        self.arm_all();
        Ok(())
    }

    /// A snapshot repeats the name of a group with each thing that has it; memory holds each once.
    fn share_names(&mut self) {
        let mut known: BTreeSet<Arc<GroupName>> = BTreeSet::new();
        let mut share = |name: &mut Arc<GroupName>| match known.get(name) {
            Some(shared) => *name = shared.clone(),
            None => drop(known.insert(name.clone())),
        };
        self.routing.nodes.iter_mut().for_each(|node| share(&mut node.each));
        self.state.groups.iter_mut().for_each(|(_, group)| share(&mut group.name));
        self.state.notifications.iter_mut().for_each(|(_, row)| share(&mut row.group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_snapshot_is_said_to_be_none() {
        let rows: [(&[u8], &str); 4] = [
            (&[], "it is empty"),
            (&[0, 0], "has version 0"),
            (&[VERSION as u8, 0, 0xFF], "does not decode"),
            (&[0xFF, 0xFF], "has version 65535"),
        ];
        for (bytes, message) in rows {
            let error = Machine::restore(bytes).expect_err(message);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
