//! Own alerts: what ams2 says about itself, through the same path as every alert.
//!
//! Numbers and severities are those of the AMS² event table where it has them. An own alert about a delivery
//! skips the action that failed, and its own failure raises no other.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
    vec,
    vec::Vec,
};
use smol_str::{SmolStr, ToSmolStr};

use super::{
    Machine, Phase,
    alerts::{RowLabels, Text},
    clients::{
        CLIENT_ENROLLED, CLIENT_MISSING, CLIENT_REMOVED, CLIENT_REPLACED, ROAMING_ADDED, ROAMING_DELETED,
        TOO_MANY_CLIENTS,
    },
    deliveries::start_of,
    heartbeats::HEARTBEAT_MISSING,
    routing::Labels,
    state::{OwnAlert, OwnText, Subject},
};
use crate::{
    BatchBuilder, Config, Severity, Wall,
    batch::AlertTimes,
    effect::Noted,
    input::{OwnEvent, Position},
};

/// The client name of own alerts, and the value of [`OWN_LABEL`] that marks them. No client may have the one or send the
/// other: an alert is its labels, so whoever sent those of an own alert could end it or change what it says.
pub const OWN_CLIENT: &str = "ams2";
/// The label that marks own alerts.
pub const OWN_LABEL: &str = "source";

/// Every kind of own alert: its event, its number in the AMS² event table if it has one there, its severity.
pub const OWN_EVENTS: [(&str, &str, Severity); 21] = [
    ("Access Denied", "33", Severity::Minor),
    (ACTION_FAILING, "", Severity::Major),
    (CLIENT_ENROLLED, "", Severity::Info),
    (CLIENT_MISSING, "", Severity::Minor),
    (CLIENT_REPLACED, "", Severity::Warning),
    ("Clock Jumped", "", Severity::Warning),
    ("Configuration Changed", "12", Severity::Info),
    (CONFIG_REFUSED, "", Severity::Minor),
    (CONFIG_REFUSED, "", Severity::Major),
    (DELIVERY_FAILED, "", Severity::Major),
    (DISK_NEARLY_FULL, "", Severity::Major),
    (HEARTBEAT_MISSING, "", Severity::Major),
    ("Journal Damaged", "", Severity::Critical),
    (LOG_FORWARDING_ERROR, "34", Severity::Major),
    (LOG_FORWARDING_ERROR, "34", Severity::Warning),
    (CLIENT_REMOVED, "25", Severity::Warning),
    (ROAMING_ADDED, "28", Severity::Info),
    (ROAMING_DELETED, "29", Severity::Info),
    (SHUTDOWN, "13", Severity::Minor),
    ("Startup", "14", Severity::Info),
    (TOO_MANY_CLIENTS, "", Severity::Warning),
];

/// Units of work that raising an alert takes.
pub(super) const RAISE_COST: i64 = 4;

/// The event that lasts while its action fails. The words of Alertmanager's users for it are
/// `AlertmanagerFailedToSendAlerts`, which they watch for from outside.
const ACTION_FAILING: &str = "Action Failing";
/// How long it lasts behind the next attempt, in milliseconds.
const FAILING_KEPT_MS: u64 = 600_000;
/// The event of deliveries that are dead letters. Neither may cause itself or the other.
const DELIVERY_FAILED: &str = "Delivery Failed";
/// The event of alerts that did not reach another server of ours.
pub const LOG_FORWARDING_ERROR: &str = "Log Forwarding Error";
/// The event that lasts until the shell says otherwise.
const DISK_NEARLY_FULL: &str = "Disk Nearly Full";
/// Events that last until their end is said; the others happened.
const LASTING: [&str; 5] =
    [ACTION_FAILING, CLIENT_MISSING, DISK_NEARLY_FULL, HEARTBEAT_MISSING, TOO_MANY_CLIENTS];
/// The event that a start ends: number 14 clears number 13.
pub(super) const SHUTDOWN: &str = "Shutdown";
/// The event that a config ends which is in force.
pub(super) const CONFIG_REFUSED: &str = "Configuration Refused";
/// What is said then.
pub(super) const CONFIG_ACCEPTED: &str = "a configuration was accepted";

impl OwnAlert {
    /// Something that happened: no action is excluded and nothing is resolved.
    pub(super) fn new(
        event: &'static str,
        event_id: &'static str,
        severity: Severity,
        summary: String,
    ) -> OwnAlert {
        OwnAlert {
            event,
            event_id,
            severity,
            labels: Vec::new(),
            summary,
            resolved: false,
            until: None,
            about: None,
            ends: None,
            output: String::new(),
            happened: false,
            subject: None,
        }
    }

    /// The end of the alert in this row.
    pub(super) fn end_of(event: &'static str, alert: u32, summary: String) -> OwnAlert {
        let own = OwnAlert::new(event, "", Severity::Info, summary);
        OwnAlert { resolved: true, ends: Some(alert), ..own }
    }
}

/// What an own alert is: what the config says of all of them, what it is by itself, and what is said of this one, the later
/// before the earlier. But for the mark of own alerts, which nothing changes.
pub(super) fn labels(config: Option<&Config>, own: &OwnAlert) -> BTreeMap<SmolStr, SmolStr> {
    let mut labels = config.map(|config| config.own_labels.clone()).unwrap_or_default();
    let fixed = [("event", own.event), ("event_id", own.event_id), ("severity", own.severity.word())];
    labels.extend(fixed.map(|(name, value)| (SmolStr::new_static(name), SmolStr::new_static(value))));
    labels.extend(own.labels.iter().cloned());
    labels.insert(SmolStr::new_static(OWN_LABEL), SmolStr::new_static(OWN_CLIENT));
    // An empty value is the same as no label.
    labels.retain(|_, value| !value.is_empty());
    labels
}

impl Machine {
    /// Something that only the shell could see. The end of what lasts is that of every own alert that says so, whatever other
    /// labels the config gave them: a few rows at a time.
    pub(super) fn own_event(&mut self, event: &OwnEvent, item: usize, left: &mut i64) -> Phase {
        if let OwnEvent::DiskNearlyFull { resolved: true, .. } = event {
            let Some(rows) = self.alert_rows(item, left) else { return Phase::Own };
            let own = self.own_alert(event);
            let fires: Vec<u32> = rows.clone().filter(|row| self.is_own(*row, DISK_NEARLY_FULL)).collect();
            self.to_raise.extend(fires.into_iter().map(|row| OwnAlert { ends: Some(row), ..own.clone() }));
            return Phase::Items(rows.end as usize);
        }
        if *event == OwnEvent::ConfigAccepted {
            self.end_own(CONFIG_REFUSED, CONFIG_ACCEPTED);
        } else {
            self.to_raise.push(self.own_alert(event));
        }
        Phase::Own
    }

    /// Whether the disk is nearly full, as far as anybody was told.
    pub fn says_disk_nearly_full(&self) -> bool {
        (0..self.state.alerts.bound()).any(|row| self.is_own(row, DISK_NEARLY_FULL))
    }

    /// Whether anybody was told that a configuration was refused, and not yet of its end.
    pub fn says_config_refused(&self) -> bool {
        !self.own_rows(CONFIG_REFUSED).is_empty()
    }

    /// Whether the row is that of an own alert of this event that fires.
    fn is_own(&self, row: u32, event: &str) -> bool {
        self.is_own_about(row, "event", event)
    }

    fn own_alert(&self, event: &OwnEvent) -> OwnAlert {
        match event {
            OwnEvent::AccessDenied { from, what } => OwnAlert {
                labels: vec![("client".into(), from.clone())],
                ..OwnAlert::new("Access Denied", "33", Severity::Minor, format!("{from} was refused: {what}"))
            },
            OwnEvent::DiskNearlyFull { resolved, free_bytes } => OwnAlert {
                resolved: *resolved,
                until: Some(Wall(i64::MAX)),
                ..OwnAlert::new(
                    DISK_NEARLY_FULL,
                    "",
                    Severity::Major,
                    format!(
                        "{free_bytes} bytes are free on the disk of the data folder; clients are refused when it is full"
                    ),
                )
            },
            OwnEvent::ConfigRefused { why } => OwnAlert::new(
                CONFIG_REFUSED,
                "",
                Severity::Minor,
                format!("a new configuration was refused, the old one stays: {why}"),
            ),
            OwnEvent::ConfigAccepted => {
                OwnAlert::new(CONFIG_REFUSED, "", Severity::Minor, CONFIG_ACCEPTED.into())
            }
            OwnEvent::JournalDamaged { what } => OwnAlert::new(
                "Journal Damaged",
                "",
                Severity::Critical,
                format!("damage was set aside: {what}"),
            ),
        }
    }

    /// The rows of the own alerts of this event that fire.
    fn own_rows(&self, event: &str) -> BTreeSet<u32> {
        // The text of each own alert is here, and nobody else's.
        let texts = self.state.own_texts.values().filter_map(|text| text.batch.alert(0));
        let named = texts.filter(|alert| alert.label("event") == event);
        let rows = named.filter_map(|alert| self.find_alert(self.identity(alert.labels()), &alert));
        rows.filter(|row| self.is_own(*row, event)).collect()
    }

    /// What this record says is over: the own alerts of this event that fire.
    pub(super) fn end_own(&mut self, event: &'static str, summary: &str) {
        self.end_rows(event, self.own_rows(event), summary);
    }

    fn end_rows(&mut self, event: &'static str, rows: impl IntoIterator<Item = u32>, summary: &str) {
        let ends = rows.into_iter().map(|row| OwnAlert::end_of(event, row, summary.into()));
        self.to_raise.extend(ends);
    }

    /// Raises what this record gave cause for.
    pub(super) fn raise_own(&mut self) {
        for (action, (count, last)) in core::mem::take(&mut self.given_up) {
            let id = &self.state.actions[action as usize].spec.id;
            let summary = format!("{count} deliveries by {id} are dead letters now; last: {last}");
            let own = OwnAlert::new(DELIVERY_FAILED, "", Severity::Major, summary);
            self.to_raise.push(self.about_action(action, own));
        }
        for own in core::mem::take(&mut self.to_raise) {
            self.raise(own);
        }
    }

    /// What is said of an action by all others.
    fn about_action(&self, action: u32, own: OwnAlert) -> OwnAlert {
        let id = &self.state.actions[action as usize].spec.id;
        let labels = vec![("receiver".into(), id.receiver.clone()), ("action".into(), id.to_smolstr())];
        OwnAlert { labels, about: Some(action), ..own }
    }

    /// An action has failed for long, now with this delivery. Each attempt that fails says so again, and when there are no more of
    /// them, since nothing waits, it is over. What tells of other actions that fail gives no cause for the first word.
    pub(super) fn say_failing(&mut self, action: u32, delivery: u32, reason: &str) {
        if self.is_about_delivery(delivery) && self.failing_rows(|about| about == action).is_empty() {
            return;
        }
        let row = &self.state.actions[action as usize];
        let (id, pending, last) = (&row.spec.id, row.pending, start_of(reason));
        let summary = format!("{id} has failed for minutes, {pending} deliveries wait; last: {last}");
        let until = row.probe_at.plus(FAILING_KEPT_MS).wall(self.state.wall_offset());
        let own = OwnAlert::new(ACTION_FAILING, "", Severity::Major, summary);
        self.to_raise.push(self.about_action(action, OwnAlert { until: Some(until), ..own }));
    }

    /// These actions fail no more, or are gone.
    pub(super) fn end_failing(&mut self, rows: Vec<u32>, summary: &str) {
        self.end_rows(ACTION_FAILING, rows, summary);
    }

    /// The alerts that say of such actions that they fail: one of each, or as many as there were other labels for own alerts.
    pub(super) fn failing_rows(&self, such: impl Fn(u32) -> bool) -> Vec<u32> {
        let about = self.state.about.iter().filter(|(_, action)| such(**action));
        about.map(|(row, _)| *row).filter(|row| self.is_own(*row, ACTION_FAILING)).collect()
    }

    pub(super) fn raise(&mut self, own: OwnAlert) {
        if self.raised == u16::MAX - 1 {
            // A position has no more room; no record gives cause for so many.
            return;
        }
        let position = Position::raised(self.seq, self.raised);
        let mut builder = BatchBuilder::default();
        match own.ends {
            Some(row) => self.labels_of(row, &mut builder),
            None => {
                let labels = labels(self.state.config(), &own);
                labels.iter().for_each(|(name, value)| builder.label(name, value));
            }
        }
        builder.annotation("summary", &own.summary);
        if !own.output.is_empty() {
            builder.annotation("output", &own.output);
        }
        // What lasts ends when that is said; the rest happened, and has a name of its own.
        let lasts = LASTING.contains(&own.event);
        let ends_at = if own.resolved { Some(self.now.wall(self.state.wall_offset())) } else { own.until };
        let id = (!lasts || own.happened).then(|| format!("{position}"));
        let built = builder.finish_alert(AlertTimes { starts_at: None, ends_at }, id.as_deref(), None);
        if built.is_err() {
            // The labels are ours and always valid: sorted, named, not empty.
            return;
        }
        self.raised = self.raised.saturating_add(1);
        let batch = Arc::new(builder.finish());
        self.state.own_texts.insert(position, OwnText { batch: batch.clone(), uses: 1 });
        if let Some(alert) = batch.alert(0) {
            self.accept(OWN_CLIENT, alert, position, own.about);
            if let Some(subject) = own.subject {
                let row = self.find_alert(self.identity(alert.labels()), &alert);
                match subject {
                    Subject::Heartbeat(number) => self.state.heartbeats.note_alert(number, row),
                    Subject::Client(number) => self.state.clients.note_alert(number, row),
                }
            }
        }
        self.own_text_uses(position, -1);
    }

    /// Whether the row is that of an own alert that fires, about what this label names.
    pub(super) fn is_own_about(&self, row: u32, label: &str, name: &str) -> bool {
        self.state.alerts.find(row).is_some_and(|alert| {
            let labels = RowLabels { strings: &self.state.strings, labels: &alert.labels };
            alert.firing && self.state.strings.text(alert.client) == OWN_CLIENT && labels.value(label) == name
        })
    }

    /// An alert is its labels: where it is to have others than in this row, another says the same from now on.
    pub(super) fn move_own_alert(&mut self, row: u32, wanted: OwnAlert, left: &mut i64) {
        let labels = labels(self.state.config(), &wanted);
        let (alert, strings) = (&self.state.alerts[row], &self.state.strings);
        let known = alert.labels.iter().map(|(name, value)| (strings.text(*name), strings.text(*value)));
        if known.eq(labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
            return;
        }
        let texts: Vec<String> = Text::strings(&alert.text).skip(1).map(Into::into).collect();
        let text = |wanted: &str| {
            let mut pairs = texts.chunks_exact(2).filter(|pair| pair[0] == wanted);
            pairs.next().map(|pair| pair[1].clone()).unwrap_or_default()
        };
        let (summary, output) = (text("summary"), text("output"));
        *left -= 2 * RAISE_COST;
        self.raise(OwnAlert::end_of(wanted.event, row, "its labels are others now".into()));
        self.raise(OwnAlert { summary, output, ..wanted });
    }

    fn labels_of(&self, row: u32, builder: &mut BatchBuilder) {
        for (name, value) in &self.state.alerts[row].labels {
            builder.label(self.state.strings.text(*name), self.state.strings.text(*value));
        }
    }

    /// Counts who needs the text of an own alert; the last one lets it go.
    pub(super) fn own_text_uses(&mut self, position: Position, by: i32) {
        if let Some(text) = self.state.own_texts.get_mut(&position) {
            text.uses = text.uses.saturating_add_signed(by);
            if text.uses == 0 {
                self.state.own_texts.remove(&position);
            }
        }
    }

    /// The same for all own alerts that a notification tells of.
    pub(super) fn own_texts_of(&mut self, notification: u32, by: i32) {
        if self.state.own_texts.is_empty() {
            return;
        }
        let alerts = self.state.notifications[notification].alerts();
        let raised: Vec<Position> =
            alerts.map(|noted| noted.position).filter(|position| position.is_raised()).collect();
        for position in raised {
            self.own_text_uses(position, by);
        }
    }

    /// Whether it is news in a delivery that an action fails or failed: its own failure must not raise another, or two actions that
    /// fail would tell each other of it for ever.
    pub(super) fn is_about_delivery(&self, delivery: u32) -> bool {
        let mut news = self.noted_in(delivery).filter(Noted::is_new);
        news.any(|noted| [DELIVERY_FAILED, ACTION_FAILING].iter().any(|event| self.notes_own(&noted, event)))
    }

    /// Whether a delivery tells of an own alert of this event.
    pub(super) fn tells_own(&self, delivery: u32, event: &str) -> bool {
        self.noted_in(delivery).any(|noted| self.notes_own(&noted, event))
    }

    fn noted_in(&self, delivery: u32) -> impl Iterator<Item = Noted> {
        self.state.notifications[self.state.deliveries[delivery].notification].alerts()
    }

    fn notes_own(&self, noted: &Noted, event: &str) -> bool {
        let text = self.state.own_texts.get(&noted.position);
        text.and_then(|text| text.batch.alert(0)).is_some_and(|alert| alert.label("event") == event)
    }
}
