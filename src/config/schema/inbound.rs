//! Web hooks of other tools, and the rules of a mapping.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

/// What one tool posts. Nothing where its name is one that comes with ams2, such as `pagerduty: {}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct Hook {
    /// For people.
    summary: Option<String>,
    /// The tool's own documentation.
    docs: Option<Vec<String>>,
    /// Where the sender's token stands beside `Authorization: Bearer` and `Basic`.
    token: Option<TokenPlace>,
    /// The requests that it makes.
    requests: Option<Vec<HookRequest>>,
    /// What it expects to be answered when something is wrong; our own words unless set.
    answers: Option<HookAnswers>,
    /// Not used.
    examples: Option<Vec<Value>>,
}

/// One of the two says where.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct TokenPlace {
    /// The name of a header.
    header: Option<String>,
    /// What stands in it before the token, such as `GenieKey `.
    before: Option<String>,
    /// A field of the body.
    body: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct HookRequest {
    /// POST unless set.
    methods: Option<Vec<Method>>,
    /// Its path; a part in braces may be anything, and is the field `request.path.NAME`.
    path: String,
    /// What becomes of it.
    mapping: Vec<Rule>,
    /// What is answered once it is kept; 200 without a body unless set.
    answer: Option<HookAnswer>,
}

#[derive(JsonSchema)]
#[allow(dead_code, clippy::upper_case_acronyms)]
enum Method {
    POST,
    PUT,
    PATCH,
    GET,
    DELETE,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct HookAnswers {
    /// The request is wrong.
    invalid: Option<HookAnswer>,
    /// Its sender is not known, or may not send this.
    denied: Option<HookAnswer>,
    /// It cannot be kept now: to be sent again.
    busy: Option<HookAnswer>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct HookAnswer {
    /// 200 to 599.
    status: u16,
    /// JSON whose texts may hold fields.
    body: Option<Value>,
}

/// Which alert something that came in is. The first rule counts whose `when` and `capture` match.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct Rule {
    /// What must hold of fields, as matchers say it of labels.
    when: Option<Vec<String>>,
    /// A regex for a field, which must be found in it; what its named groups catch are fields.
    capture: Option<BTreeMap<String, String>>,
    /// A list whose items are an alert each.
    each: Option<String>,
    /// `alert` unless set.
    does: Option<Does>,
    /// Labels: names, and texts with `{{ field }}`.
    labels: Option<BTreeMap<String, TextOrNumber>>,
    /// Fields whose fields are labels, too.
    labels_from: Option<OneOrMore>,
    /// Annotations, likewise.
    annotations: Option<BTreeMap<String, TextOrNumber>>,
    /// Fields whose fields are annotations, too.
    annotations_from: Option<OneOrMore>,
    /// The label `severity`.
    severity: Option<TextOrNumber>,
    /// What words of the sender stand for.
    severity_words: Option<BTreeMap<String, String>>,
    /// Whether it fires or is over, in a word; it fires unless set.
    state: Option<TextOrNumber>,
    /// The sender's name of the alert: a rule that resolves ends it by that.
    key: Option<TextOrNumber>,
    /// `until resolved`, or a duration; as long as every alert without an end unless set.
    lasts: Option<String>,
    /// The sender's name of the occurrence.
    id: Option<TextOrNumber>,
    /// When it began.
    starts_at: Option<TextOrNumber>,
    /// When it ended.
    ends_at: Option<TextOrNumber>,
    /// Where to read more.
    generator_url: Option<TextOrNumber>,
    /// Who takes charge, where it acknowledges.
    by: Option<TextOrNumber>,
    /// And why.
    comment: Option<TextOrNumber>,
    /// The heartbeat that is heard of.
    heartbeat: Option<TextOrNumber>,
    /// Why it is refused.
    why: Option<TextOrNumber>,
}

/// What a rule does.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code)]
enum Does {
    Alert,
    Resolve,
    Acknowledge,
    Ping,
    Drop,
    Refuse,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)]
enum TextOrNumber {
    Text(String),
    Number(f64),
}
