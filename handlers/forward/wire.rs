//! What one server sends another, and what that one answers: JSON, compressed by zstd. Times are milliseconds since 1970, as
//! short as they can be said.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Where a server takes what others forward.
pub const PATH: &str = "/api/v1/forward";
/// Where a server hears how others are.
pub const CHECK_IN: &str = "/api/v1/checkin";
/// The media type of a batch.
pub const CONTENT_TYPE: &str = "application/json";
/// The content coding of a batch (RFC 8878).
pub const CODING: &str = "zstd";
/// Most alerts that one request carries.
pub const ALERTS_MAX: usize = 500;
/// Most servers that an alert goes through.
pub const HOPS_MAX: usize = 16;
/// How hard batches are compressed: more gains a percent and takes twice as long.
const LEVEL: i32 = 3;

/// A server, as it names itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: SmolStr,
    /// Names its journal, in 16 hex digits: another one means that it forgot what it had.
    pub journal: SmolStr,
    /// The version of its program.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub version: SmolStr,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// By whom.
    pub from: Server,
    /// The alerts. Several may be of one, the earlier first.
    pub alerts: Vec<Alert>,
}

/// One alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity.
    pub labels: BTreeMap<SmolStr, SmolStr>,
    /// Its text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<SmolStr, SmolStr>,
    /// Where it came from, as Alertmanager's `generatorURL`.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub generator_url: SmolStr,
    /// When it began.
    pub starts_at: i64,
    /// When it ended; none while it fires, and then it fires until its end comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<i64>,
    /// The sender's name of this occurrence, where it merely happened: no end of it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<SmolStr>,
    /// The place at which the server that sends it accepted it.
    pub position: SmolStr,
    /// When that one handed it on.
    pub at: i64,
    /// Where it was accepted first, if not there; see [`ams2_core::trail::ORIGIN`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<SmolStr>,
    /// The servers on its way before that one; see [`ams2_core::trail::TRAIL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<SmolStr>,
}

/// What is answered once all that was taken is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// By whom.
    pub server: Server,
    /// How many alerts are kept.
    pub accepted: u64,
    /// Alerts that it does not take, and never will.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Word>,
    /// Alerts that have been there before: the loop ends here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Word>,
}

/// Something about one alert of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// Why, or the loop.
    pub detail: String,
}

impl Batch {
    /// The bytes that are sent.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        zstd::bulk::compress(&json, LEVEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure of the issue is measured with the whole program; this is what a change of the format would break first.
    #[test]
    fn a_hundred_similar_alerts_take_some_twenty_bytes_each() {
        let alert = |number: usize| Alert {
            labels: [
                ("computer", format!("ws-{number:04}")),
                ("event", "Virus Found".into()),
                ("severity", "major".into()),
            ]
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
            annotations: [("summary".into(), format!("EICAR in C:\\Users\\u{number}\\a.exe").into())].into(),
            starts_at: 1_795_515_302_000 + 137 * number as i64,
            position: (1_000 + 3 * number).to_string().into(),
            at: 1_795_515_303_000 + 137 * number as i64,
            ..Alert::default()
        };
        let from =
            Server { name: "branch".into(), journal: "0123456789abcdef".into(), version: "0.1.0".into() };
        let batch = Batch { from, alerts: (0..100).map(alert).collect() };
        let bytes = batch.encode().expect("plain data encodes");
        assert!(bytes.len() < 100 * 30, "{} bytes", bytes.len());
        let json = zstd::bulk::decompress(&bytes, 1 << 20).expect("what was compressed");
        assert_eq!(serde_json::from_slice::<Batch>(&json).expect("what was encoded"), batch);
    }
}
