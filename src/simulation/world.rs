//! The simulated world: one disk, one clock, far ends, clients that ask again until they are answered, and one life of
//! the server after the other.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use ams2_core::{
    AlertBatch, At, Effect, Input, Machine,
    config::{ActionId, Removed},
    input::{Arrival, JournalRecord, Started},
};

use super::{
    clients::Clients,
    far_ends::FarEnds,
    heartbeats::Heartbeats,
    oracle::Oracle,
    plan::{HOUR, Plan},
    process::{Process, Waiting},
    random::Random,
};
use crate::{
    journal::{JournalReader, Options, Retention, simulated::SimulatedDisk},
    upkeep::{self, Recovered},
};

/// Turns at one moment, and moments in one span, after which the world is stuck.
pub const ROUNDS_MAX: u32 = 10_000;
const SEGMENT_BYTES: u64 = 8 << 10;

/// A client's request. It is sent again until it is answered.
#[derive(Clone, Debug)]
pub struct Request {
    pub arrival: Arrival,
    pub answered: bool,
}

/// See the module's head.
pub struct World {
    pub random: Random,
    pub disk: SimulatedDisk,
    pub options: Options,
    /// The boot-time clock, in milliseconds.
    pub now: u64,
    /// How far the wall clock is ahead of it.
    pub wall_ahead: i64,
    pub process: Option<Process>,
    pub far_ends: FarEnds,
    pub oracle: Oracle,
    pub heartbeats: Heartbeats,
    pub clients: Clients,
    /// The fold of the whole journal, which no crash touches.
    pub truth: Machine,
    pub log: Vec<JournalRecord>,
    /// What the last flush tried to keep, should it fail.
    tried: Vec<Input>,
    pub requests: Vec<Request>,
    /// The config file.
    pub plan: usize,
    pub lives: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let retention = Retention {
            age: Duration::from_millis(random.below(3 * HOUR)),
            bytes: SEGMENT_BYTES * (3 + random.below(20)),
        };
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            free_bytes_min: SEGMENT_BYTES,
            retention,
            ..Options::default()
        };
        World {
            disk: SimulatedDisk::new(random.next()),
            options,
            now: 1_000_000,
            wall_ahead: 1_700_000_000_000,
            process: None,
            far_ends: FarEnds::default(),
            oracle: Oracle::default(),
            heartbeats: Heartbeats::default(),
            clients: Clients::default(),
            truth: Machine::new(),
            log: Vec::new(),
            tried: Vec::new(),
            requests: Vec::new(),
            plan: 0,
            lives: 0,
            random,
        }
    }

    pub fn wall(&self) -> i64 {
        self.wall_ahead.saturating_add_unsigned(self.now)
    }

    /// What becomes of deliveries whose action a plan lacks, as an admin writes it under `removed:`.
    pub fn fates(&mut self, plan: &Plan) -> Vec<(ActionId, Removed)> {
        let mut fates: Vec<(ActionId, Removed)> = Vec::new();
        for action in Plan::all().iter().flat_map(Plan::actions) {
            if plan.action(&action.id).is_none() && fates.iter().all(|(id, _)| *id != action.id) {
                let fate = if self.random.one_in(3) { Removed::Drop } else { Removed::MoveTo("ops".into()) };
                fates.push((action.id.clone(), fate));
            }
        }
        fates
    }

    /// A process starts on what the disk holds.
    pub fn start(&mut self) {
        let random = [self.random.next(), self.random.next(), self.random.next()];
        let recovered = upkeep::recover(Arc::new(self.disk.clone()), &self.options, random, self.wall());
        // A disk that fails at the start: the process says so and ends.
        let Ok(Recovered { folded, writer, reader, snapshots, panics, damage, covered, .. }) = recovered
        else {
            return;
        };
        assert_eq!(damage, Vec::<String>::new(), "no bit was flipped");
        self.catch_up(&reader, folded.machine.next_seq() - 1);
        assert_eq!(folded.machine.next_seq(), self.truth.next_seq(), "recovery finds the whole journal");
        assert!(
            folded.machine.snapshot() == self.truth.snapshot(),
            "snapshot and replay give the state that the fold from the start gives"
        );
        self.lives += 1;
        let plan = Plan::of(self.plan);
        let fates = self.fates(&plan);
        let at = folded.machine.at();
        let offset_ms = self.wall().saturating_sub_unsigned(at.0);
        let started = Started {
            incarnation: random[0].max(1),
            seed: [random[1], random[2]],
            wall_offset_ms: offset_ms,
            version: "simulated".into(),
            damage,
            install: None,
        };
        let first = upkeep::first_input(&folded, &reader, started, plan.install(fates, "start"));
        let mut process = Process {
            live: folded,
            writer,
            reader,
            snapshots,
            panics,
            covered,
            began: (at, self.now),
            waiting: VecDeque::new(),
            unfolded: VecDeque::new(),
            queued: Default::default(),
            calls: Vec::new(),
            plan,
            asked_for: None,
            leaving: None,
            full: false,
            offset_ms,
        };
        process.keep(first);
        self.process = Some(process);
    }

    /// Records of a flush that failed, or that a crash cut off, may be there all the same: then they count.
    fn catch_up(&mut self, reader: &JournalReader, last: u64) {
        let mut more = Vec::new();
        let next = self.truth.next_seq();
        if next <= last {
            reader.records(next, last, |record| more.push(record)).expect("readable");
        }
        let tried = std::mem::take(&mut self.tried);
        assert!(more.len() <= tried.len(), "records that nobody wrote");
        for (record, input) in more.into_iter().zip(tried) {
            assert!(record.input == input, "record {} is another than was written", record.seq);
            self.learn(record);
        }
    }

    /// A record is in the journal.
    fn learn(&mut self, record: JournalRecord) -> Vec<Effect> {
        self.truth.apply_whole(record.clone());
        let effects: Vec<Effect> = std::iter::from_fn(|| self.truth.next_effect()).collect();
        self.oracle.record(&record, &effects);
        self.check_wake(&effects);
        self.heartbeats.check(&record, &effects, &self.truth);
        self.clients.check(&record, &effects, &self.truth);
        self.log.push(record);
        effects
    }

    /// What waits has a time at which it goes on.
    fn check_wake(&mut self, effects: &[Effect]) {
        let Some(Effect::Wake(due)) = effects.last() else { panic!("a record ends with its wake") };
        for of in self.truth.pending() {
            let stuck = of.pending > 0 && of.in_flight == 0 && *due == At::NEVER;
            assert!(!stuck, "{of:?} waits for nothing");
        }
    }

    /// The journal's turn: what waits is flushed as one, answered, and handed on.
    pub fn flush(&mut self) {
        let Some(process) = &mut self.process else { return };
        if process.waiting.is_empty() {
            return;
        }
        let most = if self.random.one_in(3) { 1 + self.random.below(4) as usize } else { usize::MAX };
        let count = process.waiting.len().min(most);
        let (inputs, requests): (Vec<Input>, Vec<Option<usize>>) =
            process.waiting.drain(..count).map(|waiting| (waiting.input, waiting.request)).unzip();
        let at = process.at(self.now);
        let flushed = process.writer.flush(at, &inputs);
        let at = process.writer.at();
        match flushed {
            Ok(first) => {
                assert_eq!(first, self.truth.next_seq(), "numbers follow each other");
                let mut seq = first;
                for (input, request) in inputs.into_iter().zip(requests) {
                    let record = JournalRecord { seq, at, input };
                    seq += record.input.sequences();
                    let effects = self.learn(record.clone());
                    if let Some(process) = &mut self.process {
                        process.unfolded.push_back((record, effects));
                    }
                    // Some answers do not arrive.
                    if let Some(request) = request
                        && !self.random.one_in(8)
                    {
                        self.requests[request].answered = true;
                    }
                }
            }
            Err(_) => {
                // Nothing more can be kept: the process ends with its documented code.
                self.tried = inputs.clone();
                if let Some(process) = &mut self.process {
                    process.waiting.extend(inputs.into_iter().map(|input| Waiting { input, request: None }));
                }
                self.crash(Crash::Process);
            }
        }
    }

    /// The process dies; with the power, what was not synced is lost, torn or reordered.
    pub fn crash(&mut self, how: Crash) {
        if let Some(process) = self.process.take() {
            process.die(self.now, &mut self.random, &mut self.far_ends, &mut self.oracle);
        }
        if how == Crash::Power {
            self.disk.crash();
        }
    }

    /// The power goes in the middle of some disk call of the next flush.
    pub fn power_goes_soon(&mut self) {
        let call = self.disk.calls() + 1 + self.random.below(12);
        self.disk.fail_at(call, io::ErrorKind::Other, crate::journal::simulated::Failing::PowerGone);
    }

    /// A client's request waits for a flush, unless it is refused.
    pub fn send(&mut self, client: &str, batch: AlertBatch) {
        let arrival = Arrival { client: client.into(), batch: Arc::new(batch) };
        self.requests.push(Request { arrival, answered: false });
        self.ask(self.requests.len() - 1);
    }

    fn ask(&mut self, request: usize) {
        if let Some(process) = self.process.as_mut().filter(|process| !process.full) {
            process.accept(self.requests[request].arrival.clone(), request);
        }
    }

    /// Clients without an answer ask again.
    pub fn ask_again(&mut self) {
        for request in 0..self.requests.len() {
            if !self.requests[request].answered {
                self.ask(request);
            }
        }
    }

    /// One turn of some room of the server.
    pub fn turn(&mut self) {
        let which = self.random.below(10);
        let World { random, far_ends, oracle, now, .. } = self;
        let Some(process) = &mut self.process else { return };
        match which {
            0..=2 => self.flush(),
            3..=5 => process.fold(1 + random.below(40) as u32),
            6 | 7 => process.begin_calls(*now, random, far_ends, oracle),
            8 => process.end_calls(*now, far_ends, oracle),
            _ => process.advance(*now),
        }
    }

    /// Turns until nothing is to be done at this moment.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let World { random, far_ends, oracle, now, .. } = self;
            let Some(process) = &mut self.process else { return };
            process.end_calls(*now, far_ends, oracle);
            process.begin_calls(*now, random, far_ends, oracle);
            while !process.unfolded.is_empty() {
                process.fold(100);
            }
            process.begin_calls(*now, random, far_ends, oracle);
            process.advance(*now);
            if process.waiting.is_empty() {
                return;
            }
            self.flush();
        }
        panic!("one thing leads to another without end, and no time passes");
    }

    /// Time goes by, and whatever falls due on the way has its turn.
    pub fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        for _ in 0..ROUNDS_MAX {
            let Some(next) = self.next_due().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.settle();
        }
        panic!("something is due again and again, and no time passes");
    }

    /// When something is due next: a timer, or the end of a call.
    pub fn next_due(&mut self) -> Option<u64> {
        let process = self.process.as_mut()?;
        let call = process.calls.iter().map(|call| call.done_at).min();
        process.due_in_world().into_iter().chain(call).min()
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is killed; what it wrote is there.
    Process,
    /// The machine goes down with it.
    Power,
}
