//! Finds and signals the processes that belong to one run of a program, wherever they went.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::Read,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Delivery;

/// What every process of a run has in its environment unless it threw it away.
#[derive(Clone, Debug)]
pub(super) struct Mark([String; 2]);

/// One process as /proc shows it. A number can be given anew; number and start time together cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pid: i32,
    parent: i32,
    start_ticks: u64,
}

/// An environment is read up to here, in bytes: ours is far shorter, a program's own additions come after it.
const ENVIRONMENT_BYTES_MAX: u64 = 256 * 1024;

impl Mark {
    pub(super) fn of(delivery: &Delivery) -> Mark {
        Mark([format!("AMS2_DELIVERY_ID={}", delivery.id), format!("AMS2_ATTEMPT={}", delivery.attempt)])
    }

    fn is_on(&self, pid: i32) -> bool {
        let mut environment = Vec::new();
        let file = File::open(format!("/proc/{pid}/environ"));
        let read = file.and_then(|file| file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment));
        let has = |mark: &String| environment.split(|b| *b == 0).any(|entry| entry == mark.as_bytes());
        read.is_ok() && self.0.iter().all(has)
    }
}

/// Every process with the mark and every descendant of `root` and of those in `known`, but not `root` itself nor
/// us. Those in `known` that still live are among them.
pub(super) fn strays(root: Pid, mark: &Mark, known: &[Process]) -> Vec<Process> {
    let root = root.as_raw_nonzero().get();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let all = list();
    let alive: Vec<Process> =
        all.iter().copied().filter(|process| known.iter().any(|k| k.is(process))).collect();
    let roots = alive.iter().map(|process| process.pid).chain([root]);
    let descendants = descendants(roots, &all);
    let belongs = |process: &Process| {
        let is_known = alive.iter().any(|known| known.is(process)) || descendants.contains(&process.pid);
        process.pid != root && process.pid != own && (is_known || mark.is_on(process.pid))
    };
    all.into_iter().filter(belongs).collect()
}

impl Process {
    fn is(&self, other: &Process) -> bool {
        (self.pid, self.start_ticks) == (other.pid, other.start_ticks)
    }

    /// Signals it through a handle, after a look that the number still is this process's.
    pub(super) fn send(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if look(self.pid).is_some_and(|now| now.is(self)) {
            // It may have ended in between, which is what is wanted.
            let _ = pidfd_send_signal(handle, signal);
        }
    }
}

fn list() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| look(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// proc(5), `/proc/pid/stat`: after the name in parentheses come state (3), parent (4), ..., start time (22).
/// Zombies are left out: nothing can be done to them.
fn look(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    (state != "Z").then_some(Process { pid, parent, start_ticks })
}

fn descendants(roots: impl Iterator<Item = i32>, all: &[Process]) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let (mut found, mut waiting) = (HashSet::new(), roots.collect::<Vec<_>>());
    while let Some(pid) = waiting.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            // Parents and children were not all seen at one moment: a circle must not hold us.
            if found.insert(*child) {
                waiting.push(*child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_find_ourselves_with_parent_and_start() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let seen = look(own).expect("we run");
        assert_eq!(Some(seen.parent), rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()));
        assert!(list().contains(&seen) && seen.start_ticks > 0);
        assert_eq!(look(i32::MAX), None);
    }

    #[test]
    fn descendants_are_followed_and_circles_end() {
        let process = |pid, parent| Process { pid, parent, start_ticks: 1 };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(3, 4)];
        let mut found: Vec<i32> = descendants([2].into_iter(), &all).into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}
