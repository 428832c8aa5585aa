//! Clients that check in: who is there, what each last said of itself, and who is missing, gone or come back.
//!
//! Each has one row and one timer, as a heartbeat has: first for the end of its period and grace, and while it is missing for
//! the time at which it leaves the list. What silence is, [`super::absence`] says.

use alloc::{collections::BTreeMap, format, string::String};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use super::{
    Machine, Phase,
    absence::{Patience, Pause, span},
    own::{LOG_FORWARDING_ERROR, RAISE_COST},
    slab::Slab,
    state::{OwnAlert, Subject, never},
    timers::Due,
};
use crate::{
    At, Fingerprint, Severity, Wall,
    config::{CLIENTS_MAX, CheckIns},
    effect::{ClientChange, Decided},
    input::{CheckIn, ClientReport, ForgetClient},
};

/// The event that lasts while a client does not check in.
pub const CLIENT_MISSING: &str = "Client Missing";
/// The label that names the client which an alert is about.
pub const CLIENT_LABEL: &str = "client";
/// The event of a client that is in the list from now on.
pub(super) const CLIENT_ENROLLED: &str = "Client Enrolled";
/// The event of a name that another client has from now on.
pub(super) const CLIENT_REPLACED: &str = "Client Replaced";
/// The event of a client that was silent for too long, by its name in the AMS² event table; so the next two.
pub(super) const CLIENT_REMOVED: &str = "Removed Client";
pub(super) const ROAMING_ADDED: &str = "Roaming Client added to Server";
pub(super) const ROAMING_DELETED: &str = "Roaming Client deleted from Server";
/// The event that lasts while there are more clients than advised.
pub(super) const TOO_MANY_CLIENTS: &str = "Too Many Clients";
/// Past so many own alerts of one record, what is due with a client waits for the next: a record has numbers for 65,534 of
/// them, and heartbeats may need the rest.
const RAISED_MAX: u16 = 30_000;

/// Every client that checked in, by number and by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Clients {
    rows: Slab<Client>,
    /// Whether it was said that there are more than advised.
    count: Count,
    /// Made again from the rows.
    #[serde(skip)]
    by_name: BTreeMap<SmolStr, u32>,
}

/// How many clients there are, by what is advised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Count {
    #[default]
    AsAdvised,
    Over,
}

/// What is known of one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Client {
    name: SmolStr,
    said: ClientReport,
    /// Where its last check-in came from.
    address: SmolStr,
    /// When it came into the list.
    enrolled: Wall,
    /// When it checked in last.
    heard: Wall,
    /// Since when its silence counts.
    since: At,
    /// Since when it is missing, if it is.
    missing: Option<At>,
    /// What is due waits until then: too much came at once.
    put_off: At,
    /// The row of its alert, while that fires.
    alert: Option<u32>,
    #[serde(skip, default = "never")]
    armed: At,
}

/// How a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientState {
    /// It checked in within its period.
    Present,
    /// Its period is over, and its grace is not.
    Late,
    /// It did not check in for period and grace.
    Missing,
}

impl ClientState {
    /// The words of all of them, in order.
    pub const WORDS: [&str; 3] = ["present", "late", "missing"];

    /// The word in JSON and metrics.
    pub fn word(self) -> &'static str {
        ClientState::WORDS[self as usize]
    }
}

/// Why a check-in is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckInRefused {
    /// Another client has the name: one with another journal, which was heard of within its period.
    NameTaken {
        /// Where it checked in from last.
        address: SmolStr,
    },
    /// There are as many clients as there may be.
    Full {
        /// How many.
        most: u32,
    },
}

/// One client of the state.
#[derive(Clone, Copy)]
pub struct ClientView<'a> {
    machine: &'a Machine,
    row: &'a Client,
}

impl CheckIns {
    fn patience(&self) -> Patience {
        Patience { period_ms: self.period_ms, grace_ms: self.grace_ms }
    }

    /// How many clients there may be at all.
    pub(super) fn most(&self) -> u32 {
        self.most.unwrap_or(CLIENTS_MAX).min(CLIENTS_MAX)
    }
}

impl Client {
    /// When something is due with it. It is removed after more than the time that it may be gone.
    fn due(&self, rules: &CheckIns) -> At {
        let due = match self.missing {
            None => self.since.plus(rules.patience().silence_ms()),
            Some(_) => self.since.plus(rules.remove_after_ms.saturating_add(1)),
        };
        due.max(self.put_off)
    }

    fn state(&self, rules: &CheckIns, now: At) -> ClientState {
        match self.missing {
            Some(_) => ClientState::Missing,
            None if now >= self.since.plus(rules.period_ms) => ClientState::Late,
            None => ClientState::Present,
        }
    }
}

impl Clients {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// One past the highest number.
    pub fn bound(&self) -> u32 {
        self.rows.bound()
    }

    /// When something is due with one.
    pub fn due(&self, number: u32, rules: &CheckIns) -> At {
        self.rows.find(number).map_or(At::NEVER, |row| row.due(rules))
    }

    /// The row's note of its earliest timer.
    pub fn armed(&mut self, number: u32) -> Option<&mut At> {
        self.rows.find_mut(number).map(|row| &mut row.armed)
    }

    /// Makes again what finds rows, after a snapshot was read.
    pub fn rebuild(&mut self) {
        self.by_name = self.rows.iter().map(|(number, row)| (row.name.clone(), number)).collect();
    }

    /// Its alert fires in this row.
    pub(super) fn note_alert(&mut self, number: u32, alert: Option<u32>) {
        if let Some(row) = self.rows.find_mut(number) {
            row.alert = alert;
        }
    }
}

/// An own alert about a client.
fn about(name: &SmolStr, own: OwnAlert) -> OwnAlert {
    OwnAlert { labels: [(SmolStr::new_static(CLIENT_LABEL), name.clone())].into(), ..own }
}

fn missing_alert(name: &SmolStr, words: String) -> OwnAlert {
    let own = about(name, OwnAlert::new(CLIENT_MISSING, "", Severity::Minor, words));
    OwnAlert { until: Some(Wall(i64::MAX)), ..own }
}

impl Machine {
    /// What the config in force says of check-ins.
    pub fn check_ins(&self) -> CheckIns {
        self.state.config().map(|config| config.check_ins).unwrap_or_default()
    }

    /// Why a client of this name and journal would be refused at this moment.
    pub fn refuses_check_in(&self, name: &str, incarnation: u64, now: At) -> Option<CheckInRefused> {
        let (clients, rules) = (&self.state.clients, self.check_ins());
        let Some(row) = clients.by_name.get(name).and_then(|number| clients.rows.find(*number)) else {
            let most = rules.most();
            return (clients.len() >= most as usize).then_some(CheckInRefused::Full { most });
        };
        let is_taken = row.said.incarnation != incarnation && row.state(&rules, now) == ClientState::Present;
        is_taken.then(|| CheckInRefused::NameTaken { address: row.address.clone() })
    }

    /// A client says how it is.
    pub(super) fn check_in(&mut self, check_in: &CheckIn) {
        let name = &check_in.client;
        if let Some(refused) = self.refuses_check_in(name, check_in.said.incarnation, self.now) {
            let why = match refused {
                CheckInRefused::NameTaken { address } => {
                    format_smolstr!("another client at {address} is called `{name}`")
                }
                CheckInRefused::Full { most } => format_smolstr!("there are {most} clients already"),
            };
            let by = check_in.client.clone();
            self.record(Decided::Ignored { verb: "check_in".into(), delivery: None, by, why });
            return;
        }
        let known = self.state.clients.by_name.get(name).copied();
        match (known, &check_in.said.leaves_for) {
            (Some(number), Some(router)) => self.client_leaves(number, router),
            (None, Some(_)) => {
                let (by, why) =
                    (name.clone(), format_smolstr!("there is no client `{name}` that could leave"));
                self.record(Decided::Ignored { verb: "check_in".into(), delivery: None, by, why });
            }
            (Some(number), None) => self.checks_in_again(number, check_in),
            (None, None) => self.enrol(check_in),
        }
    }

    /// A client is heard for the first time, or for the first time since it left the list.
    fn enrol(&mut self, check_in: &CheckIn) {
        let name = check_in.client.clone();
        let heard = self.now.wall(self.state.wall_offset());
        let number = self.state.clients.rows.insert(Client {
            name: name.clone(),
            said: check_in.said.clone(),
            address: check_in.address.clone(),
            enrolled: heard,
            heard,
            since: self.now,
            missing: None,
            put_off: At(0),
            alert: None,
            armed: At::NEVER,
        });
        self.state.clients.by_name.insert(name.clone(), number);
        self.arm_client(number);
        match &check_in.said.comes_from {
            Some(router) => self.client_roams_here(number, router),
            None => {
                let words = format!("{name} checked in for the first time, from {}", check_in.address);
                self.record_client(&name, ClientChange::Enrolled, &name, words.clone());
                self.to_raise.push(about(&name, OwnAlert::new(CLIENT_ENROLLED, "", Severity::Info, words)));
            }
        }
        self.look_at_client_count();
    }

    fn client_roams_here(&mut self, number: u32, router: &str) {
        let name = self.state.clients.rows[number].name.clone();
        let words = format!("{name} comes from {router}");
        self.record_client(&name, ClientChange::Joined, &name, words.clone());
        self.to_raise.push(about(&name, OwnAlert::new(ROAMING_ADDED, "28", Severity::Info, words)));
    }

    fn checks_in_again(&mut self, number: u32, check_in: &CheckIn) {
        let (alert, heard) = (self.client_alert(number), self.now.wall(self.state.wall_offset()));
        let row = &mut self.state.clients.rows[number];
        let before = core::mem::replace(&mut row.said, check_in.said.clone());
        let was_at = core::mem::replace(&mut row.address, check_in.address.clone());
        let was_missing = row.missing.take().is_some();
        (row.heard, row.since, row.put_off, row.alert) = (heard, self.now, At(0), None);
        let name = row.name.clone();
        self.arm_client(number);
        let (now_at, is_another) = (&check_in.address, before.incarnation != check_in.said.incarnation);
        let words = match is_another {
            true => format!("{name} is another client now, at {now_at}; the one before was at {was_at}"),
            false => format!("{name} is back, at {now_at}"),
        };
        if is_another {
            self.record_client(&name, ClientChange::Replaced, &name, words.clone());
            self.to_raise
                .push(about(&name, OwnAlert::new(CLIENT_REPLACED, "", Severity::Warning, words.clone())));
        } else if was_missing {
            self.record_client(&name, ClientChange::Returned, &name, words.clone());
        }
        if !is_another {
            self.say_forwarding_trouble(&name, &before, &check_in.said);
        }
        self.to_raise.extend(alert.map(|alert| OwnAlert::end_of(CLIENT_MISSING, alert, words)));
        // One that had no answer says the same once more.
        if let Some(router) = &check_in.said.comes_from
            && before.comes_from.as_ref() != Some(router)
        {
            self.client_roams_here(number, router);
        }
    }

    /// Alerts of a client came late, or were dropped there, since it checked in before.
    fn say_forwarding_trouble(&mut self, name: &SmolStr, before: &ClientReport, now: &ClientReport) {
        let delayed = now.delayed.saturating_sub(before.delayed);
        let dropped = now.dropped.saturating_sub(before.dropped);
        let own = match (dropped, delayed) {
            (0, 0) => return,
            (0, _) => {
                let words = format!("{delayed} alerts of {name} came late");
                OwnAlert::new(LOG_FORWARDING_ERROR, "34", Severity::Warning, words)
            }
            _ => {
                let words = format!("{dropped} alerts of {name} were dropped there, and {delayed} came late");
                OwnAlert::new(LOG_FORWARDING_ERROR, "34", Severity::Major, words)
            }
        };
        self.to_raise.push(about(name, own));
    }

    fn client_leaves(&mut self, number: u32, router: &str) {
        let name = self.state.clients.rows[number].name.clone();
        let words = format!("{name} has left for {router}");
        self.record_client(&name, ClientChange::Left, &name, words.clone());
        self.take_client(number, &words);
        self.to_raise.push(about(&name, OwnAlert::new(ROAMING_DELETED, "29", Severity::Info, words)));
    }

    /// Somebody takes a client out of the list.
    pub(super) fn forget_client(&mut self, forget: &ForgetClient) {
        let ForgetClient { name, by } = forget;
        let Some(number) = self.state.clients.by_name.get(name).copied() else {
            let why = format_smolstr!("there is no client `{name}`");
            self.record(Decided::Ignored { verb: "forget".into(), delivery: None, by: by.clone(), why });
            return;
        };
        let words = format!("{name} was taken out of the list");
        self.record_client(name, ClientChange::Forgotten, by, words.clone());
        self.take_client(number, &words);
    }

    /// A client is in the list no more; its alert is over.
    fn take_client(&mut self, number: u32, words: &str) {
        let alert = self.client_alert(number);
        self.to_raise.extend(alert.map(|alert| OwnAlert::end_of(CLIENT_MISSING, alert, words.into())));
        if let Some(row) = self.state.clients.rows.remove(number) {
            self.state.clients.by_name.remove(&row.name);
        }
        self.look_at_client_count();
    }

    /// A client did not check in in time, or not for so long that it leaves the list.
    pub(super) fn client_due(&mut self, number: u32) {
        self.look_for_pause();
        let rules = self.check_ins();
        if self.state.clients.due(number, &rules) > self.now {
            self.arm_client(number);
            return;
        }
        if self.raised >= RAISED_MAX {
            self.state.clients.rows[number].put_off = self.reached.plus(1);
            self.arm_client(number);
            return;
        }
        let row = &mut self.state.clients.rows[number];
        let name = row.name.clone();
        if row.missing.is_none() {
            row.missing = Some(self.now);
            let silence = span(rules.patience().silence_ms());
            let words = format!("{name} has not checked in for {silence}; it was last at {}", row.address);
            self.arm_client(number);
            self.record_client(&name, ClientChange::Missing, "", words.clone());
            let subject = Some(Subject::Client(number));
            // At once, and not with others at the record's end: a storm of timers is worked on one by one.
            self.raise(OwnAlert { subject, ..missing_alert(&name, words) });
            return;
        }
        let words = format!("{name} was silent for more than {}", span(rules.remove_after_ms));
        self.record_client(&name, ClientChange::Removed, "", words.clone());
        self.take_client(number, &words);
        self.to_raise.push(about(&name, OwnAlert::new(CLIENT_REMOVED, "25", Severity::Warning, words)));
        for own in core::mem::take(&mut self.to_raise) {
            self.raise(own);
        }
    }

    /// Says when there are more clients than advised, and when there are not any more.
    pub(super) fn look_at_client_count(&mut self) {
        let (count, advised) = (self.state.clients.len(), self.check_ins().warn_above);
        let now = if count > advised as usize { Count::Over } else { Count::AsAdvised };
        if core::mem::replace(&mut self.state.clients.count, now) == now {
            return;
        }
        self.record(Decided::ClientCount { count: count as u64, advised, is_over: now == Count::Over });
        match now {
            Count::AsAdvised => self.end_own(TOO_MANY_CLIENTS, "there are no more clients than advised"),
            Count::Over => {
                let words = format!("{count} clients check in here; more than {advised} are not advised");
                let own = OwnAlert::new(TOO_MANY_CLIENTS, "", Severity::Warning, words);
                self.to_raise.push(OwnAlert { until: Some(Wall(i64::MAX)), ..own });
            }
        }
    }

    /// A config took effect, and heartbeats go on by it: one client after the other is waited for as it says.
    pub(super) fn see_to_client(&mut self, number: u32, left: &mut i64) -> Phase {
        if number >= self.state.clients.bound() {
            self.look_at_client_count();
            return Phase::Own;
        }
        *left -= 1;
        if self.state.clients.rows.find(number).is_some() {
            self.change_patience(number, left);
            // Where there is no room for more own alerts it keeps its labels, and ends under them.
            if let Some(alert) = self.client_alert(number)
                && self.raised < RAISED_MAX
            {
                let own = missing_alert(&self.state.clients.rows[number].name, String::new());
                let subject = Some(Subject::Client(number));
                self.move_own_alert(alert, OwnAlert { subject, ..own }, left);
            }
            self.arm_client(number);
        }
        Phase::Clients(number + 1)
    }

    /// Who is in time by the old rules is not missing by the new ones at once.
    fn change_patience(&mut self, number: u32, left: &mut i64) {
        let silence_ms = self.check_ins().patience().silence_ms();
        let (now, has_room, alert) = (self.now, self.raised < RAISED_MAX, self.client_alert(number));
        let row = &mut self.state.clients.rows[number];
        let silent_until = row.since.plus(silence_ms);
        if row.missing.is_none() && silent_until <= now {
            row.since = now;
        }
        if row.missing.is_some() && silent_until > now && has_room {
            (row.missing, row.alert) = (None, None);
            let name = row.name.clone();
            let words = format!("{name} is waited for longer: the configuration gives it more time");
            self.record_client(&name, ClientChange::Awaited, "", words.clone());
            if let Some(alert) = alert {
                *left -= RAISE_COST;
                self.raise(OwnAlert::end_of(CLIENT_MISSING, alert, words));
            }
        }
    }

    /// Nobody listened for a while. What is missing by then is gone no longer for that.
    pub(super) fn clients_not_listened_to(&mut self, pause: Pause) {
        let patience = self.check_ins().patience();
        for (_, row) in self.state.clients.rows.iter_mut() {
            match row.missing {
                Some(_) => row.since = row.since.plus(pause.clock_ms()),
                None if patience.may_have_spoken(row.since, pause) => row.since = pause.until,
                None => {}
            }
        }
        self.arm_clients();
    }

    pub(super) fn arm_client(&mut self, number: u32) {
        let rules = self.check_ins();
        if let Some(row) = self.state.clients.rows.find_mut(number) {
            let due = row.due(&rules);
            self.timers.arm(&mut row.armed, due, Due::Client(number));
        }
    }

    /// Sees to it that each has its timer.
    pub(super) fn arm_clients(&mut self) {
        for number in 0..self.state.clients.bound() {
            self.arm_client(number);
        }
    }

    /// The alert that fires about a client.
    fn client_alert(&self, number: u32) -> Option<u32> {
        let row = self.state.clients.rows.find(number)?;
        row.alert.filter(|alert| self.is_own_about(*alert, CLIENT_LABEL, &row.name))
    }

    fn record_client(&mut self, name: &SmolStr, change: ClientChange, by: &str, why: String) {
        let alert = self.missing_alert_of(name);
        self.record(Decided::Client { name: name.clone(), alert, change, by: by.into(), why });
    }

    /// The name of the alert that fires while this client is missing.
    fn missing_alert_of(&self, name: &SmolStr) -> Fingerprint {
        let labels = super::own::labels(self.state.config(), &missing_alert(name, String::new()));
        Fingerprint::of(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// One past the highest row that a client has.
    pub fn client_bound(&self) -> u32 {
        self.state.clients.bound()
    }

    /// The client in this row.
    pub fn client_in(&self, row: u32) -> Option<ClientView<'_>> {
        let row = self.state.clients.rows.find(row)?;
        Some(ClientView { machine: self, row })
    }

    /// The client of this name.
    pub fn client(&self, name: &str) -> Option<ClientView<'_>> {
        self.client_in(*self.state.clients.by_name.get(name)?)
    }

    /// How many clients check in.
    pub fn client_count(&self) -> usize {
        self.state.clients.len()
    }

    /// How many clients stand how at this moment, in the order of [`ClientState::WORDS`].
    pub fn clients_by_state(&self, now: At) -> [u64; ClientState::WORDS.len()] {
        let (mut counts, rules) = ([0; ClientState::WORDS.len()], self.check_ins());
        for (_, row) in self.state.clients.rows.iter() {
            counts[row.state(&rules, now) as usize] += 1;
        }
        counts
    }
}

impl<'a> ClientView<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.row.name
    }

    /// How it stands at this moment.
    pub fn state(&self, now: At) -> ClientState {
        self.row.state(&self.machine.check_ins(), now)
    }

    /// What it last said of itself.
    pub fn said(&self) -> &'a ClientReport {
        &self.row.said
    }

    /// Where its last check-in came from.
    pub fn address(&self) -> &'a str {
        &self.row.address
    }

    /// When it came into the list.
    pub fn enrolled(&self) -> Wall {
        self.row.enrolled
    }

    /// When it checked in last, on the wall clock of that moment.
    pub fn heard(&self) -> Wall {
        self.row.heard
    }

    /// When it is missing, or removed if it is missing already, if nothing is heard until then.
    pub fn due(&self) -> Wall {
        self.row.due(&self.machine.check_ins()).wall(self.machine.state.wall_offset())
    }

    /// The name of the alert that fires while it is missing.
    pub fn alert(&self) -> Fingerprint {
        self.machine.missing_alert_of(&self.row.name)
    }
}
