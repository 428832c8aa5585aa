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
    /// Sets of settings, of which exactly one must be given. The first of a set says that it is meant; the others may stand
    /// beside another set, too.
    #[serde(default)]
    pub(crate) one_of: Vec<Vec<String>>,
    /// What follows from the settings alone: names, and a template of `settings` for each. The file's other templates see them
    /// as `values`.
    #[serde(default)]
    pub(crate) values: BTreeMap<String, String>,
    /// Where the service is, if no setting is its URL: a template of `settings` and `values`. The file's other templates see it
    /// as `place`.
    pub(crate) place: Option<String>,
    /// Settings that are right one by one and do not go together.
    #[serde(default)]
    pub(crate) mistakes: Vec<Mistake>,
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
    /// What must be asked for first, and is kept: a token.
    pub(crate) login: Option<Login>,
    /// Where the only request goes, and how, for services that need no more than one.
    pub(crate) url: Option<String>,
    #[serde(default = "post")]
    pub(crate) method: String,
    /// Its body: a tree whose texts are templates.
    pub(crate) body: Option<Json>,
    /// The requests, one after the other, for services that need several.
    #[serde(default)]
    pub(crate) requests: Vec<Ask>,
    /// Headers of every request.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// How the trees are sent.
    #[serde(default)]
    pub(crate) format: Format,
    /// Signs every request.
    pub(crate) sigv4: Option<SigV4>,
    /// What answers mean, where a request has no rules of its own.
    #[serde(default)]
    pub(crate) answer: Rules,
    /// What is said of a delivery that is done: a template. The last answer unless set.
    pub(crate) reply: Option<String>,
    /// What the group's next message gets back: names, and where the values stand in an answer. All of it goes when the group
    /// has ended.
    #[serde(default)]
    pub(crate) memo: BTreeMap<String, String>,
    /// Whether what is there already is replaced by what a later answer says; else it is kept.
    #[serde(default)]
    pub(crate) memo_latest: bool,
    /// Whether a message is about one group, which the service knows by its key: opens it, or closes it. No digest can be told.
    #[serde(default)]
    pub(crate) one_group: bool,
    /// What resolving does, for people.
    pub(crate) resolve: String,
    /// Answers of the service, from its documentation, and what becomes of a delivery with each.
    pub(crate) examples: Vec<Example>,
    /// What it answers to the other requests while an example is played.
    #[serde(default)]
    pub(crate) mock: Vec<Mock>,
}

impl File {
    /// Its requests, in order.
    pub(super) fn asks(&self) -> Vec<Ask> {
        let only = self.url.as_ref().map(|url| Ask {
            url: url.clone(),
            method: self.method.clone(),
            body: self.body.clone(),
            ..Ask::default()
        });
        only.into_iter().chain(self.requests.iter().cloned()).collect()
    }
}

/// One request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ask {
    /// What it is for, in a word: what goes wrong is said with it.
    pub(crate) name: String,
    /// Whether it is made: a template. It is not where that gives nothing, false, none or 0.
    #[serde(rename = "if")]
    pub(crate) condition: Option<String>,
    /// Why the delivery is refused instead: a template. It is not where that gives nothing.
    pub(crate) refuse: Option<String>,
    #[serde(default = "post")]
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) body: Option<Json>,
    /// The service that it is signed for.
    pub(crate) service: Option<String>,
    pub(crate) answer: Option<Rules>,
    /// What later templates see of the answer as `kept`: names, and where the values stand.
    pub(crate) keep: BTreeMap<String, String>,
    /// Whether asking twice does no harm: without an answer, nobody may have been told twice.
    pub(crate) repeatable: bool,
    /// How long the next attempt waits, in seconds, where no answer came: until a search finds what may have been made.
    pub(crate) unanswered_wait: u64,
}

/// What must be asked for before anything else. What it keeps holds for later deliveries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    pub(crate) request: Ask,
    /// Where the answer says for how many seconds it holds.
    pub(crate) expires_in: Option<String>,
    /// How many seconds it holds, where the answer does not say.
    pub(crate) lasts: Option<u64>,
    /// What stands at `answer.error` where the service does not take it any more: then it is asked for anew, once.
    pub(crate) renew: Vec<String>,
}

/// Signatures by AWS Signature Version 4. All are templates.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SigV4 {
    pub(crate) service: String,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    /// Nothing for keys that last.
    pub(crate) session_token: String,
}

/// Settings that do not go together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mistake {
    /// A template of `settings`, `values` and `place`; it is no mistake where that gives nothing, false, none or 0. Templates
    /// are seen as they are written.
    #[serde(rename = "if")]
    pub(crate) condition: String,
    /// The setting that is named.
    pub(crate) setting: String,
    pub(crate) says: String,
    pub(crate) mend: String,
}

/// An answer to requests like this.
#[cfg_attr(not(test), expect(dead_code, reason = "the tests play them"))]
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mock {
    /// The method, and a part of the path: `POST /search`.
    pub(crate) to: String,
    #[serde(default = "ok")]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) body: String,
}

fn ok() -> u16 {
    200
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
    /// `application/x-www-form-urlencoded`; what is in a map or list of the tree is named `map.name` and `list.1`.
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
    /// How alert text is escaped in it, where that is not as in the others.
    pub(crate) escape: Option<Escape>,
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
    /// A list of templates.
    TemplateList,
    /// Where to, by a template: one that fails has no other in its place, and nothing is sent.
    Address,
    /// YAML whose texts are templates.
    Tree,
}

impl Type {
    /// Whether it is words, which a delivery keeps when the config changes.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Type::Template | Type::Templates | Type::TemplateList | Type::Tree)
    }
}

/// What the service's answers mean, beyond their status. Places are JSON pointers (`/error/code`), or `<Code>` for the text of the first
/// such element where it answers in XML.
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Is {
    pub(crate) pointer: String,
    /// Anything at all unless set.
    pub(crate) is: Option<Json>,
}

/// An answer of the service.
#[cfg_attr(not(test), expect(dead_code, reason = "the tests play them"))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    /// The request that it answers, as in [`Mock::to`]; the one that nothing else answers unless set.
    pub(crate) to: Option<String>,
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
    include_str!("../targets/jira.yaml"),
    include_str!("../targets/sns.yaml"),
    include_str!("../targets/wechat.yaml"),
];
