//! The files of `handlers/targets`: a chat or incident service each, as data. `docs/webhook.md` says how to write one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::escape::Escape;

/// One service as its file describes it.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the documentation's table and the tests are made from the rest")
)]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Its key in the configuration.
    pub(crate) name: String,
    /// What it does, in one line.
    pub(crate) summary: String,
    /// The service's own documentation that the file follows.
    pub(crate) docs: Vec<String>,
    /// Settings that build, as YAML, each with its key.
    pub(crate) config: Vec<String>,
    pub(crate) settings: Vec<Setting>,
    /// Sets of settings, of which exactly one must be given.
    #[serde(default)]
    pub(crate) one_of: Vec<Vec<String>>,
    /// How alert text is escaped in the admin's templates and in their defaults.
    #[serde(default)]
    pub(crate) escape: Escape,
    /// The same when the setting of this name is given: markup that an admin asks for.
    #[serde(default)]
    pub(crate) escape_with: BTreeMap<String, Escape>,
    /// Longest `brief`, in characters.
    #[serde(default = "brief_chars")]
    pub(crate) brief_chars: usize,
    /// Largest body that the service takes, in bytes.
    pub(crate) bytes_max: usize,
    /// Most alerts that a message shows, unless the action says otherwise.
    #[serde(default = "max_alerts")]
    pub(crate) max_alerts: u32,
    #[serde(default = "post")]
    pub(crate) method: String,
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// A tree whose texts are templates.
    pub(crate) body: Json,
    /// How the tree is sent.
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default)]
    pub(crate) answer: Rules,
    /// What the group's next message gets back: names, and where the values stand in the answer (JSON pointers). What is
    /// there already is kept, and all of it goes when the group has ended.
    #[serde(default)]
    pub(crate) memo: BTreeMap<String, String>,
    /// Whether a message is about one group, which the service knows by its key: opens it, or closes it. No digest can be told.
    #[serde(default)]
    pub(crate) one_group: bool,
    /// What resolving does, for people.
    pub(crate) resolve: String,
    /// Answers of the service, from its documentation, and what becomes of a delivery with each.
    pub(crate) examples: Vec<Example>,
}

fn brief_chars() -> usize {
    3000
}

fn max_alerts() -> u32 {
    100
}

fn post() -> String {
    "POST".into()
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`; the tree is one map of texts.
    Form,
}

/// One setting.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    pub(crate) name: String,
    #[serde(rename = "type", default)]
    pub(crate) kind: Type,
    #[serde(default)]
    pub(crate) required: bool,
    /// Whether it comes from a file (`NAME_file`) or the environment alone.
    #[serde(default)]
    pub(crate) secret: bool,
    pub(crate) default: Option<Json>,
    /// The only texts that it may have.
    #[serde(default)]
    pub(crate) choices: Vec<String>,
    pub(crate) description: String,
}

/// What a setting may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Type {
    /// As it stands.
    #[default]
    Text,
    /// A template.
    Template,
    /// http:// or https://, without a slash at the end.
    Url,
    Flag,
    Number,
    /// With its unit; the file sees seconds.
    Duration,
    /// A list.
    Texts,
    /// Names, and a template for the value of each.
    Templates,
}

impl Type {
    /// Whether it is words, which a delivery keeps when the config changes.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Type::Template | Type::Templates)
    }
}

/// What the service's answers mean, beyond their status.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rules {
    /// What a 2xx answer must have to count as done.
    pub(crate) ok: Option<Is>,
    /// A 2xx answer that is exactly this text is done, too.
    pub(crate) plain: Option<String>,
    /// Where the service says what is wrong.
    pub(crate) error: Option<String>,
    /// What stands there when it may be tried again.
    pub(crate) retry: Vec<String>,
    /// Where a status stands that counts like one of HTTP.
    pub(crate) code: Option<String>,
    /// Where it says after how many seconds.
    pub(crate) retry_after: Option<String>,
    /// The same in milliseconds.
    pub(crate) retry_after_ms: Option<String>,
    /// Words in a 2xx answer after which it is tried again.
    pub(crate) retry_words: Vec<String>,
    /// Words in a 2xx answer that refuse.
    pub(crate) refused_words: Vec<String>,
    /// More statuses after which it is tried again.
    pub(crate) retry_status: Vec<u16>,
}

/// A place in an answer, and what must stand there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Is {
    pub(crate) pointer: String,
    pub(crate) is: Json,
}

/// An answer of the service.
#[cfg_attr(not(test), expect(dead_code, reason = "the tests play them"))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: String,
    pub(crate) means: Means,
    /// After how many seconds it is tried again.
    pub(crate) after: Option<u64>,
    /// What the next message gets back.
    pub(crate) memo: Option<BTreeMap<String, Json>>,
    /// Settings with which it may come; those of the first `config` unless set.
    #[serde(default)]
    pub(crate) config: usize,
}

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Means {
    Done,
    Retry,
    Refused,
}

/// The files, in the order in which `ams2 action list` shows them. A new service is a file and its line here.
pub(crate) const FILES: &[&str] = &[
    include_str!("../targets/slack.yaml"),
    include_str!("../targets/discord.yaml"),
    include_str!("../targets/mattermost.yaml"),
    include_str!("../targets/msteams.yaml"),
    include_str!("../targets/google_chat.yaml"),
    include_str!("../targets/webex.yaml"),
    include_str!("../targets/rocketchat.yaml"),
    include_str!("../targets/matrix.yaml"),
    include_str!("../targets/telegram.yaml"),
    include_str!("../targets/ntfy.yaml"),
    include_str!("../targets/pushover.yaml"),
    include_str!("../targets/twilio_sms.yaml"),
    include_str!("../targets/pagerduty.yaml"),
    include_str!("../targets/opsgenie.yaml"),
    include_str!("../targets/victorops.yaml"),
    include_str!("../targets/incidentio.yaml"),
];
