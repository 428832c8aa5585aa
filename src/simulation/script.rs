//! What happens in the world, drawn from its seed: alerts, time, faults, crashes, reloads, operators.

use ams2_core::{
    AlertBatch, BatchBuilder, Input, Wall,
    batch::AlertTimes,
    config::ActionId,
    input::{
        Acknowledge, CheckIn, ClientReport, DeliveryCommand, DeliverySelection, DeliveryVerb, ForgetClient,
        Outcome, Ping, PingKind, Receipt,
    },
    machine::ClientState,
    matcher::Matcher,
    silence::{SetSilence, SilenceId, SilenceOrder},
};

use smol_str::SmolStr;

use super::{
    plan::{EVENTS, HOUR, JOBS, MINUTE, PLANS, Plan, SECOND},
    world::{Crash, ROUNDS_MAX, World},
};
use crate::{journal::simulated::Failing, upkeep};

const HOSTS: [&str; 3] = ["a", "b", "c"];
const CLIENTS: [&str; 2] = ["boston", "local"];
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR as i64;

impl World {
    /// One thing happens.
    pub fn event(&mut self) {
        match self.random.below(102) {
            0..=29 => self.clients_send(),
            30..=33 => self.ask_again(),
            34..=45 => self.time_passes(),
            46..=51 => {
                let action = self.some_action();
                self.far_ends.change_mood(&mut self.random, &action);
            }
            52..=55 => self.far_ends.heal(),
            56..=59 => {
                let how = *self.random.pick(&[Crash::Power, Crash::Process]);
                self.crash(how);
            }
            60 => self.power_goes_soon(),
            62 | 63 => self.disk_fails(),
            // A start reads all; a running router reads texts.
            61 => self.disk.fail_read(self.random.below(60)),
            64 => self.disk_fills(),
            65 | 66 => self.disk_is_freed(),
            67..=71 => self.reload(),
            72..=75 => self.snapshot(),
            76..=80 => self.let_go(),
            81 => self.ping(),
            82..=86 => self.operator_on_deliveries(),
            87..=89 => self.acknowledge(),
            90 | 91 => self.wall_jumps(),
            92 | 93 => self.late_outcome(),
            94 => self.stops_in_order(),
            95 | 96 => self.silence(),
            97 => self.expire(),
            98 => self.ping(),
            99 | 100 => self.check_in(),
            _ => self.settle(),
        }
        if self.process.is_none() && !self.random.one_in(4) {
            self.start();
        }
        for _ in 0..self.random.below(6) {
            self.turn();
        }
    }

    fn some_action(&mut self) -> ActionId {
        let plan = Plan::of(self.plan);
        let actions: Vec<ActionId> = plan.actions().map(|action| action.id.clone()).collect();
        self.random.pick(&actions).clone()
    }

    fn clients_send(&mut self) {
        let mut builder = BatchBuilder::default();
        for _ in 0..1 + self.random.below(3) {
            self.alert(&mut builder);
        }
        let client = *self.random.pick(&CLIENTS);
        self.send(client, builder.finish());
    }

    fn alert(&mut self, builder: &mut BatchBuilder) {
        let event = *self.random.pick(&EVENTS);
        builder.label("event", event);
        let host = *self.random.pick(&HOSTS);
        builder.label("host", host);
        if self.random.one_in(6) {
            builder.label("severity", "critical");
        }
        // Some arrivals say what was said before, so that they are refreshes.
        let text = if self.random.one_in(3) { 0 } else { self.requests.len() };
        builder.annotation("text", &text.to_string());
        let ahead = match self.random.below(10) {
            0..=3 => None,
            4..=6 => Some(-(self.random.below(10 * MINUTE) as i64)),
            7 | 8 => Some(self.random.below(20 * MINUTE) as i64),
            _ => Some(self.random.below(3 * HOUR) as i64),
        };
        let wall = self.wall();
        let ends_at = ahead.map(|ahead| Wall(wall + ahead));
        let starts_at = match ends_at {
            None if self.random.one_in(3) => Some(Wall(wall - self.random.below(HOUR) as i64)),
            _ => None,
        };
        let number = self.random.below(1_000_000);
        let id = self.random.one_in(3).then(|| format!("id-{number}"));
        builder.finish_alert(AlertTimes { starts_at, ends_at }, id.as_deref(), None).expect("valid");
    }

    fn time_passes(&mut self) {
        let span = *self.random.pick(&[200, SECOND, 10 * SECOND, MINUTE, 5 * MINUTE, HOUR]);
        let span = self.random.below(span);
        if self.random.one_in(4) {
            // Nobody has a turn meanwhile: the machine was suspended, or is slow.
            self.now += span;
        } else {
            self.pass(span);
        }
    }

    fn disk_fails(&mut self) {
        let failing = if self.random.one_in(4) { Failing::ForGood } else { Failing::Once };
        let call = self.disk.calls() + 1 + self.random.below(20);
        self.disk.fail_at(call, std::io::ErrorKind::Other, failing);
    }

    fn disk_fills(&mut self) {
        self.disk
            .set_capacity(Some(self.disk.used_bytes() + self.random.below(3 * self.options.segment_bytes)));
        self.look_at_space();
    }

    fn disk_is_freed(&mut self) {
        self.disk.set_capacity(None);
        self.look_at_space();
    }

    /// The journal's look at its disk.
    pub fn look_at_space(&mut self) {
        if let Some(process) = &mut self.process {
            process.full = process.writer.look_at_space().expect("no simulated file loses its name").full;
        }
    }

    fn reload(&mut self) {
        let number = self.random.below(PLANS as u64) as usize;
        self.reload_to(number);
    }

    /// A reload, refused where deliveries would be left without their action.
    pub fn reload_to(&mut self, number: usize) {
        let plan = Plan::of(number);
        let fates = if self.random.one_in(4) { Vec::new() } else { self.fates(&plan) };
        let Some(process) = &mut self.process else { return };
        let has = |id: &ActionId| plan.action(id).is_some();
        if upkeep::orphans(&process.live.machine, has, &fates).is_empty() {
            self.plan = number;
            process.keep(Input::ConfigInstalled(plan.install(fates, "signal").into()));
        }
    }

    /// A snapshot of what is flushed, made behind the live fold.
    pub fn snapshot(&mut self) {
        let Some(process) = &mut self.process else { return };
        let flushed = process.writer.next_seq() - 1;
        if flushed > process.covered
            && let Ok(covered) = upkeep::snapshot_behind(
                &process.reader,
                &process.snapshots,
                &process.panics,
                process.covered,
                flushed,
            )
        {
            process.covered = covered;
        }
    }

    fn let_go(&mut self) {
        if let Some(process) = &mut self.process {
            process.let_go();
        }
        self.look_at_space();
    }

    fn operator_on_deliveries(&mut self) {
        let verb = if self.random.one_in(3) { DeliveryVerb::Drop } else { DeliveryVerb::Retry };
        let ids: Vec<_> = match &self.process {
            Some(process) => process.live.machine.deliveries().map(|view| view.id).collect(),
            None => return,
        };
        let which = match self.random.below(4) {
            0 => DeliverySelection::DeadLetters,
            1 => DeliverySelection::DeadLettersOf(self.some_action()),
            _ if ids.is_empty() => return,
            _ => DeliverySelection::One(*self.random.pick(&ids)),
        };
        self.keep(Input::Deliveries(DeliveryCommand { which, verb, by: "operator".into() }));
    }

    fn acknowledge(&mut self) {
        let event = *self.random.pick(&EVENTS);
        let Some(at) = self.process.as_ref().map(|process| process.at(self.now)) else { return };
        let until = self.random.one_in(2).then(|| at.plus(self.random.below(HOUR)));
        let withdraw = self.random.one_in(4);
        self.keep(Input::Acknowledge(Acknowledge {
            key: None,
            matchers: vec![Matcher::parse(&format!("event=\"{event}\"")).expect("valid")],
            by: "operator".into(),
            until,
            comment: String::new(),
            withdraw,
        }));
    }

    /// Somebody holds back a host, or one kind of event on it.
    fn silence(&mut self) {
        let mut matchers = vec![format!("host=\"{}\"", self.random.pick(&HOSTS))];
        if self.random.one_in(2) {
            matchers.push(format!("event=\"{}\"", self.random.pick(&EVENTS)));
        }
        let span = *self.random.pick(&[MINUTE, 20 * MINUTE, 3 * HOUR]);
        let ahead = if self.random.one_in(3) { self.random.below(HOUR) } else { 0 };
        let starts = self.wall() + ahead as i64;
        let set = SetSilence {
            id: None,
            fresh: SilenceId(self.random.next().into()),
            matchers: matchers.iter().map(|text| Matcher::parse(text).expect("valid")).collect(),
            starts: Some(Wall(starts)),
            ends: Wall(starts + 1 + self.random.below(span) as i64),
            by: "operator".into(),
            client: "operator".into(),
            comment: String::new(),
            annotations: Default::default(),
        };
        self.keep(Input::Silence(SilenceOrder::Set(set.into())));
    }

    fn expire(&mut self) {
        let ids: Vec<SilenceId> = self.oracle.silences().collect();
        if !ids.is_empty() {
            let id = *self.random.pick(&ids);
            self.keep(Input::Silence(SilenceOrder::Expire { id, by: "operator".into() }));
        }
    }

    fn wall_jumps(&mut self) {
        let by = *self.random.pick(&[TEN_YEARS, -TEN_YEARS, HOUR as i64, -(HOUR as i64), 700]);
        self.wall_jumps_by(by);
    }

    /// The wall clock is set, and the server sees it.
    pub fn wall_jumps_by(&mut self, by: i64) {
        self.wall_ahead += by;
        let Some(process) = &self.process else { return };
        let offset = self.wall().saturating_sub_unsigned(process.at(self.now).0);
        if let Some(process) = &mut self.process
            && process.offset_ms != offset
        {
            process.offset_ms = offset;
            process.keep(Input::WallClock(offset));
        }
    }

    /// An outcome that nobody waits for: it must change nothing.
    fn late_outcome(&mut self) {
        let outcomes: Vec<Outcome> = self
            .log
            .iter()
            .filter_map(|record| match &record.input {
                Input::Outcome(outcome) => Some(outcome.clone()),
                _ => None,
            })
            .collect();
        if outcomes.is_empty() {
            return;
        }
        let mut outcome = self.random.pick(&outcomes).clone();
        if self.random.one_in(2) {
            outcome.result = Ok(Receipt::Sent);
        }
        if self.oracle.is_over(outcome.delivery) {
            self.keep(Input::Outcome(outcome));
        }
    }

    fn ping(&mut self) {
        let name = (*self.random.pick(&JOBS)).into();
        let kind = match self.random.below(8) {
            0..=3 => PingKind::Success,
            4 | 5 => PingKind::Start,
            6 => PingKind::Fail,
            _ => PingKind::Exit(self.random.below(3) as u8),
        };
        self.keep(Input::Ping(Ping { name, kind, client: "cron".into(), words: String::new() }));
    }

    fn check_in(&mut self) {
        self.missing_clients_check_in();
        let client: SmolStr = (*self.random.pick(&["laptop", "desktop"])).into();
        if self.random.one_in(8) {
            self.keep(Input::ForgetClient(ForgetClient { name: client, by: "operator".into() }));
            return;
        }
        let elsewhere = |is_said: bool| is_said.then(|| "elsewhere".into());
        let said = ClientReport {
            // Now and then it is another one.
            incarnation: u64::from(self.random.one_in(4)),
            comes_from: elsewhere(self.random.one_in(4)),
            leaves_for: elsewhere(self.random.one_in(8)),
            ..ClientReport::default()
        };
        self.keep(Input::CheckIn(CheckIn { client, address: "192.0.2.7".into(), said }));
    }

    /// Everybody who would be missing by then, or is, says that all is well.
    fn ping_all(&mut self, by: u64) {
        let Some(process) = &self.process else { return };
        let (machine, by) =
            (&process.live.machine, process.at(by).wall(process.live.machine.wall_offset_ms()));
        let all = (0..machine.heartbeat_bound()).filter_map(|row| machine.heartbeat_in(row));
        let late = all.filter(|heartbeat| heartbeat.due().is_none_or(|due| due <= by));
        let names: Vec<_> = late.map(|heartbeat| heartbeat.name().into()).collect();
        for name in names {
            let words = String::new();
            self.keep(Input::Ping(Ping { name, kind: PingKind::Success, client: "cron".into(), words }));
        }
        self.settle();
    }

    /// Some of those that are missing come back.
    fn missing_clients_check_in(&mut self) {
        let Some(process) = &self.process else { return };
        let (machine, now) = (&process.live.machine, process.at(self.now));
        let all = (0..machine.client_bound()).filter_map(|row| machine.client_in(row));
        let missing = all.filter(|client| client.state(now) == ClientState::Missing);
        let known: Vec<CheckIn> = missing
            .map(|client| CheckIn {
                client: client.name().into(),
                address: client.address().into(),
                said: client.said().clone(),
            })
            .collect();
        for mut check_in in known {
            if self.random.one_in(2) {
                // Or another one does, by its name.
                check_in.said.incarnation ^= u64::from(self.random.one_in(4));
                self.keep(Input::CheckIn(check_in));
            }
        }
    }

    fn stops_in_order(&mut self) {
        self.keep(Input::Stopping);
        self.settle();
        if let Some(process) = &self.process {
            let machine = &process.live.machine;
            // No snapshot at the end only makes the next start slower.
            drop(process.snapshots.write(machine.next_seq() - 1, &machine.snapshot()));
        }
        self.crash(Crash::Process);
    }

    /// An input of our own, or an operator's.
    pub fn keep(&mut self, input: Input) {
        if let Some(process) = &mut self.process {
            process.keep(input);
        }
    }

    /// Everything is well again: time goes on until nothing is left to be done.
    pub fn run_until_quiet(&mut self) {
        self.heal();
        let told = |world: &World| world.truth.pending().iter().all(|of| of.pending == 0);
        self.settle_with(10 * HOUR, |world| told(world) && world.oracle.unaccounted().is_empty());
        assert_eq!(
            self.oracle.unaccounted(),
            Vec::<String>::new(),
            "all is well and still not accounted for"
        );
        self.resolve_all();
        self.settle_with(10 * HOUR, |world| told(world) && world.truth.sizes().0 == 0);
        assert_eq!(self.oracle.unaccounted(), Vec::<String>::new(), "all is over and not accounted for");
        let recipients = |id: &ActionId| Plan::any_action(id).recipients;
        self.oracle.check_far_ends(&self.far_ends, recipients);
        let (alerts, groups, _) = self.truth.sizes();
        let left: Vec<_> = self.truth.groups().map(|group| group.name().key.clone()).collect();
        assert_eq!((alerts, groups), (0, 0), "something is left behind: {left:?}");
        assert!(self.requests.iter().all(|request| request.answered), "a client waits for its answer");
    }

    fn heal(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.far_ends.heal();
        if self.process.is_none() {
            self.start();
        }
        assert!(self.process.is_some(), "a start on a disk that is well is never refused");
        self.look_at_space();
        self.settle();
        self.answer_all();
    }

    /// Clients ask until everybody has an answer; some do not arrive.
    fn answer_all(&mut self) {
        for _ in 0..100 {
            self.settle();
            if self.requests.iter().all(|request| request.answered) {
                return;
            }
            self.ask_again();
        }
    }

    fn settle_with(&mut self, at_most: u64, quiet: impl Fn(&World) -> bool) {
        let end = self.now + at_most;
        self.settle();
        for _ in 0..ROUNDS_MAX {
            if quiet(self) {
                return;
            }
            let Some(next) = self.next_due().filter(|due| *due <= end) else { return };
            self.ping_all(next);
            let Some(next) = self.next_due().filter(|due| *due <= end) else { return };
            self.now = self.now.max(next);
            self.settle();
        }
    }

    fn resolve_all(&mut self) {
        let mut builder = BatchBuilder::default();
        let wall = Wall(self.wall());
        let labels: Vec<Vec<(String, String)>> = self
            .truth
            .alerts()
            .map(|alert| alert.labels().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>())
            .filter(|labels: &Vec<_>| labels.iter().all(|(name, _)| name != "source"))
            .collect();
        for pairs in labels {
            pairs.iter().for_each(|(name, value)| builder.label(name, value));
            let times = AlertTimes { starts_at: None, ends_at: Some(wall) };
            builder.finish_alert(times, None, None).expect("valid");
        }
        let batch: AlertBatch = builder.finish();
        if !batch.is_empty() {
            self.send("boston", batch);
            self.answer_all();
        }
    }
}
