//! Alertmanager's JSON shapes.

use std::collections::BTreeMap;

use ams2_core::{
    Wall,
    machine::{AlertView, SilenceView},
    matcher::Op,
    silence::Silence,
};
use serde::{Serialize, ser::SerializeMap};
use smol_str::SmolStr;

/// `gettableAlert`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alert<'a> {
    annotations: Pairs<'a>,
    ends_at: String,
    fingerprint: String,
    receivers: Vec<Named>,
    starts_at: String,
    status: AlertStatus,
    updated_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
    labels: Pairs<'a>,
}

/// Where an alert stands for those who would be told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertStatus {
    pub inhibited_by: Vec<String>,
    pub muted_by: Vec<SmolStr>,
    pub silenced_by: Vec<String>,
    pub state: &'static str,
}

/// Something with a name.
#[derive(Serialize)]
pub(super) struct Named {
    pub name: SmolStr,
}

/// Labels or annotations.
pub(super) struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl Serialize for Pairs<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl AlertStatus {
    /// Where the alert stands now. `muted_by` is the group's, and empty where no group is asked about.
    pub fn of(alert: &AlertView<'_>, muted_by: &[SmolStr], now: Wall) -> AlertStatus {
        let silenced_by: Vec<String> = alert.silenced_by(now).iter().map(ToString::to_string).collect();
        let inhibited_by: Vec<String> = alert.inhibited_by().iter().map(ToString::to_string).collect();
        let suppressed = !silenced_by.is_empty() || !inhibited_by.is_empty();
        let state = if suppressed { "suppressed" } else { "active" };
        AlertStatus { inhibited_by, muted_by: muted_by.to_vec(), silenced_by, state }
    }
}

impl<'a> Alert<'a> {
    pub fn of(alert: &AlertView<'a>, status: AlertStatus) -> Alert<'a> {
        Alert {
            annotations: Pairs(alert.annotations().collect()),
            ends_at: time(alert.ends_at()),
            fingerprint: alert.fingerprint().to_string(),
            receivers: alert.receivers().into_iter().map(|name| Named { name }).collect(),
            starts_at: time(alert.starts_at()),
            status,
            updated_at: time(alert.updated_at()),
            generator_url: alert.generator_url(),
            labels: Pairs(alert.labels().collect()),
        }
    }
}

/// `gettableSilence`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownSilence {
    id: String,
    status: SilenceStatus,
    updated_at: String,
    comment: String,
    created_by: SmolStr,
    ends_at: String,
    matchers: Vec<ShownMatcher>,
    starts_at: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<SmolStr, String>,
}

#[derive(Serialize)]
struct SilenceStatus {
    state: &'static str,
}

/// A matcher as the API has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownMatcher {
    is_equal: bool,
    is_regex: bool,
    name: SmolStr,
    value: SmolStr,
}

impl ShownSilence {
    pub fn of(view: &SilenceView<'_>) -> ShownSilence {
        let Silence { id, starts, ends, updated, by, comment, annotations, .. } = view.silence;
        ShownSilence {
            id: id.to_string(),
            status: SilenceStatus { state: view.state.word() },
            updated_at: time(*updated),
            comment: comment.clone(),
            created_by: by.clone(),
            ends_at: time(*ends),
            matchers: shown_matchers(view.silence),
            starts_at: time(*starts),
            annotations: annotations.clone(),
        }
    }
}

/// The matchers of a silence. There is no shape for order operators: those are shown in the nearest form.
fn shown_matchers(silence: &Silence) -> Vec<ShownMatcher> {
    let shown = |matcher: &ams2_core::matcher::Matcher| {
        let matcher = super::export::nearest_form(matcher).unwrap_or_else(|| matcher.clone());
        ShownMatcher {
            is_equal: matches!(matcher.op, Op::Equal | Op::Regex),
            is_regex: matches!(matcher.op, Op::Regex | Op::NotRegex),
            name: matcher.name,
            value: matcher.value,
        }
    };
    silence.matchers.iter().map(shown).collect()
}

/// The last moment that RFC 3339 can write: an alert without an end never ends.
const LATEST_MS: i64 = 253_402_207_200_000;

/// RFC 3339 in UTC with milliseconds.
pub(super) fn time(wall: Wall) -> String {
    crate::console::views::time(Wall(wall.0.clamp(0, LATEST_MS)))
}
