//! The JSON Schema of the configuration, so that editors complete and explain. What the reader takes apart by hand is
//! mirrored here; that both know the same keys is tested. Actions are described by their own types.

mod inbound;

use std::collections::BTreeMap;

use ams2_handlers::{ActionSettings, TABLE, units};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

/// An ams2 configuration. Durations and sizes carry units. Settings of the shell may hold `${env:NAME}`; what the router
/// decides by may not.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct ConfigFile {
    /// A folder of YAML files that are merged in, in the order of their names; relative to this file.
    include: Option<String>,
    /// A folder of templates that the texts of actions may include and import by their file names; relative to this file.
    templates: Option<String>,
    /// Named sets of actions.
    receivers: Vec<Receiver>,
    /// The routing tree; its root takes every alert.
    route: Route,
    /// How alerts come in, and from whom.
    originator: Option<Originator>,
    /// Where everything is kept, and for how long.
    journal: Option<Journal>,
    /// More words with a rank, such as `fatal: critical`.
    severities: Option<BTreeMap<String, Rank>>,
    /// An alert without an end resolves when it was not seen for this long; 5m unless set.
    resolve_timeout: Option<units::Duration>,
    /// Age at which a delivery that keeps failing becomes a dead letter.
    give_up: Option<GiveUp>,
    /// Labels that ams2's own alerts carry.
    own_labels: Option<BTreeMap<String, String>>,
    /// Where this server is seen from outside, for links in messages.
    external_url: Option<String>,
    /// What becomes of deliveries that wait for actions which are no longer here.
    removed: Option<Vec<Removed>>,
    /// Named sets of times that routes are bound to.
    time_intervals: Option<Vec<TimeInterval>>,
    /// Firing alerts that hold back others.
    inhibit_rules: Option<Vec<InhibitRule>>,
    /// What must hold of silences.
    silences: Option<Silences>,
    /// Decides as Alertmanager does where ams2 would do better.
    compat: Option<Compat>,
    /// Whether who was told of an alert is told of its end though it is muted then; true unless set.
    resolve_when_muted: Option<bool>,
    /// Whether who was never told of an alert is told at once when its silence or mute time ends; true unless set.
    notify_when_unmuted: Option<bool>,
    /// What is to be heard of again and again: silence becomes an alert.
    heartbeats: Option<Vec<Heartbeat>>,
    /// What this server is to others.
    server: Option<Server>,
    /// How clients are waited for that check in.
    check_ins: Option<CheckIns>,
}

/// What a server is to others.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Server {
    /// Its name: letters, digits, `.`, `_`, `-` and `/`; this machine's unless set.
    name: Option<String>,
}

/// How clients are waited for that check in: who never did is not in the list.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct CheckIns {
    /// How often a client is to check in; 200m unless set. It is told so.
    period: Option<units::Duration>,
    /// How much later it may be; 15m unless set.
    grace: Option<units::Duration>,
    /// It leaves the list after more than so long; 30d unless set.
    remove_after: Option<units::Duration>,
    /// How many are advised; 5000 unless set. One more is taken, and said.
    warn_above: Option<u32>,
    /// Most of them; 50000 unless set. One more is refused.
    most: Option<u32>,
}

/// Something that is to be heard of again and again, such as a nightly job, by pings.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Heartbeat {
    /// Its name, a part of its path: letters, digits, `.`, `_` and `-`.
    name: String,
    /// How often it is to be heard.
    period: units::Duration,
    /// How much later it may be.
    grace: units::Duration,
    /// The longest that a run may take from its start to its end; any time unless set.
    max_duration: Option<units::Duration>,
    /// Labels of its alert; `event` is `Heartbeat Missing` and `severity` is `major` unless set.
    labels: Option<BTreeMap<String, String>>,
    /// The only client that it is heard from; whoever may send such an alert unless set.
    client: Option<String>,
}

/// A named set of times: a moment in one of the entries is in it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct TimeInterval {
    /// Its name.
    name: String,
    /// What is given in an entry must hold together.
    time_intervals: Vec<Span>,
}

/// Ranges that must hold together; what is not given holds always.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Span {
    /// Times of the day; one over midnight belongs to the day on which it begins.
    times: Option<Vec<TimeRange>>,
    /// Such as `monday:friday`, or `sunday`.
    weekdays: Option<Vec<String>>,
    /// Such as `1:7`, or `-3:-1` for the last three.
    days_of_month: Option<Vec<TextOrNumber>>,
    /// Such as `march:may`, or `12`.
    months: Option<Vec<TextOrNumber>>,
    /// Such as `2026:2028`, or `2026`.
    years: Option<Vec<TextOrNumber>>,
    /// A time zone such as `Europe/Berlin`, or `Local` for this machine's; UTC unless set.
    location: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)]
enum TextOrNumber {
    Text(String),
    Number(i16),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct TimeRange {
    /// `HH:MM`, inclusive.
    start_time: String,
    /// `HH:MM` up to `24:00`, exclusive.
    end_time: String,
}

/// Firing alerts that match the source side hold back those that match the target side.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct InhibitRule {
    /// For people.
    name: Option<String>,
    /// Which alerts hold others back.
    source_matchers: Option<Vec<String>>,
    /// Which alerts are held back.
    target_matchers: Option<Vec<String>>,
    /// Labels that must have the same value in both.
    equal: Option<Vec<String>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Silences {
    /// Most that are kept, expired ones included; no limit unless set.
    max: Option<u32>,
    /// Most bytes of one silence's texts; no limit unless set.
    bytes_max: Option<units::Bytes>,
    /// How long an expired one is kept; 5d unless set.
    retention: Option<units::Duration>,
    /// Whether each must say why.
    comment: Option<Demand>,
    /// Whether each must say who made it.
    author: Option<Demand>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)]
enum Demand {
    Required,
    Optional,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)]
enum Compat {
    Alertmanager,
}

/// A rank of X.733.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)]
enum Rank {
    Info,
    Warning,
    Minor,
    Major,
    Critical,
}

/// A named set of actions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Receiver {
    /// Its name.
    name: String,
    /// Ways to tell somebody, each named by its key.
    actions: Option<Vec<ActionSettings>>,
}

/// A route: who is told of the alerts that match.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Route {
    /// Who is told; the parent's unless set.
    receiver: Option<String>,
    /// All must match: `name op "value"` with one of `= != =~ !~ >= > <= <`.
    matchers: Option<Vec<String>>,
    /// Labels that make a group; `...` for all of them.
    group_by: Option<Vec<String>>,
    /// Before the first notification of a group; 30s unless set.
    group_wait: Option<units::Duration>,
    /// Between looks at a group after that; 5m unless set.
    group_interval: Option<units::Duration>,
    /// Before the same is told again; 4h unless set.
    repeat_interval: Option<units::Duration>,
    /// `each`: one notification for each occurrence, at once, without grouping.
    notify: Option<Notify>,
    /// Whether an alert that fires and ends within group_wait is told once.
    tell_short: Option<bool>,
    /// Whether a later alert of a group waits no longer than group_wait.
    group_wait_each: Option<bool>,
    /// Time intervals in which nothing is told.
    mute_time_intervals: Option<Vec<String>>,
    /// Time intervals outside which nothing is told.
    active_time_intervals: Option<Vec<String>>,
    /// Whether the routes after this one are looked at, too.
    r#continue: Option<bool>,
    /// Children: the first that matches takes the alert.
    routes: Option<Vec<Route>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)]
enum Notify {
    Group,
    Each,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct GiveUp {
    /// 24h unless set.
    after: Option<units::Duration>,
    /// The same for critical alerts; 72h unless set.
    critical_after: Option<units::Duration>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Removed {
    /// `RECEIVER/KIND/NAME`.
    action: String,
    /// The receiver that takes what waits.
    move_to: Option<String>,
    /// What waits becomes dead letters.
    drop: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Journal {
    /// The data folder; ./ams2-data unless set.
    dir: Option<String>,
    /// What is older goes, unless something still needs it; 90d unless set.
    retention: Option<units::Duration>,
    /// The oldest goes while the journal is larger; 16GiB unless set.
    retention_bytes: Option<units::Bytes>,
    /// Size of a file, from 1MiB to 1GiB; 64MiB unless set.
    segment_bytes: Option<units::Bytes>,
    /// Clients are refused while less is free on the disk; 64MiB unless set.
    free_bytes_min: Option<units::Bytes>,
    /// Inputs that may wait for the disk; more are refused. 256MiB unless set.
    waiting_bytes_max: Option<units::Bytes>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Originator {
    /// HTTP: API, metrics. `false` for none.
    #[schemars(schema_with = "off_or::<Http>")]
    http: Option<Http>,
    /// The Unix socket for clients on this machine. `false` for none.
    #[schemars(schema_with = "off_or::<Socket>")]
    socket: Option<Socket>,
    /// Syslog: messages of devices and daemons.
    syslog: Option<Syslog>,
    /// SNMP: traps and informs of devices.
    snmp: Option<Snmp>,
    /// Who may come. Without any, everybody on this machine may do everything.
    clients: Option<Vec<Client>>,
    /// Limits of alerts.
    limits: Option<AlertLimits>,
    /// Web hooks of other tools, by name.
    inbound: Option<BTreeMap<String, inbound::Hook>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Http {
    /// Address and port; 127.0.0.1:9093 unless set. Other than loopback needs `tls` and clients with tokens.
    listen: Option<String>,
    /// Allows a listener that others reach without TLS or tokens.
    insecure: Option<bool>,
    /// Certificate and key.
    tls: Option<Tls>,
    /// Names that a request's `Host` may have besides addresses and `localhost`.
    hosts: Option<Vec<String>>,
    /// What stands before every path, such as `/alerts`, where a proxy passes on one part of its paths. The socket has none.
    prefix: Option<String>,
    /// Limits of connections and requests.
    limits: Option<HttpLimits>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Tls {
    /// PEM.
    cert_file: String,
    /// PEM, unencrypted, not readable by others.
    key_file: String,
    /// Demands certificates that one of these authorities signed.
    client_ca_file: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct HttpLimits {
    body_bytes: Option<units::Bytes>,
    bytes_in_flight: Option<units::Bytes>,
    head_bytes: Option<units::Bytes>,
    header_time: Option<units::Duration>,
    body_time: Option<units::Duration>,
    answer_time: Option<units::Duration>,
    handshake_time: Option<units::Duration>,
    connections: Option<u32>,
    connections_per_address: Option<u32>,
    headers: Option<u32>,
}

/// Listeners of syslog: at least one.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Syslog {
    /// Address and port for datagrams. Other than loopback needs `insecure`.
    udp: Option<String>,
    /// Address and port for connections without TLS. Other than loopback needs `insecure`.
    tcp: Option<String>,
    /// Connections with TLS.
    tls: Option<SyslogTls>,
    /// Allows listeners that others reach without showing a certificate.
    insecure: Option<bool>,
    /// Who may send. Without any, everybody who reaches a listener may.
    clients: Option<Vec<SyslogClient>>,
    /// Limits of messages and connections.
    limits: Option<SyslogLimits>,
    /// Rules that make alerts of messages: the first that takes one counts. What none takes is an alert all the same.
    mapping: Option<Vec<inbound::Rule>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct SyslogTls {
    /// Address and port; 6514 is the usual one.
    listen: String,
    /// PEM.
    cert_file: String,
    /// PEM, unencrypted, not readable by others.
    key_file: String,
    /// Demands certificates that one of these authorities signed, with a DNS name in them.
    client_ca_file: Option<String>,
    /// Certificates that those authorities have taken back.
    client_crl_file: Option<String>,
}

/// A client of syslog: known by all that is given.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct SyslogClient {
    /// Its name.
    name: String,
    /// Where it comes from: addresses and networks such as `192.0.2.0/24`.
    addresses: Option<Vec<String>>,
    /// DNS names in its certificate, or fingerprints: `sha256:` and 64 hex digits.
    certificates: Option<Vec<String>>,
    /// It may send only alerts that match all of these.
    allow: Option<Vec<String>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct SyslogLimits {
    message_bytes: Option<units::Bytes>,
    message_time: Option<units::Duration>,
    idle_time: Option<units::Duration>,
    handshake_time: Option<units::Duration>,
    connections: Option<u32>,
    connections_per_address: Option<u32>,
    connects_per_second: Option<u32>,
    alerts_per_address: Option<u32>,
    receive_bytes: Option<units::Bytes>,
}

/// The listener of SNMP.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Snmp {
    /// Address and port; 162 is the usual one. Other than loopback needs `insecure` unless every client is a user with a password.
    listen: String,
    /// Allows communities, and users without a password, on a listener that others reach.
    insecure: Option<bool>,
    /// Who may send: at least one.
    clients: Vec<SnmpClient>,
    /// Names of objects and notifications: each with its OID, for rules and texts.
    names: Option<BTreeMap<String, String>>,
    /// Limits.
    limits: Option<SnmpLimits>,
    /// Rules that make alerts of notifications: the first that takes one counts. What none takes is an alert all the same.
    mapping: Option<Vec<inbound::Rule>>,
}

/// A client of SNMP: known by its community (v1, v2c) or as a user (v3).
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct SnmpClient {
    /// Its name.
    name: String,
    /// Where it comes from: addresses and networks such as `192.0.2.0/24`.
    addresses: Option<Vec<String>>,
    /// It may send only alerts that match all of these.
    allow: Option<Vec<String>>,
    /// A file with its community, not readable by others.
    community_file: Option<String>,
    /// Allows the communities that everybody tries first: `public` and `private`.
    insecure: Option<bool>,
    /// v3: the user.
    user: Option<String>,
    /// v3: how it authenticates: `sha1`, `sha224`, `sha256`, `sha384` or `sha512`; `sha256` unless set.
    auth: Option<ams2_handlers::snmp_trap::Authentication>,
    /// v3: a file with its password for that. It must use it.
    auth_password_file: Option<String>,
    /// v3: how it encrypts: `aes128`, `aes192` or `aes256`; `aes128` unless set.
    #[schemars(rename = "priv")]
    privacy: Option<ams2_handlers::snmp_trap::Privacy>,
    /// v3: a file with its password for that. It must use it.
    priv_password_file: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct SnmpLimits {
    receive_bytes: Option<units::Bytes>,
    inform_time: Option<units::Duration>,
    messages_per_second: Option<u32>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct AlertLimits {
    labels: Option<u32>,
    annotations: Option<u32>,
    name_bytes: Option<units::Bytes>,
    alert_bytes: Option<units::Bytes>,
    id_bytes: Option<units::Bytes>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Socket {
    /// Relative to the data folder; ams2.sock unless set.
    path: Option<String>,
    /// Three octal digits in quotes; "600" unless set.
    mode: Option<String>,
}

/// A client: known by its token or its Unix user.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct Client {
    /// Its name.
    name: String,
    /// A file with its token, not readable by others.
    token_file: Option<String>,
    /// The SHA-256 of its token, in hex.
    token_sha256: Option<String>,
    /// Its Unix user on the socket.
    uid: Option<u32>,
    /// It may send only alerts that match all of these.
    allow: Option<Vec<String>>,
    /// What it may do; `[send]` unless set.
    may: Option<Vec<Right>>,
    /// Whether many machines share it: each that checks in is called by this name and its own, such as `boston/ws-042`.
    enrol: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)]
enum Right {
    Send,
    Read,
    Operate,
}

/// Settings, or `false` for none.
fn off_or<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let settings = generator.subschema_for::<T>();
    schemars::json_schema!({ "anyOf": [{ "const": false }, { "type": "null" }, settings] })
}

/// The whole schema, as text that ends with a line feed.
pub fn schema() -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<ConfigFile>().to_value();
    schema["title"] = json!("ams2 configuration");
    // What is demanded may stand in an included file.
    let demanded = schema["required"].take();
    schema["anyOf"] = json!([{ "required": demanded }, { "required": ["include"] }]);
    if let Some(root) = schema.as_object_mut() {
        root.remove("required");
    }
    for kind in TABLE.iter() {
        for file in kind.files {
            let (folder, name) = file.key.rsplit_once('.').unwrap_or(("", file.key));
            if let Some(settings) = settings_of(&mut schema, kind.key)
                && let Some(within) = within(settings, folder)
            {
                match within {
                    Within::Here(settings) => file_setting(settings, name, file),
                    Within::Definition(name_of) => {
                        file_setting(&mut schema["definitions"][name_of], name, file)
                    }
                }
            }
        }
    }
    // A way in may be left out; with a schema by hand schemars takes it for demanded.
    if let Some(originator) = schema["definitions"]["Originator"].as_object_mut() {
        originator.remove("required");
    }
    allow_nothing(&mut schema);
    let text = serde_json::to_string_pretty(&schema).expect("plain data encodes");
    format!("{text}\n")
}

/// The schema of one kind of action's settings.
fn settings_of<'s>(schema: &'s mut Value, key: &str) -> Option<&'s mut Value> {
    let actions = schema["definitions"]["ActionSettings"]["oneOf"].as_array()?;
    let action = actions.iter().find(|action| action["properties"].get(key).is_some())?;
    let name = action["properties"][key]["$ref"].as_str()?.rsplit('/').next()?.to_owned();
    schema["definitions"].get_mut(&name)
}

/// Where a setting within another is described.
enum Within<'s> {
    Here(&'s mut Value),
    Definition(String),
}

/// The description of what is within the setting `folder`; the settings themselves if that is nothing.
fn within<'s>(settings: &'s mut Value, folder: &str) -> Option<Within<'s>> {
    if folder.is_empty() {
        return Some(Within::Here(settings));
    }
    let property = settings["properties"].get(folder)?;
    let choices = property["anyOf"].as_array().into_iter().flatten();
    let reference = choices.chain([property]).find_map(|choice| choice["$ref"].as_str())?;
    Some(Within::Definition(reference.rsplit('/').next()?.to_owned()))
}

/// A setting that is read from a file is written by the key that names the file. It is no more demanded under its own.
fn file_setting(settings: &mut Value, key: &str, file: &ams2_handlers::FileSetting) {
    let into = file.into.rsplit('.').next().unwrap_or(file.into);
    let Some(properties) = settings["properties"].as_object_mut() else { return };
    // Two kinds of actions may share what is within.
    if properties.contains_key(key) {
        return;
    }
    let words = properties.get(into).map(|property| property["description"].clone());
    let mut property = json!({ "type": "string" });
    property["description"] = json!(format!("The file that holds it, relative to this one. {}", text(words)));
    properties.insert(key.to_owned(), property);
    if !file.secret {
        properties.remove(into);
    } else if !file.inline {
        let reference = r"^\$\{env:[^}]+\}$";
        properties[into]["pattern"] = json!(reference);
    }
    if let Some(required) = settings.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != into);
        if required.is_empty()
            && let Some(settings) = settings.as_object_mut()
        {
            settings.remove("required");
        }
    }
}

fn text(value: Option<Value>) -> String {
    value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A key without a value means what its absence means: lists and maps may be left empty.
fn allow_nothing(value: &mut Value) {
    if let Some(properties) = value.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            if let Some(kind) = property.get_mut("type")
                && matches!(kind.as_str(), Some("array" | "object"))
            {
                *kind = json!([kind.clone(), "null"]);
            }
        }
    }
    match value {
        Value::Object(entries) => entries.values_mut().for_each(allow_nothing),
        Value::Array(items) => items.iter_mut().for_each(allow_nothing),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::config::{Overrides, lines, load_text};

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema/ams2.schema.json");

    #[test]
    fn the_committed_schema_is_the_one_of_the_types() {
        if std::env::var_os("AMS2_UPDATE").is_some() {
            std::fs::write(FILE, schema()).expect("written");
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            committed == schema(),
            "make it again: AMS2_UPDATE=1 cargo nextest run -p ams2 committed_schema"
        );
    }

    /// What the reader says it knows where an unknown key stands.
    fn known(text: &str) -> BTreeSet<String> {
        let wrong =
            load_text("f", text, Path::new("."), &Overrides::default()).err().expect("an unknown key");
        let found = lines(&wrong.found);
        let line = found
            .lines()
            .find(|line| line.contains("unknown key `qqqqqq`"))
            .unwrap_or_else(|| panic!("{found}"));
        let known = line.split_once("known here: ").unwrap_or_else(|| panic!("{found}")).1;
        known.split(", ").map(|name| name.trim().to_owned()).collect()
    }

    #[test]
    fn the_reader_and_the_schema_know_the_same_keys() {
        let schema: Value = serde_json::from_str(&schema()).expect("JSON");
        let rows = [
            ("", "qqqqqq: 1"),
            ("Receiver", "receivers: [{qqqqqq: 1}]"),
            ("Route", "route: {routes: [{qqqqqq: 1}]}"),
            ("GiveUp", "give_up: {qqqqqq: 1}"),
            ("Removed", "removed: [{qqqqqq: 1}]"),
            ("Journal", "journal: {qqqqqq: 1}"),
            ("Originator", "originator: {qqqqqq: 1}"),
            ("Http", "originator: {http: {qqqqqq: 1}}"),
            ("Tls", "originator: {http: {tls: {qqqqqq: 1}}}"),
            ("HttpLimits", "originator: {http: {limits: {qqqqqq: 1}}}"),
            ("AlertLimits", "originator: {limits: {qqqqqq: 1}}"),
            ("Socket", "originator: {socket: {qqqqqq: 1}}"),
            ("Syslog", "originator: {syslog: {qqqqqq: 1}}"),
            ("SyslogTls", "originator: {syslog: {tls: {qqqqqq: 1}}}"),
            ("SyslogClient", "originator: {syslog: {clients: [{qqqqqq: 1}]}}"),
            ("SyslogLimits", "originator: {syslog: {limits: {qqqqqq: 1}}}"),
            ("Snmp", "originator: {snmp: {qqqqqq: 1}}"),
            ("SnmpClient", "originator: {snmp: {clients: [{qqqqqq: 1}]}}"),
            ("SnmpLimits", "originator: {snmp: {limits: {qqqqqq: 1}}}"),
            ("Client", "originator: {clients: [{qqqqqq: 1}]}"),
            ("Hook", "originator: {inbound: {own: {qqqqqq: 1}}}"),
            ("TokenPlace", "originator: {inbound: {own: {token: {qqqqqq: 1}}}}"),
            ("HookRequest", "originator: {inbound: {own: {requests: [{qqqqqq: 1}]}}}"),
            ("HookAnswers", "originator: {inbound: {own: {answers: {qqqqqq: 1}}}}"),
            ("HookAnswer", "originator: {inbound: {own: {answers: {busy: {qqqqqq: 1}}}}}"),
            ("Rule", "originator: {inbound: {own: {requests: [{mapping: [{qqqqqq: 1}]}]}}}"),
            ("TimeInterval", "time_intervals: [{qqqqqq: 1}]"),
            ("Span", "time_intervals: [{name: n, time_intervals: [{qqqqqq: 1}]}]"),
            ("TimeRange", "time_intervals: [{name: n, time_intervals: [{times: [{qqqqqq: 1}]}]}]"),
            ("InhibitRule", "inhibit_rules: [{qqqqqq: 1}]"),
            ("Silences", "silences: {qqqqqq: 1}"),
            ("Heartbeat", "heartbeats: [{qqqqqq: 1}]"),
            ("CheckIns", "check_ins: {qqqqqq: 1}"),
        ];
        for (name, text) in rows {
            let object = if name.is_empty() { &schema } else { &schema["definitions"][name] };
            let properties = object["properties"].as_object().unwrap_or_else(|| panic!("{name}"));
            let keys: BTreeSet<String> = properties.keys().cloned().collect();
            assert_eq!(known(text), keys, "{name}: {text}");
            assert_eq!(object["additionalProperties"], json!(false), "{name}");
        }
    }

    #[test]
    fn every_kind_of_action_is_described_with_its_files() {
        let mut schema: Value = serde_json::from_str(&schema()).expect("JSON");
        for kind in TABLE.iter() {
            let settings = settings_of(&mut schema, kind.key).unwrap_or_else(|| panic!("{}", kind.key));
            assert_eq!(settings["additionalProperties"], json!(false), "{}", kind.key);
            for file in kind.files {
                let settings = settings_of(&mut schema, kind.key).expect("it was there");
                let (folder, key) = file.key.rsplit_once('.').unwrap_or(("", file.key));
                let into = file.into.rsplit('.').next().unwrap_or(file.into);
                let within = match within(settings, folder).unwrap_or_else(|| panic!("{} {folder}", kind.key))
                {
                    Within::Here(settings) => settings.clone(),
                    Within::Definition(name) => schema["definitions"][name].clone(),
                };
                assert!(within["properties"][key].is_object(), "{} {}", kind.key, file.key);
                assert_eq!(within["properties"].get(into).is_some(), file.secret, "{}", file.into);
                let demanded =
                    within["required"].as_array().is_some_and(|names| names.contains(&json!(into)));
                assert!(!demanded, "{} {}: it may come from a file", kind.key, file.into);
            }
        }
    }
}
