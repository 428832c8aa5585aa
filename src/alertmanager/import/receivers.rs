//! Receivers: each integration as one of our actions, by a table of settings that have the same meaning. Those whose settings are not one
//! to one are in `services`, mail in `email`.

use super::{
    email::email,
    http::{Login, http_config, take_http_config},
    maps, services,
    templates::Templates,
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::{
    alertmanager::go_template::{self, Target},
    config::tree::{Node, Value},
};

pub(super) type Entries = Vec<(String, Yaml)>;

/// What stands once for all receivers.
#[derive(Default)]
pub(super) struct Global {
    pub resolve_timeout: Option<String>,
    /// Settings by their name there, with who they are for: `smtp_from`, `slack_api_url`.
    texts: Vec<(&'static str, String)>,
    pub require_tls: Option<bool>,
    pub implicit_tls: bool,
    /// `http_config` of all that have none of their own.
    pub http: Option<Node>,
}

/// Settings of `global` that are texts.
const GLOBAL_TEXTS: [&str; 34] = [
    "smtp_from",
    "smtp_hello",
    "smtp_smarthost",
    "smtp_auth_username",
    "smtp_auth_password",
    "smtp_auth_password_file",
    "slack_api_url",
    "slack_api_url_file",
    "slack_app_token",
    "slack_app_token_file",
    "slack_app_url",
    "jira_api_url",
    "pagerduty_url",
    "opsgenie_api_url",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "wechat_api_url",
    "wechat_api_secret",
    "wechat_api_secret_file",
    "wechat_api_corp_id",
    "victorops_api_url",
    "victorops_api_key",
    "victorops_api_key_file",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "webex_api_url",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_file",
    "rocketchat_token_id",
    "rocketchat_token_id_file",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
];

impl Global {
    pub fn read(import: &mut Import, node: Option<&Node>) -> Global {
        let mut global = Global::default();
        let Some(node) = node else { return global };
        import.below("global", |import| {
            let mut fields = import.fields(node);
            if let Some(node) = fields.take("resolve_timeout") {
                global.resolve_timeout = Some(import.text(node));
                import.below("resolve_timeout", |import| import.translated(node.place));
            }
            for name in GLOBAL_TEXTS {
                if let Some(node) = fields.take(name) {
                    let text = import.text(node);
                    if name == "slack_app_url" && slack_api(&text).is_none() {
                        import.below(name, |import| import.impossible(node.place, SLACK_METHOD));
                        continue;
                    }
                    import.below(name, |import| import.translated(node.place));
                    global.texts.push((name, text));
                }
            }
            if let Some(node) = fields.take("smtp_require_tls") {
                global.require_tls = Some(import.flag(node));
                import.below("smtp_require_tls", |import| import.translated(node.place));
            }
            if let Some(node) = fields.take("smtp_force_implicit_tls") {
                global.implicit_tls = import.flag(node);
                import.below("smtp_force_implicit_tls", |import| import.translated(node.place));
            }
            if let Some(node) = fields.take("http_config") {
                // What it becomes is put into each that has none.
                let mut own = Entries::new();
                import.below("http_config", |import| {
                    http_config(import, node, &mut own, Login::WebHook, "global");
                });
                global.http = Some(node.clone());
            }
            import.end(fields);
        });
        global
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str())
    }
}

/// One kind of integration.
struct Integration {
    /// Its key there.
    theirs: &'static str,
    /// The action here.
    ours: &'static str,
    /// Whether it tells of ends unless it says otherwise.
    send_resolved: bool,
    settings: &'static [Setting],
}

/// A setting: its name there, its name here, and what it is.
struct Setting(&'static str, &'static str, Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A template.
    Template,
    /// A text that no alert can fill here, though it is a template there.
    Fixed,
    /// A text as it stands, a number or a flag.
    Plain,
    /// A secret, which may stand in a file: its name with `_file`.
    Secret,
    /// A URL that may be a secret, or a template.
    UrlTemplate,
    /// A secret that `global` may give, by this name.
    GlobalSecret(&'static str),
    /// A text that `global` may give, by this name.
    GlobalPlain(&'static str),
    /// The same, where paths are appended to it.
    GlobalBase(&'static str),
    /// A text as it stands, whatever YAML takes it for.
    Word,
    /// Words between commas.
    Words,
    /// Names, and a template for each.
    TemplateMap,
    /// Names, and YAML whose texts are templates for each.
    TemplateTree,
}

use Kind::{
    Fixed, GlobalBase, GlobalPlain, GlobalSecret, Plain, Secret, Template, TemplateMap, TemplateTree,
    UrlTemplate, Word, Words,
};

/// All that become targets or the web hook.
const INTEGRATIONS: [Integration; 14] = [
    Integration {
        theirs: "webhook_configs",
        ours: "webhook",
        send_resolved: true,
        settings: &[Setting("url", "url", UrlTemplate), Setting("max_alerts", "max_alerts", Plain)],
    },
    Integration {
        theirs: "slack_configs",
        ours: "slack",
        send_resolved: false,
        settings: &[
            Setting("api_url", "webhook_url", GlobalSecret("slack_api_url")),
            Setting("app_token", "token", GlobalSecret("slack_app_token")),
            Setting("channel", "channel", Fixed),
            Setting("username", "username", Template),
            Setting("title", "title", Template),
            Setting("title_link", "link", Template),
            Setting("text", "text", Template),
            Setting("color", "color", Template),
            Setting("icon_emoji", "icon_emoji", Fixed),
        ],
    },
    Integration {
        theirs: "discord_configs",
        ours: "discord",
        send_resolved: true,
        settings: &[
            Setting("webhook_url", "webhook_url", Secret),
            Setting("title", "title", Template),
            Setting("message", "text", Template),
            Setting("content", "content", Template),
            Setting("username", "username", Word),
            Setting("avatar_url", "avatar_url", Word),
        ],
    },
    Integration {
        theirs: "mattermost_configs",
        ours: "mattermost",
        send_resolved: true,
        settings: &[
            Setting("webhook_url", "webhook_url", GlobalSecret("mattermost_webhook_url")),
            Setting("channel", "channel", Fixed),
            Setting("username", "username", Fixed),
            Setting("icon_url", "icon_url", Fixed),
            Setting("text", "text", Template),
            Setting("title", "title", Template),
            Setting("title_link", "link", Template),
            Setting("color", "color", Template),
        ],
    },
    Integration {
        theirs: "msteams_configs",
        ours: "msteams",
        send_resolved: true,
        settings: &[
            Setting("webhook_url", "webhook_url", Secret),
            Setting("title", "title", Template),
            Setting("text", "text", Template),
        ],
    },
    Integration {
        theirs: "msteamsv2_configs",
        ours: "msteams",
        send_resolved: true,
        settings: &[
            Setting("webhook_url", "webhook_url", Secret),
            Setting("title", "title", Template),
            Setting("text", "text", Template),
        ],
    },
    Integration {
        theirs: "telegram_configs",
        ours: "telegram",
        send_resolved: true,
        settings: &[
            Setting("api_url", "api_url", GlobalBase("telegram_api_url")),
            Setting("bot_token", "token", GlobalSecret("telegram_bot_token")),
            Setting("chat_id", "chat", Word),
            Setting("message_thread_id", "topic", Plain),
            Setting("disable_notifications", "silent", Plain),
        ],
    },
    Integration {
        theirs: "pushover_configs",
        ours: "pushover",
        send_resolved: true,
        settings: &[
            Setting("user_key", "user", Secret),
            Setting("token", "token", Secret),
            Setting("title", "title", Template),
            Setting("message", "text", Template),
            Setting("url", "link", Template),
            Setting("url_title", "link_title", Template),
            Setting("device", "device", Fixed),
            Setting("sound", "sound", Fixed),
            Setting("priority", "priority", Template),
        ],
    },
    Integration {
        theirs: "opsgenie_configs",
        ours: "opsgenie",
        send_resolved: true,
        settings: &[
            Setting("api_key", "api_key", GlobalSecret("opsgenie_api_key")),
            Setting("api_url", "api_url", GlobalBase("opsgenie_api_url")),
            Setting("message", "message", Template),
            Setting("description", "text", Template),
            Setting("source", "source", Template),
            Setting("tags", "tags", Words),
            Setting("priority", "priority", Template),
            Setting("entity", "entity", Template),
            Setting("details", "details", TemplateMap),
        ],
    },
    Integration {
        theirs: "pagerduty_configs",
        ours: "pagerduty",
        send_resolved: true,
        settings: &[
            Setting("routing_key", "routing_key", Secret),
            Setting("url", "api_url", GlobalPlain("pagerduty_url")),
            Setting("client_url", "link", Template),
            Setting("description", "summary", Template),
            Setting("severity", "severity", Template),
            Setting("class", "class", Template),
            Setting("component", "component", Template),
            Setting("source", "source", Template),
            Setting("details", "details", TemplateTree),
        ],
    },
    Integration {
        theirs: "victorops_configs",
        ours: "victorops",
        send_resolved: true,
        settings: &[
            Setting("api_key", "api_key", GlobalSecret("victorops_api_key")),
            Setting("api_url", "api_url", GlobalBase("victorops_api_url")),
            Setting("routing_key", "routing_key", Template),
            Setting("message_type", "type", Template),
            Setting("state_message", "text", Template),
            Setting("entity_display_name", "title", Template),
            Setting("custom_fields", "details", TemplateMap),
        ],
    },
    Integration {
        theirs: "webex_configs",
        ours: "webex",
        send_resolved: true,
        settings: &[
            Setting("api_url", "api_url", GlobalPlain("webex_api_url")),
            Setting("room_id", "room", Word),
            Setting("message", "text", Template),
        ],
    },
    Integration {
        theirs: "rocketchat_configs",
        ours: "rocketchat",
        send_resolved: false,
        settings: &[
            Setting("api_url", "api_url", GlobalBase("rocketchat_api_url")),
            Setting("token", "token", GlobalSecret("rocketchat_token")),
            Setting("token_id", "user_id", GlobalSecret("rocketchat_token_id")),
            Setting("channel", "channel", Fixed),
            Setting("title", "title", Template),
            Setting("title_link", "link", Template),
            Setting("text", "text", Template),
            Setting("color", "color", Template),
            Setting("emoji", "emoji", Fixed),
        ],
    },
    Integration {
        theirs: "incidentio_configs",
        ours: "incidentio",
        send_resolved: true,
        settings: &[
            Setting("url", "url", Secret),
            Setting("alert_source_token", "token", Secret),
            Setting("max_alerts", "max_alerts", Plain),
        ],
    },
];

/// All receivers.
pub(super) fn receivers(
    import: &mut Import,
    node: &Node,
    global: &Global,
    templates: &mut Templates,
) -> Vec<Yaml> {
    let items = import.list(node).iter().enumerate();
    items
        .map(|(number, item)| {
            import.below(format!("receivers[{number}]"), |import| receiver(import, item, global, templates))
        })
        .collect()
}

fn receiver(import: &mut Import, node: &Node, global: &Global, templates: &mut Templates) -> Yaml {
    let mut fields = import.fields(node);
    let name = fields.take("name").map(|node| {
        import.below("name", |import| import.translated(node.place));
        import.text(node)
    });
    let name = name.unwrap_or_default();
    import.actions.push(Vec::new());
    let mut actions = Vec::new();
    if let Some(node) = fields.take("email_configs") {
        for (number, item) in import.list(node).iter().enumerate() {
            import.below(format!("email_configs[{number}]"), |import| {
                let made = |import: &mut Import| email(import, item, &name, global, templates);
                actions.extend(import.action(item.place, made));
            });
        }
    }
    for integration in &INTEGRATIONS {
        let Some(node) = fields.take(integration.theirs) else { continue };
        for (number, item) in import.list(node).iter().enumerate() {
            import.below(format!("{}[{number}]", integration.theirs), |import| {
                let made =
                    |import: &mut Import| integrate(import, item, integration, &name, global, templates);
                actions.extend(import.action(item.place, made));
            });
        }
    }
    for (theirs, translate) in services::SERVICES {
        let Some(node) = fields.take(theirs) else { continue };
        for (number, item) in import.list(node).iter().enumerate() {
            import.below(format!("{theirs}[{number}]"), |import| {
                let made = |import: &mut Import| {
                    translate(services::Work::new(import, item, &name, global, templates))
                };
                actions.extend(import.action(item.place, made));
            });
        }
    }
    if let Some(node) = fields.take("labels") {
        import.below("labels", |import| import.impossible(node.place, "receivers have no labels here"));
    }
    import.end(fields);
    let mut out = vec![("name".to_owned(), Yaml::text(name))];
    if !actions.is_empty() {
        out.push(("actions".into(), Yaml::List(actions)));
    }
    Yaml::Map(out)
}

/// Without a slash at the end, where paths are appended to it: theirs have one, ours do not.
fn as_base(text: &str, kind: Kind) -> String {
    match kind {
        GlobalBase(_) => text.trim_end_matches('/').to_owned(),
        _ => text.to_owned(),
    }
}

fn integrate(
    import: &mut Import,
    node: &Node,
    integration: &Integration,
    receiver: &str,
    global: &Global,
    templates: &mut Templates,
) -> Result<Yaml, String> {
    let mut fields = import.fields(node);
    let mut out: Entries = Vec::new();
    let superseded = if integration.ours == "slack" { superseded(&fields, global) } else { None };
    for Setting(theirs, ours, kind) in integration.settings {
        if superseded == Some(ours) {
            continue;
        }
        setting(import, &mut fields, &mut out, (theirs, ours, *kind), receiver, global, templates);
    }
    match integration.ours {
        "slack" => slack_app(import, &mut fields, &mut out, global),
        "telegram" => telegram_text(import, &mut fields, &mut out, templates),
        "pagerduty" => service_key(import, &mut fields, &mut out, receiver, global),
        "webhook" => payload(import, &mut fields, &mut out, templates),
        "rocketchat" if !has(&out, "api_url") => {
            out.push(("api_url".into(), Yaml::text("https://open.rocket.chat")));
        }
        _ => {}
    }
    timeout(import, &mut fields, &mut out);
    send_resolved(import, &mut fields, &mut out, integration.send_resolved);
    let login = match integration.ours {
        "webhook" => Login::WebHook,
        "webex" => Login::Token("token"),
        "incidentio" if !has(&out, "token") => Login::Token("token"),
        _ => Login::None,
    };
    take_http_config(import, &mut fields, &mut out, login, receiver, global);
    import.end(fields);
    let missing = match integration.ours {
        "incidentio" if !has(&out, "token") => Some("nothing says who we are: give `alert_source_token`"),
        "rocketchat" if !has(&out, "channel") => Some("nothing says where to: give `channel`"),
        "slack" if has(&out, "token") && !has(&out, "channel") => {
            Some("nothing says where to: give `channel`")
        }
        _ => None,
    };
    match missing {
        None => Ok(Yaml::Map(vec![(integration.ours.into(), Yaml::Map(out))])),
        Some(missing) => Err(missing.to_owned()),
    }
}

/// Whether one of ours is given, itself or by a file.
fn has(out: &Entries, key: &str) -> bool {
    out.iter().any(|(known, _)| known.strip_suffix("_file").unwrap_or(known) == key)
}

/// How long an attempt may take: Go's words for it are not ours.
fn timeout(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries) {
    /// Longest that ours may take.
    const MS_MAX: u64 = 3_600_000;
    let Some(node) = fields.take("timeout") else { return };
    let text = import.text(node);
    import.below("timeout", |import| match go_milliseconds(&text) {
        None => import.impossible(node.place, format!("`{text}` is no duration: write it like 30s")),
        Some(0) => import
            .approximated(node.place, "an attempt ends sometime here: after 30s unless it says otherwise"),
        Some(ms) => {
            out.push(("timeout".into(), Yaml::Plain(format!("{}ms", ms.min(MS_MAX)))));
            match ms {
                ..=MS_MAX => import.translated(node.place),
                _ => import.approximated(node.place, "an attempt takes an hour at most"),
            }
        }
    });
}

/// Go's durations (`1m30s`, `0.5s`, `500ms`) in milliseconds, rounded up; `None` if it is none.
fn go_milliseconds(text: &str) -> Option<u64> {
    /// Longest first where one begins another; each in nanoseconds.
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("μs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
    ];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut nanoseconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, size) = UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit))?;
        nanoseconds += number * size;
        rest = &rest[end + unit.len()..];
    }
    (!text.is_empty()).then_some((nanoseconds / 1e6).ceil() as u64)
}

/// What the web hook sends instead of the body that all send.
fn payload(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries, templates: &mut Templates) {
    let Some(node) = fields.take("payload") else { return };
    let body = match node.value {
        Value::Map(_) => maps::template_tree(import, node, "payload", &[], templates),
        Value::List(_) | Value::Text(_) => {
            Some(import.below("payload", |import| maps::tree_field(import, node, templates)))
        }
        _ => {
            import.below("payload", |import| import.impossible(node.place, "expected text, a list or a map"));
            None
        }
    };
    out.extend(body.map(|body| ("body".to_owned(), body)));
}

/// Which of Slack's two logins does not count: an integration's own comes before those of `global`, and there a token before a URL.
fn superseded(fields: &Fields<'_>, global: &Global) -> Option<&'static str> {
    let own = |key: &str| fields.peek(key).or(fields.peek(file_key(key))).is_some();
    let of_all = |key: &str| global.text(key).or(global.text(file_key(key))).is_some();
    match (own("api_url"), own("app_token")) {
        (true, false) => Some("token"),
        (false, true) => Some("webhook_url"),
        (false, false) if of_all("slack_app_token") => Some("webhook_url"),
        _ => None,
    }
}

/// How a URL of Slack's API is written there.
const SLACK_METHOD: &str =
    "only a URL that ends in /chat.postMessage is known: it is that of a bot's messages";

/// Where Slack's API is, by the URL of the method that is called there.
fn slack_api(url: &str) -> Option<&str> {
    url.trim_end_matches('/').strip_suffix("/chat.postMessage")
}

/// Where a bot's messages go.
fn slack_app(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries, global: &Global) {
    let own = fields.take("app_url").map(|node| (node, import.text(node)));
    let base = match &own {
        Some((node, url)) => import.below("app_url", |import| match slack_api(url) {
            Some(base) => {
                import.translated(node.place);
                Some(base)
            }
            None => {
                import.impossible(node.place, SLACK_METHOD);
                None
            }
        }),
        None => global.text("slack_app_url").and_then(slack_api),
    };
    out.extend(base.map(|base| ("api_url".to_owned(), Yaml::text(base))));
}

/// PagerDuty's older API has a key of another name; ours speaks the newer one.
fn service_key(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    receiver: &str,
    global: &Global,
) {
    let place = fields.peek("service_key").or(fields.peek("service_key_file")).map(|node| node.place);
    let before = import.report.len();
    let key = secret(import, fields, ("service_key", "routing_key", Secret), receiver, global);
    let (Some(place), Some(key)) = (place, key) else { return };
    import.report.truncate(before);
    import.below("service_key", |import| {
        if has(out, "routing_key") {
            return import.impossible(place, "`routing_key` counts: there is one key here");
        }
        let words =
            "its events are those of the Events API v2: see that the integration of this key takes them";
        import.approximated(place, words);
        out.push(key);
    });
    let is_older = |(key, value): &(String, Yaml)| {
        key == "api_url" && matches!(value, Yaml::Text(url) if url.ends_with("create_event.json"))
    };
    if out.iter().any(is_older) {
        out.retain(|entry| !is_older(entry));
        let place = fields.peek("url").map_or(place, |node| node.place);
        let words = "it is that of the older API: events go to https://events.pagerduty.com/v2/enqueue";
        import.below("url", |import| import.approximated(place, words));
    }
}

/// Takes one setting, its name there and here, and puts it in.
pub(super) fn setting(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    (theirs, ours, kind): (&'static str, &'static str, Kind),
    receiver: &str,
    global: &Global,
    templates: &mut Templates,
) {
    if kind == UrlTemplate
        && let Some(node) = fields.peek(theirs)
        && matches!(&node.value, Value::Text(url) if go_template::is_template(url))
    {
        let node = fields.take(theirs).unwrap_or(node);
        return out.extend(template(import, node, theirs, templates).map(|url| (ours.to_owned(), url)));
    }
    if kind == UrlTemplate
        && let Some(node) = fields.peek(theirs)
        && let Value::Text(url) = &node.value
        && let Some((url, user, password)) = without_login(url)
    {
        fields.take(theirs);
        import.below(theirs, |import| import.translated(node.place));
        let (key, url) = import.secret(ours, receiver, url);
        out.push((key, Yaml::text(url)));
        let (key, password) = import.secret("password", receiver, password);
        let login = vec![("username".to_owned(), Yaml::text(user)), (key, Yaml::text(password))];
        return out.push(("basic_auth".into(), Yaml::Map(login)));
    }
    if let Secret | GlobalSecret(_) | UrlTemplate = kind {
        return out.extend(secret(import, fields, (theirs, ours, kind), receiver, global));
    }
    let value = match (kind, fields.take(theirs)) {
        (GlobalPlain(name) | GlobalBase(name), None) => {
            global.text(name).map(|text| Yaml::text(as_base(text, kind)))
        }
        (_, None) => None,
        (Fixed, Some(node)) => fixed(import, node, theirs),
        (Template, Some(node)) => template(import, node, theirs, templates),
        (Word, Some(node)) => Some(word(import, node, theirs)),
        (Words, Some(node)) => words(import, node, theirs),
        (TemplateMap, Some(node)) => maps::template_map(import, node, theirs, templates),
        (TemplateTree, Some(node)) => maps::template_tree(import, node, theirs, &[], templates),
        (_, Some(node)) => plain(import, node, theirs, kind),
    };
    out.extend(value.map(|value| (ours.to_owned(), value)));
}

/// A URL without the login that stands in it, and that: user and password. `None` where there is none that is plain text.
fn without_login(url: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (login, host) = authority.rsplit_once('@')?;
    let (user, password) = login.split_once(':')?;
    let is_plain = !user.is_empty() && !login.contains('%');
    is_plain.then(|| (format!("{scheme}://{host}{path}"), user.to_owned(), password.to_owned()))
}

fn template(import: &mut Import, node: &Node, theirs: &str, templates: &mut Templates) -> Option<Yaml> {
    let text = import.text(node);
    let translate = |import: &mut Import| templates.translate(import, &text, node.place, Target::Text);
    import.below(theirs, translate).map(Yaml::text)
}

/// A text that no alert can fill here, though it is a template there.
pub(super) fn fixed(import: &mut Import, node: &Node, theirs: &str) -> Option<Yaml> {
    let text = import.text(node);
    import.below(theirs, |import| {
        if go_template::is_template(&text) {
            let words = "it is not made from alerts: make a receiver for each";
            import.impossible(node.place, words);
            return None;
        }
        import.translated(node.place);
        Some(Yaml::text(text))
    })
}

/// A value as it stands.
fn plain(import: &mut Import, node: &Node, theirs: &str, kind: Kind) -> Option<Yaml> {
    let value = match &node.value {
        Value::Text(text) => Some(Yaml::text(as_base(text, kind))),
        Value::Number(text) => Some(Yaml::Plain(text.clone())),
        Value::Bool(value) => Some(Yaml::Plain(value.to_string())),
        _ => None,
    };
    import.below(theirs, |import| match value {
        Some(_) => import.translated(node.place),
        None => import.impossible(node.place, "expected a plain value"),
    });
    value
}

fn word(import: &mut Import, node: &Node, theirs: &str) -> Yaml {
    let text = import.text(node);
    import.below(theirs, |import| import.translated(node.place));
    Yaml::text(text)
}

fn words(import: &mut Import, node: &Node, theirs: &str) -> Option<Yaml> {
    let text = import.text(node);
    import.below(theirs, |import| {
        if go_template::is_template(&text) {
            let words = "here they are fixed words: put what is made from alerts into `details`";
            import.impossible(node.place, words);
            return None;
        }
        import.translated(node.place);
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        Some(Yaml::texts(words))
    })
}

/// A secret: its own, that of a file, or what `global` says.
fn secret(
    import: &mut Import,
    fields: &mut Fields<'_>,
    (theirs, ours, kind): (&'static str, &'static str, Kind),
    receiver: &str,
    global: &Global,
) -> Option<(String, Yaml)> {
    let (own, file) = (fields.take(theirs), fields.take(file_key(theirs)));
    if let Some(node) = own {
        let value = import.text(node);
        import.below(theirs, |import| import.translated(node.place));
        let (key, value) = import.secret(ours, receiver, value);
        return Some((key, Yaml::text(value)));
    }
    let ours_file = format!("{ours}_file");
    if let Some(node) = file {
        let path = import.text(node);
        import.below(file_key(theirs), |import| import.translated(node.place));
        return Some((ours_file, Yaml::text(path)));
    }
    let GlobalSecret(name) = kind else { return None };
    match global.text(name) {
        Some(value) => {
            let (key, value) = import.secret(ours, "global", value.to_owned());
            Some((key, Yaml::text(value)))
        }
        None => global.text(file_key(name)).map(|path| (ours_file, Yaml::text(path))),
    }
}

/// The key that names a file with the same.
fn file_key(name: &str) -> &'static str {
    const FILES: [&str; 23] = [
        "url_file",
        "api_url_file",
        "app_token_file",
        "webhook_url_file",
        "bot_token_file",
        "user_key_file",
        "token_file",
        "token_id_file",
        "api_key_file",
        "routing_key_file",
        "alert_source_token_file",
        "api_secret_file",
        "auth_password_file",
        "slack_api_url_file",
        "slack_app_token_file",
        "opsgenie_api_key_file",
        "victorops_api_key_file",
        "telegram_bot_token_file",
        "mattermost_webhook_url_file",
        "wechat_api_secret_file",
        "service_key_file",
        "rocketchat_token_file",
        "rocketchat_token_id_file",
    ];
    FILES.into_iter().find(|file| file.strip_suffix("_file") == Some(name)).unwrap_or("_file")
}

pub(super) fn send_resolved(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries, default: bool) {
    let value = match fields.take("send_resolved") {
        Some(node) => {
            import.below("send_resolved", |import| import.translated(node.place));
            import.flag(node)
        }
        None => default,
    };
    out.push(("send_resolved".into(), Yaml::Plain(value.to_string())));
}

/// Telegram's markup: HTML unless the setting says otherwise.
fn telegram_text(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries, templates: &mut Templates) {
    let mode = fields.take("parse_mode").map(|node| (node, import.text(node)));
    if let Some((node, mode)) = &mode {
        import.below("parse_mode", |import| match mode.as_str() {
            "" | "HTML" => import.translated(node.place),
            _ => import.impossible(
                node.place,
                "only HTML and plain text are known: write the message in one of them",
            ),
        });
    }
    let is_html = mode.is_none_or(|(_, mode)| mode == "HTML");
    let Some(node) = fields.take("message") else { return };
    let text = import.text(node);
    let (ours, target) = if is_html { ("html", Target::Html) } else { ("text", Target::Text) };
    let translated = import.below("message", |import| templates.translate(import, &text, node.place, target));
    out.extend(translated.map(|text| (ours.to_owned(), Yaml::text(text))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, lines, load_text};

    #[test]
    fn every_setting_that_is_brought_over_is_one_of_the_action() {
        for integration in
            INTEGRATIONS.iter().filter(|known| ams2_handlers::TABLE.iter().any(|kind| kind.key == known.ours))
        {
            for Setting(theirs, ours, kind) in integration.settings {
                let key = integration.ours;
                let is_secret = matches!(kind, Secret | GlobalSecret(_) | UrlTemplate);
                // Where secrets go into files, their settings do.
                let file = is_secret.then(|| format!("{ours}_file"));
                for ours in file.iter().map(String::as_str).chain([*ours]) {
                    let text = format!(
                        "receivers: [{{name: r, actions: [{{{key}: {{{ours}: x}}}}]}}]\nroute: {{receiver: r}}\n"
                    );
                    let folder = tempfile::tempdir().expect("a folder");
                    let found = match load_text("f", &text, folder.path(), &Overrides::default()) {
                        Ok(_) => String::new(),
                        Err(wrong) => lines(&wrong.found),
                    };
                    let unknown = format!("unknown key `{ours}`");
                    assert!(!found.contains(&unknown), "{key}: {theirs} is {ours}: {found}");
                }
                assert!(!is_secret || file_key(theirs) != "_file", "{key}: {theirs} has a file");
            }
        }
    }

    /// What `global` says reaches the receivers that it is for, or the report says why not.
    #[test]
    fn every_setting_of_global_is_used_or_reported() {
        use crate::alertmanager::import::{Fate, SecretsTo, import};
        const RECEIVER: &str = "route: {receiver: r}
receivers:
- name: r
  email_configs: [{to: b@example.com}]
  slack_configs: [{channel: '#c'}, {channel: '#d', app_token: own}]
  jira_configs: [{project: P, issue_type: T, http_config: {authorization: {credentials: c}}}]
  pagerduty_configs: [{routing_key: k}]
  opsgenie_configs: [{}]
  victorops_configs: [{routing_key: r}]
  telegram_configs: [{chat_id: 1}]
  webex_configs: [{room_id: r, http_config: {authorization: {credentials: c}}}]
  rocketchat_configs: [{channel: '#c'}]
  mattermost_configs: [{}]
  wechat_configs: [{agent_id: '1', to_user: u}]
";
        // What else has to be there.
        const BASE: [(&str, &str); 14] = [
            ("smtp_from", "a@example.com"),
            ("smtp_smarthost", "h:25"),
            ("smtp_auth_username", "u"),
            ("smtp_auth_password", "p"),
            ("slack_api_url", "http://h/s"),
            ("jira_api_url", "http://h/rest/api/2"),
            ("opsgenie_api_key", "k"),
            ("wechat_api_secret", "s"),
            ("wechat_api_corp_id", "c"),
            ("victorops_api_key", "k"),
            ("telegram_bot_token", "t"),
            ("rocketchat_token", "t"),
            ("rocketchat_token_id", "i"),
            ("mattermost_webhook_url", "http://h/m"),
        ];
        for name in GLOBAL_TEXTS {
            let value = match name {
                _ if name.ends_with("_file") => "file-of-its-own",
                "slack_app_url" => "http://sentinel/api/chat.postMessage",
                "smtp_smarthost" => "sentinel:25",
                "smtp_from" => "sentinel@example.com",
                _ if name.ends_with("url") => "http://sentinel/x",
                _ => "sentinel",
            };
            let replaced = name.strip_suffix("_file").unwrap_or(name);
            let base = BASE.iter().filter(|(known, _)| *known != replaced);
            let mut global: String = base.map(|(name, value)| format!("  {name}: '{value}'\n")).collect();
            global += &format!("  {name}: '{value}'\n");
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("file-of-its-own");
            std::fs::write(&file, "http://h/of-file").expect("written");
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, private).expect("private");
            let text = format!("global:\n{global}{RECEIVER}");
            let imported = import(&text, folder.path(), SecretsTo::Variables)
                .map_err(|found| lines(&found))
                .unwrap_or_else(|found| panic!("{name}: {found}"));
            let mark = value.trim_start_matches("http://").trim_end_matches("/chat.postMessage");
            let is_in_text = imported.text.contains(mark);
            let is_secret = imported.secrets.values().any(|secret| secret.contains(mark));
            let path = format!("global.{name}");
            let is_reported =
                imported.report.iter().any(|entry| entry.setting == path && entry.fate == Fate::Impossible);
            assert!(is_in_text || is_secret || is_reported, "{name}\n{}", imported.text);
            let left_out = imported.report.iter().filter(|entry| entry.words.contains("left out"));
            assert_eq!(left_out.count(), 0, "{name}: {:#?}", imported.report);
        }
    }

    #[test]
    fn durations_of_go_are_rounded_up_to_milliseconds() {
        let rows = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1.5s", Some(1_500)),
            ("1m30s", Some(90_000)),
            ("1h0m0s", Some(3_600_000)),
            ("1ns", Some(1)),
            ("250µs", Some(1)),
            ("", None),
            ("5", None),
            ("1d", None),
            ("-1s", None),
            ("1..5s", None),
            ("soon", None),
        ];
        for (text, expected) in rows {
            assert_eq!(go_milliseconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_login_in_a_url_is_taken_out_of_it() {
        let rows = [
            ("http://u:p@h:1/x?y=a@b", Some(("http://h:1/x?y=a@b", "u", "p"))),
            ("https://u:p@h", Some(("https://h", "u", "p"))),
            ("http://u:p@q@[::1]:80/", Some(("http://[::1]:80/", "u", "p@q"))),
            ("http://h/u:p@x", None),
            ("http://h?u:p@x", None),
            ("http://u@h/", None),
            ("http://:p@h/", None),
            ("http://u:a%40b@h/", None),
            ("u:p@h", None),
        ];
        for (url, expected) in rows {
            let found = without_login(url);
            let found = found.as_ref().map(|(url, user, word)| (url.as_str(), user.as_str(), word.as_str()));
            assert_eq!(found, expected, "{url}");
        }
    }
}
