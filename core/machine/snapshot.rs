//! Snapshots: the state in bytes. Two bytes of version, then the state by postcard.

use alloc::{collections::BTreeSet, string::ToString, sync::Arc, vec::Vec};
use core::fmt;

use super::{Machine, groups::hash_group, routing::Routing, state::State, version1};
use crate::effect::GroupName;

/// The version that this program writes. Older ones are read and migrated.
const VERSION: u16 = 2;

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
        let state: Result<State, postcard::Error> = match version {
            0 => return Err(damaged("version 0 does not exist")),
            1 => postcard::from_bytes::<version1::State>(body).map(State::from),
            _ => postcard::from_bytes(body),
        };
        let state = state.map_err(|error| damaged(&error.to_string()))?;
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
        state.detached.rebuild(&state.deliveries);
        for (row, alert) in state.alerts.iter() {
            alert_table.insert(alert.identity, row);
        }
        for (group, row) in state.groups.iter() {
            group_table.insert(hash_group(state.seed, &state.strings, row.route, &row.labels), group);
        }
        for (delivery, row) in state.deliveries.iter() {
            delivery_table.insert(row.id.0 as u64, delivery);
        }
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
    use crate::{
        Input,
        input::Receipt,
        machine::{
            DeliveryStanding,
            tests::{HOUR, World},
        },
    };

    /// Taken by the last program that wrote version 1. It has all that changed: deliveries that wait, are under way, failed
    /// and are dead, lanes of several in and outside groups, one behind another, and a digest.
    const VERSION_1: &[u8] = include_bytes!("fixtures/snapshot_version_1.bin");

    #[test]
    fn a_snapshot_of_version_1_goes_on_where_it_stood() {
        let machine = Machine::restore(VERSION_1).expect("version 1 is read");
        let standing = |is: fn(&DeliveryStanding) -> bool| {
            machine.deliveries().filter(|delivery| is(&delivery.standing)).count()
        };
        let counts = [
            standing(|is| matches!(is, DeliveryStanding::Waiting(_))),
            standing(|is| matches!(is, DeliveryStanding::InFlight)),
            standing(|is| matches!(is, DeliveryStanding::InDigest)),
            standing(|is| matches!(is, DeliveryStanding::Dead(_))),
            machine.deliveries().filter(|delivery| delivery.last_failure.is_some()).count(),
        ];
        assert_eq!(counts, [10, 7, 3, 3, 4]);
        let bytes = machine.snapshot();
        assert_eq!(bytes[..2], VERSION.to_le_bytes());
        assert_eq!(Machine::restore(&bytes).expect("our own snapshot").snapshot(), bytes);
        let mut world = World::restored(machine);
        world.input(Input::Stopping);
        world.far_end = Some(Ok(Receipt::Sent));
        world.start();
        world.wait(3 * HOUR as u64);
        let left = world.machine.deliveries();
        assert_eq!(left.filter(|d| !matches!(d.standing, DeliveryStanding::Dead(_))).count(), 0);
    }

    #[test]
    fn what_is_no_snapshot_is_said_to_be_none() {
        let rows: [(&[u8], &str); 4] = [
            (&[], "it is empty"),
            (&[0, 0], "version 0"),
            (&[1, 0, 0xFF], "does not decode"),
            (&[0xFF, 0xFF], "has version 65535"),
        ];
        for (bytes, message) in rows {
            let error = Machine::restore(bytes).expect_err(message);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
