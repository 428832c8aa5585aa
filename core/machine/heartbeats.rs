//! Heartbeats: what is to be heard of again and again, such as a nightly job. Silence becomes an alert, and so does a run
//! that fails or does not end; the next success ends it.
//!
//! Each has one row and one timer. A ping moves its due time later, which costs the timers nothing; see
//! [`super::timers`]. What silence is, [`super::absence`] says.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use super::{
    Machine, Phase,
    absence::{Patience, Pause, span},
    own::RAISE_COST,
    slab::Slab,
    state::{OwnAlert, Subject, never},
    timers::Due,
};
use crate::{
    At, Fingerprint, Severities, Severity, Wall,
    config::{self, Config},
    effect::{Decided, HeartbeatChange},
    input::{Ping, PingKind},
    matcher::Compiled,
};

/// The event of a heartbeat's alert, unless its labels name another.
pub const HEARTBEAT_MISSING: &str = "Heartbeat Missing";
/// The label that names the heartbeat which an alert is about.
pub const HEARTBEAT_LABEL: &str = "heartbeat";
/// Longest start of a ping's words that a decision shows, in bytes; its alert has all that were kept.
const SAID_BYTES_MAX: usize = 200;

/// Every heartbeat, by number and by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Heartbeats {
    rows: Slab<Heartbeat>,
    /// Made again from the rows.
    #[serde(skip)]
    by_name: BTreeMap<SmolStr, u32>,
}

/// What is known of one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    name: SmolStr,
    /// Its place in the config's list; `None` once that has it no more.
    spec: Option<u32>,
    rhythm: Rhythm,
    state: HeartbeatState,
    /// Since when its silence counts: its last success, or when it began to be waited for.
    since: At,
    /// When anything was heard of it last.
    heard: Option<Wall>,
    /// When the run under way began; of several that overlap the first.
    started: Option<(At, Wall)>,
    /// The row of its alert, while that fires.
    alert: Option<u32>,
    #[serde(skip, default = "never")]
    armed: At,
}

/// How often it is to be heard, and how long a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rhythm {
    patience: Patience,
    max_duration_ms: Option<u64>,
}

/// How a heartbeat stands. New variants go to the end: snapshots name them by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HeartbeatState {
    /// It is waited for: it was not heard yet since it came into the config.
    Waiting,
    /// Its last run ended well, in time.
    Up,
    /// Nothing was heard of it in time.
    Missing,
    /// Its last run failed, with this exit code if it said one.
    Failed(Option<u8>),
    /// A run did not end in time.
    Overrun,
}

impl HeartbeatState {
    /// The words of all of them, in order.
    pub const WORDS: [&str; 5] = ["waiting", "up", "missing", "failed", "overrun"];

    /// The word in JSON and metrics.
    pub fn word(self) -> &'static str {
        HeartbeatState::WORDS[self.place()]
    }

    /// Its place in [`HeartbeatState::WORDS`].
    fn place(self) -> usize {
        match self {
            HeartbeatState::Waiting => 0,
            HeartbeatState::Up => 1,
            HeartbeatState::Missing => 2,
            HeartbeatState::Failed(_) => 3,
            HeartbeatState::Overrun => 4,
        }
    }

    /// Whether nothing is wrong: then it is waited for, and has no alert.
    fn is_well(self) -> bool {
        matches!(self, HeartbeatState::Waiting | HeartbeatState::Up)
    }
}

/// One heartbeat of the state.
#[derive(Clone, Copy)]
pub struct HeartbeatView<'a> {
    machine: &'a Machine,
    row: &'a Heartbeat,
}

impl Rhythm {
    fn of(spec: &config::Heartbeat) -> Rhythm {
        let patience = Patience { period_ms: spec.period_ms, grace_ms: spec.grace_ms };
        Rhythm { patience, max_duration_ms: spec.max_duration_ms }
    }

    /// The longest silence without an alert.
    fn silence_ms(&self) -> u64 {
        self.patience.silence_ms()
    }
}

impl Heartbeat {
    /// When something is due with it. While a run has a time by which it must end, that counts: it was heard of.
    fn due(&self) -> At {
        if !self.state.is_well() {
            return At::NEVER;
        }
        match (self.started, self.rhythm.max_duration_ms) {
            (Some((began, _)), Some(longest)) => began.plus(longest),
            _ => self.since.plus(self.rhythm.silence_ms()),
        }
    }

    /// What is wrong with it, in a sentence.
    fn complaint(&self) -> String {
        let name = &self.name;
        match self.state {
            HeartbeatState::Missing if self.heard.is_none() => {
                format!("{name} was never heard of, for {}", span(self.rhythm.silence_ms()))
            }
            HeartbeatState::Missing => {
                format!("{name} was not heard of for {}", span(self.rhythm.silence_ms()))
            }
            HeartbeatState::Failed(None) => format!("{name}: the last run failed"),
            HeartbeatState::Failed(Some(code)) => {
                format!("{name}: the last run failed with exit code {code}")
            }
            HeartbeatState::Overrun => {
                let longest = self.rhythm.max_duration_ms.unwrap_or_default();
                format!("{name}: a run did not end within {}", span(longest))
            }
            HeartbeatState::Waiting => format!("{name} is waited for"),
            HeartbeatState::Up => format!("{name} was heard in time"),
        }
    }
}

impl Heartbeats {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// One past the highest number.
    pub fn bound(&self) -> u32 {
        self.rows.bound()
    }

    /// When something is due with one.
    pub fn due(&self, number: u32) -> At {
        self.rows.find(number).map_or(At::NEVER, Heartbeat::due)
    }

    /// The row's note of its earliest timer.
    pub fn armed(&mut self, number: u32) -> Option<&mut At> {
        self.rows.find_mut(number).map(|row| &mut row.armed)
    }

    /// Makes again what finds rows, after a snapshot was read.
    pub fn rebuild(&mut self) {
        self.by_name = self.rows.iter().map(|(number, row)| (row.name.clone(), number)).collect();
    }

    /// Nobody listened for a while. A run that was under way may have ended meanwhile.
    pub(super) fn nobody_listened(&mut self, pause: Pause) {
        for (_, row) in self.rows.iter_mut().filter(|(_, row)| row.state.is_well()) {
            if row.started.take().is_some() || row.rhythm.patience.may_have_spoken(row.since, pause) {
                row.since = pause.until;
            }
        }
    }

    /// Its alert fires in this row.
    pub(super) fn note_alert(&mut self, number: u32, alert: Option<u32>) {
        if let Some(row) = self.rows.find_mut(number) {
            row.alert = alert;
        }
    }
}

/// The labels of a heartbeat's alert: those of own alerts, its own, and its name.
pub fn heartbeat_labels(config: &Config, heartbeat: &config::Heartbeat) -> BTreeMap<SmolStr, SmolStr> {
    let own = own_alert(&heartbeat.name, Some(heartbeat), String::new());
    super::own::labels(Some(config), &own)
}

fn own_alert(name: &SmolStr, spec: Option<&config::Heartbeat>, summary: String) -> OwnAlert {
    let own = OwnAlert::new(HEARTBEAT_MISSING, "", Severity::Major, summary);
    let labels = spec.into_iter().flat_map(|spec| &spec.labels).map(|(n, v)| (n.clone(), v.clone()));
    let name = (SmolStr::new_static(HEARTBEAT_LABEL), name.clone());
    OwnAlert { labels: labels.chain([name]).collect(), until: Some(Wall(i64::MAX)), ..own }
}

impl Machine {
    /// Something was heard of a heartbeat.
    pub(super) fn ping(&mut self, ping: &Ping) {
        let Some(number) = self.state.heartbeats.by_name.get(&ping.name).copied() else {
            let why = format_smolstr!("the configuration has no heartbeat `{}`", ping.name);
            let by = ping.client.clone();
            self.record(Decided::Ignored { verb: "ping".into(), delivery: None, by, why });
            return;
        };
        let moment = (self.now, self.now.wall(self.state.wall_offset()));
        let row = &mut self.state.heartbeats.rows[number];
        row.heard = Some(moment.1);
        match ping.kind {
            PingKind::Start if row.state.is_well() && row.started.is_some() => {}
            PingKind::Start => {
                row.started = Some(moment);
                self.arm_heartbeat(number);
            }
            PingKind::Success | PingKind::Exit(0) => self.heard_well(number, ping),
            PingKind::Fail => self.heard_failed(number, None, ping),
            PingKind::Exit(code) => self.heard_failed(number, Some(code), ping),
            PingKind::Log => {
                let why = start_of(&ping.words).to_string();
                self.record_heartbeat(number, HeartbeatChange::Logged, &ping.client, why);
            }
        }
    }

    /// A run ended well: whatever was wrong is over.
    fn heard_well(&mut self, number: u32, ping: &Ping) {
        let alert = self.heartbeat_alert(number);
        let row = &mut self.state.heartbeats.rows[number];
        let before = core::mem::replace(&mut row.state, HeartbeatState::Up);
        (row.since, row.started, row.alert) = (self.now, None, None);
        let name = row.name.clone();
        self.arm_heartbeat(number);
        if before == HeartbeatState::Waiting {
            let why = format!("{name} was heard for the first time");
            self.record_heartbeat(number, HeartbeatChange::Heard, &ping.client, why);
        } else if !before.is_well() {
            let summary = format!("{name} was heard again: a run ended well");
            self.record_heartbeat(number, HeartbeatChange::Returned, &ping.client, summary.clone());
            let ended = alert.map(|alert| OwnAlert { output: ping.words.clone(), ..end_of(alert, summary) });
            self.to_raise.extend(ended);
        }
    }

    /// A run failed. Each is an occurrence of its own.
    fn heard_failed(&mut self, number: u32, code: Option<u8>, ping: &Ping) {
        let row = &mut self.state.heartbeats.rows[number];
        (row.state, row.started) = (HeartbeatState::Failed(code), None);
        let summary = row.complaint();
        self.record_heartbeat(number, HeartbeatChange::Failed, &ping.client, summary.clone());
        let own = self.own_of_heartbeat(number, summary);
        self.to_raise.push(OwnAlert { output: ping.words.clone(), happened: true, ..own });
    }

    /// Nothing was heard of a heartbeat in time, or a run of it did not end.
    pub(super) fn heartbeat_due(&mut self, number: u32) {
        self.look_for_pause();
        if self.state.heartbeats.due(number) > self.now {
            self.arm_heartbeat(number);
            return;
        }
        let row = &mut self.state.heartbeats.rows[number];
        let runs = row.started.is_some() && row.rhythm.max_duration_ms.is_some();
        let (state, change) = match runs {
            true => (HeartbeatState::Overrun, HeartbeatChange::Overrun),
            false => (HeartbeatState::Missing, HeartbeatChange::Missing),
        };
        row.state = state;
        let summary = row.complaint();
        self.record_heartbeat(number, change, "", summary.clone());
        // At once, and not with others at the record's end: a storm of timers is worked on one by one.
        let own = self.own_of_heartbeat(number, summary);
        self.raise(own);
    }

    /// The config in force says what is waited for. What it changes of one is seen to later, row by row.
    pub(super) fn install_heartbeats(&mut self) {
        let Some((config, _)) = &self.state.config else { return };
        let Heartbeats { rows, by_name } = &mut self.state.heartbeats;
        rows.iter_mut().for_each(|(_, row)| row.spec = None);
        for (spec, place) in config.heartbeats.iter().zip(0u32..) {
            if let Some(number) = by_name.get(&spec.name) {
                rows[*number].spec = Some(place);
                continue;
            }
            let number = rows.insert(Heartbeat {
                name: spec.name.clone(),
                spec: Some(place),
                rhythm: Rhythm::of(spec),
                state: HeartbeatState::Waiting,
                since: self.now,
                heard: None,
                started: None,
                alert: None,
                armed: At::NEVER,
            });
            by_name.insert(spec.name.clone(), number);
        }
    }

    /// A config took effect, and all alerts are routed by it: one heartbeat after the other goes on as it says.
    pub(super) fn see_to_heartbeat(&mut self, number: u32, left: &mut i64) -> Phase {
        if number >= self.state.heartbeats.bound() {
            return Phase::Clients(0);
        }
        *left -= 1;
        if let Some(row) = self.state.heartbeats.rows.find(number) {
            match row.spec {
                None => self.remove_heartbeat(number, left),
                Some(_) => {
                    self.change_rhythm(number, left);
                    self.change_labels(number, left);
                    self.arm_heartbeat(number);
                }
            }
        }
        Phase::Heartbeats(number + 1)
    }

    fn remove_heartbeat(&mut self, number: u32, left: &mut i64) {
        let summary = "the configuration has this heartbeat no more";
        self.record_heartbeat(number, HeartbeatChange::Removed, "", summary.into());
        if let Some(alert) = self.heartbeat_alert(number) {
            *left -= RAISE_COST;
            self.raise(end_of(alert, summary.into()));
        }
        if let Some(row) = self.state.heartbeats.rows.remove(number) {
            self.state.heartbeats.by_name.remove(&row.name);
        }
    }

    /// With another rhythm it is waited for by that one, from its last success on; but who is in time by the old one is not
    /// missing by the new one at once.
    fn change_rhythm(&mut self, number: u32, left: &mut i64) {
        let Some(rhythm) = self.spec_of(number).map(Rhythm::of) else { return };
        let now = self.now;
        let row = &mut self.state.heartbeats.rows[number];
        if row.rhythm == rhythm {
            return;
        }
        row.rhythm = rhythm;
        let silent_until = row.since.plus(rhythm.silence_ms());
        if row.state.is_well() && silent_until <= now {
            row.since = now;
        }
        if row.state == HeartbeatState::Missing && silent_until > now {
            row.state = HeartbeatState::Waiting;
            let summary = format!("{} is waited for longer: its period is another now", row.name);
            self.record_heartbeat(number, HeartbeatChange::Awaited, "", summary.clone());
            self.end_alert_of(number, summary, left);
        }
    }

    fn end_alert_of(&mut self, number: u32, summary: String, left: &mut i64) {
        if let Some(alert) = self.heartbeat_alert(number) {
            *left -= RAISE_COST;
            self.raise(end_of(alert, summary));
        }
        self.state.heartbeats.note_alert(number, None);
    }

    fn change_labels(&mut self, number: u32, left: &mut i64) {
        if let Some(alert) = self.heartbeat_alert(number) {
            self.move_own_alert(alert, self.own_of_heartbeat(number, String::new()), left);
        }
    }

    pub(super) fn arm_heartbeat(&mut self, number: u32) {
        if let Some(row) = self.state.heartbeats.rows.find_mut(number) {
            let due = row.due();
            self.timers.arm(&mut row.armed, due, Due::Heartbeat(number));
        }
    }

    /// Sees to it that each has its timer.
    pub(super) fn arm_heartbeats(&mut self) {
        for number in 0..self.state.heartbeats.bound() {
            self.arm_heartbeat(number);
        }
    }

    /// The alert that fires about a heartbeat.
    fn heartbeat_alert(&self, number: u32) -> Option<u32> {
        let row = self.state.heartbeats.rows.find(number)?;
        row.alert.filter(|alert| self.is_own_about(*alert, HEARTBEAT_LABEL, &row.name))
    }

    fn spec_of(&self, number: u32) -> Option<&config::Heartbeat> {
        let place = self.state.heartbeats.rows.find(number)?.spec?;
        self.state.config()?.heartbeats.get(place as usize)
    }

    fn own_of_heartbeat(&self, number: u32, summary: String) -> OwnAlert {
        let name = &self.state.heartbeats.rows[number].name;
        let own = own_alert(name, self.spec_of(number), summary);
        OwnAlert { subject: Some(Subject::Heartbeat(number)), ..own }
    }

    fn record_heartbeat(&mut self, number: u32, change: HeartbeatChange, by: &str, why: String) {
        let labels = super::own::labels(self.state.config(), &self.own_of_heartbeat(number, String::new()));
        let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let alert = Fingerprint::of(labels);
        let name = self.state.heartbeats.rows[number].name.clone();
        self.record(Decided::Heartbeat { name, alert, change, by: by.into(), why });
    }

    /// One past the highest row that a heartbeat has.
    pub fn heartbeat_bound(&self) -> u32 {
        self.state.heartbeats.bound()
    }

    /// The heartbeat in this row.
    pub fn heartbeat_in(&self, row: u32) -> Option<HeartbeatView<'_>> {
        let row = self.state.heartbeats.rows.find(row)?;
        Some(HeartbeatView { machine: self, row })
    }

    /// How many heartbeats stand how, in the order of [`HeartbeatState::WORDS`].
    pub fn heartbeats_by_state(&self) -> [u64; HeartbeatState::WORDS.len()] {
        let mut counts = [0; HeartbeatState::WORDS.len()];
        for (_, row) in self.state.heartbeats.rows.iter() {
            counts[row.state.place()] += 1;
        }
        counts
    }
}

/// The end of the alert in this row.
fn end_of(alert: u32, summary: String) -> OwnAlert {
    OwnAlert::end_of(HEARTBEAT_MISSING, alert, summary)
}

impl<'a> HeartbeatView<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.row.name
    }

    /// How it stands.
    pub fn state(&self) -> HeartbeatState {
        self.row.state
    }

    /// The same in a sentence.
    pub fn words(&self) -> String {
        self.row.complaint()
    }

    /// When anything was heard of it last, on the wall clock of that moment.
    pub fn heard(&self) -> Option<Wall> {
        self.row.heard
    }

    /// When the run that is under way began.
    pub fn started(&self) -> Option<Wall> {
        self.row.started.map(|(_, wall)| wall)
    }

    /// When it is missing, or its run too long, if nothing is heard until then; `None` while its alert fires.
    pub fn due(&self) -> Option<Wall> {
        let due = self.row.due();
        (due != At::NEVER).then(|| due.wall(self.machine.state.wall_offset()))
    }

    /// How often it is to be heard, in milliseconds.
    pub fn period_ms(&self) -> u64 {
        self.row.rhythm.patience.period_ms
    }

    /// How much later it may be, in milliseconds.
    pub fn grace_ms(&self) -> u64 {
        self.row.rhythm.patience.grace_ms
    }

    /// The longest that a run may take, in milliseconds, if there is a limit.
    pub fn max_duration_ms(&self) -> Option<u64> {
        self.row.rhythm.max_duration_ms
    }

    /// The labels of its alert.
    pub fn labels(&self) -> BTreeMap<SmolStr, SmolStr> {
        let config = self.machine.state.config();
        let spec = self.row.spec.and_then(|place| config?.heartbeats.get(place as usize));
        super::own::labels(config, &own_alert(&self.row.name, spec, String::new()))
    }

    /// The name of its alert, whether that fires or not.
    pub fn alert(&self) -> Fingerprint {
        Fingerprint::of(self.labels().iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Whether the labels of its alert match all of these.
    pub fn matches(&self, matchers: &[Compiled]) -> bool {
        if matchers.is_empty() {
            return true;
        }
        let (labels, none) = (self.labels(), Severities::default());
        let severities = self.machine.state.config().map_or(&none, |config| &config.severities);
        let value = |name: &str| labels.get(name).map_or("", SmolStr::as_str);
        matchers.iter().all(|m| m.matches(value(&m.matcher.name), severities))
    }
}

/// The first line of words, cut.
fn start_of(words: &str) -> &str {
    let line = words.lines().next().unwrap_or("");
    let end = (0..=SAID_BYTES_MAX.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    &line[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_words_is_one_line_and_ends_at_a_character() {
        assert_eq!(start_of("a\nb"), "a");
        assert_eq!(start_of(""), "");
        let long = "ä".repeat(SAID_BYTES_MAX);
        assert_eq!(start_of(&long).len(), SAID_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(start_of(&odd).len(), SAID_BYTES_MAX - 1);
    }
}
