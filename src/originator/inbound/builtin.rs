//! The hooks that come with ams2: the files of `config/inbound`.

use super::Hook;

/// Each with its file, in the order of the documentation.
const FILES: [(&str, &str); 5] = [
    ("alertmanager", include_str!("../../../config/inbound/alertmanager.yaml")),
    ("grafana", include_str!("../../../config/inbound/grafana.yaml")),
    ("pagerduty", include_str!("../../../config/inbound/pagerduty.yaml")),
    ("opsgenie", include_str!("../../../config/inbound/opsgenie.yaml")),
    ("json", include_str!("../../../config/inbound/json.yaml")),
];

/// Their names.
pub const NAMES: [&str; FILES.len()] = [FILES[0].0, FILES[1].0, FILES[2].0, FILES[3].0, FILES[4].0];

/// The hook of this name that comes with ams2.
pub fn builtin(name: &str) -> Option<Hook> {
    let (name, text) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(crate::config::hook(name, text).expect("a test reads every file"))
}

/// Every file with its name, for tests.
#[cfg(test)]
pub(super) fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.into_iter()
}
