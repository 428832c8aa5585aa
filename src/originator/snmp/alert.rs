//! What a notification says, as an alert: by the rules of the config, by those that come with ams2, or as it is.

use std::borrow::Cow;

use ams2_core::{AlertBatch, AlertRef, BatchBuilder, batch::AlertTimes};
use ams2_handlers::text::{cut, one_line};

use super::{
    SnmpSettings, builtin,
    fields::{Came, TrapFields},
    message::{Notification, ParseError},
    value::hex,
};
use crate::originator::{
    mapping::{Bounds, Mapped, copy},
    syslog::AUTHENTICATED,
};

/// The event of what has no name.
const EVENT: &str = "SNMP Trap";
/// The rank of what nobody has a rule for: somebody thought that it should be heard.
const SEVERITY: &str = "warning";
/// Longest summary of what no rule takes, in bytes: all of it is in `varbinds`.
const SUMMARY_BYTES_MAX: usize = 1 << 10;
/// What an alert has beside its longest annotation, in bytes, names and all.
const BESIDE_BYTES: usize = 6 << 10;

/// The alerts of a notification; `None` when a rule says that it is of no interest. Every one that has no id of its own gets `id`.
pub fn alerts(
    trap: &TrapFields<'_>,
    settings: &SnmpSettings,
    bounds: Bounds<'_>,
    id: &str,
) -> Option<AlertBatch> {
    let mut made = BatchBuilder::default();
    // What a rule may rely on is there even where something could not be read.
    for mapping in [&settings.mapping, builtin()] {
        if mapping.rules.is_empty() {
            continue;
        }
        let mut by_rule = BatchBuilder::default();
        match mapping.map(trap, bounds, &mut by_rule) {
            Mapped::Dropped => return None,
            Mapped::Alerts(1..) => {
                let by_rule = by_rule.finish();
                by_rule.iter().for_each(|alert| sealed(alert, trap, bounds, id, &mut made));
                return Some(made.finish());
            }
            // No rule takes it, or nothing comes of it.
            _ => {}
        }
    }
    default_alert(trap, bounds, id, &mut made);
    Some(made.finish())
}

/// The alert of what no rule takes. It happened once: its time is that of its arrival.
fn default_alert(trap: &TrapFields<'_>, bounds: Bounds<'_>, id: &str, batch: &mut BatchBuilder) {
    let (notification, came) = (trap.notification, &trap.came);
    let name = trap.names.of_trap(&notification.trap);
    if let Some(agent) = trap.agent() {
        batch.label("agent", &agent);
    }
    who(came, batch);
    batch.label("computer", came.peer);
    batch.label("event", name.unwrap_or(EVENT));
    if let Some(error) = notification.parse_error {
        batch.label("parse_error", error.word());
    }
    batch.label("severity", SEVERITY);
    batch.label("trap", trap.trap);

    let line = trap.line();
    let values: Vec<Cow<'_, str>> = notification.varbinds.iter().map(|varbind| varbind.text()).collect();
    let summary = format!("{}: {}", name.unwrap_or(trap.trap), one_line(&values.join(", ")));
    let summary = if values.is_empty() { name.unwrap_or(trap.trap) } else { &summary };
    batch.annotation("summary", &cut(summary, SUMMARY_BYTES_MAX));
    // The raw message and the varbinds say the same: each has half of the room.
    let room = bounds.limits.alert_bytes.saturating_sub(BESIDE_BYTES).max(1 << 10) / 2;
    if !line.is_empty() {
        batch.annotation("varbinds", &cut(&line, room));
    }
    for (name, value) in marks(trap, room) {
        batch.annotation(name, &value);
    }
    let finished = batch.finish_alert(AlertTimes::default(), Some(id), None);
    finished.expect("it has labels, each once, and no times");
}

/// The alert of what is somebody's, and cannot be read at all.
pub fn unread(came: &Came<'_>, bounds: Bounds<'_>, id: &str) -> AlertBatch {
    let mut batch = BatchBuilder::default();
    who(came, &mut batch);
    batch.label("computer", came.peer);
    batch.label("event", EVENT);
    batch.label("parse_error", ParseError::Pdu.word());
    batch.label("severity", SEVERITY);
    batch.annotation("summary", "a notification that cannot be read");
    let room = bounds.limits.alert_bytes.saturating_sub(BESIDE_BYTES).max(1 << 10);
    batch.annotation("raw", &cut(&hex(came.raw), room));
    let finished = batch.finish_alert(AlertTimes::default(), Some(id), None);
    finished.expect("it has labels, each once, and no times");
    batch.finish()
}

/// Says whether a digest vouches for the sender.
fn who(came: &Came<'_>, batch: &mut BatchBuilder) {
    if let Some(is) = came.is_authenticated {
        batch.label(AUTHENTICATED, if is { "true" } else { "false" });
    }
}

/// Annotations that every alert of a notification has, whatever rules say.
fn marks(trap: &TrapFields<'_>, bytes_max: usize) -> Vec<(&'static str, Cow<'static, str>)> {
    let mut marks: Vec<(&'static str, Cow<'static, str>)> = Vec::new();
    if trap.notification.parse_error.is_some() {
        marks.push(("raw", cut(&hex(trap.came.raw), bytes_max).into_owned().into()));
    }
    if trap.came.is_first {
        marks.push(("replay_risk", "true".into()));
    }
    marks
}

/// Adds an alert that a rule made, with what no rule may leave out or say otherwise.
fn sealed(
    alert: AlertRef<'_>,
    trap: &TrapFields<'_>,
    bounds: Bounds<'_>,
    id: &str,
    batch: &mut BatchBuilder,
) {
    let is_plain = trap.came.is_authenticated.is_none()
        && alert.label(AUTHENTICATED).is_empty()
        && trap.notification.parse_error.is_none()
        && !trap.came.is_first;
    if is_plain && alert.id().is_some() {
        return copy(alert, batch);
    }
    let pairs = alert.labels().chain(alert.annotations());
    let bytes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
    let marks = marks(trap, bounds.limits.alert_bytes.saturating_sub(bytes));
    for (name, value) in alert.labels().filter(|(name, _)| *name != AUTHENTICATED) {
        batch.label(name, value);
    }
    who(&trap.came, batch);
    for (name, value) in alert.annotations().filter(|(name, _)| marks.iter().all(|(mark, _)| mark != name)) {
        batch.annotation(name, value);
    }
    for (name, value) in &marks {
        batch.annotation(name, value);
    }
    let said = |(name, _): (&str, &str)| name == crate::originator::mapping::PARSE_ERROR;
    if let Some(error) = trap.notification.parse_error
        && !alert.annotations().any(said)
    {
        batch.annotation(crate::originator::mapping::PARSE_ERROR, error.word());
    }
    if let Some(key) = alert.key() {
        batch.key(key);
    }
    let id = alert.id().unwrap_or(id);
    if batch.finish_alert(alert.times(), Some(id), alert.generator_url()).is_err() {
        // The only label that it had is ours to say.
        default_alert(trap, bounds, id, batch);
    }
}

impl<'m> TrapFields<'m> {
    /// A notification that came so.
    pub fn new(
        notification: &'m Notification<'m>,
        came: Came<'m>,
        names: &'m super::names::Names,
        trap: &'m str,
    ) -> TrapFields<'m> {
        TrapFields { notification, came, names, trap }
    }
}
