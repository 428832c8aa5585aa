//! The whole system in one thread: the real machine, journal, recovery, texts, snapshots and retention over a simulated
//! clock, disk and far ends, all drawn from one seed. An accepted alert reaches its receivers or is accounted for,
//! whatever crashes, torn writes, full disks and lying far ends come between. Silences and other alerts hold
//! some of it back; nobody is told what is no news to him.
//!
//! `AMS2_SEED=N cargo nextest run -p ams2 one_seed` runs one seed; `AMS2_TEST_LONG=1` runs more of them.

mod clients;
mod far_ends;
mod heartbeats;
mod oracle;
mod plan;
mod process;
pub(crate) mod random;
mod script;
mod walks;
mod world;

use std::collections::BTreeSet;

use ams2_core::effect::{ClientChange, HeartbeatChange};
use world::World;

/// Seeds of the normal run, and of the long one.
const SEEDS: u64 = 10_000;
const SEEDS_LONG: u64 = 200_000;
/// The seeds are split over this many tests, so that they run side by side.
const PARTS: u64 = 4;

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    world.start();
    for _ in 0..40 + seed % 60 {
        world.event();
    }
    world.run_until_quiet();
    world
}

/// Runs a seed, and says how to run it again if it fails.
fn check(seed: u64) -> World {
    match std::panic::catch_unwind(|| run(seed)) {
        Ok(world) => world,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            let words = words.unwrap_or_default();
            panic!(
                "seed {seed}: {words}\nagain: AMS2_SEED={seed} cargo nextest run -p ams2 simulation::one_seed"
            )
        }
    }
}

fn part(number: u64) {
    let seeds = if std::env::var_os("AMS2_TEST_LONG").is_some() { SEEDS_LONG } else { SEEDS };
    for seed in (number..seeds).step_by(PARTS as usize) {
        check(seed);
    }
}

#[test]
fn no_accepted_alert_is_lost_part_1() {
    part(0);
}

#[test]
fn no_accepted_alert_is_lost_part_2() {
    part(1);
}

#[test]
fn no_accepted_alert_is_lost_part_3() {
    part(2);
}

#[test]
fn no_accepted_alert_is_lost_part_4() {
    part(3);
}

#[test]
fn whatever_may_become_of_a_heartbeat_happens_in_some_world() {
    let mut changes = BTreeSet::new();
    for seed in 0..200 {
        changes.extend(check(seed).heartbeats.changes.into_keys());
    }
    use HeartbeatChange::{Awaited, Failed, Heard, Missing, Overrun, Removed, Returned};
    for change in [Awaited, Failed, Heard, Missing, Overrun, Removed, Returned] {
        assert!(changes.contains(&change), "{change:?} is not in {changes:?}");
    }
}

#[test]
fn whatever_may_become_of_a_client_happens_in_some_world() {
    let mut changes = BTreeSet::new();
    for seed in 0..1_000 {
        changes.extend(check(seed).clients.changes.into_keys());
    }
    use ClientChange::{Awaited, Enrolled, Forgotten, Joined, Left, Missing, Removed, Replaced, Returned};
    for change in [Awaited, Enrolled, Forgotten, Joined, Left, Missing, Removed, Replaced, Returned] {
        assert!(changes.contains(&change), "{change:?} is not in {changes:?}");
    }
}

#[test]
fn one_seed() {
    let seed = std::env::var("AMS2_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    run(seed);
}
