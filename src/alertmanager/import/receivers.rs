//! Receivers: each integration as one of our actions, by a table of settings that have the same meaning. Those whose settings are not one
//! to one are in `services`, mail in `email`.

use super::{
    email::email,
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
}

/// Settings of `global` that are texts.
const GLOBAL_TEXTS: [&str; 30] = [
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
    "rocketchat_token_file",
    "mattermost_webhook_url",
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
                let words = "settings for all receivers at once are not known: give them to each";
                import.below("http_config", |import| import.impossible(node.place, words));
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
    /// A text as it stands, a number or a flag.
    Plain,
    /// A secret, which may stand in a file: its name with `_file`.
    Secret,
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
    GlobalBase, GlobalPlain, GlobalSecret, Plain, Secret, Template, TemplateMap, TemplateTree, Word, Words,
};

/// All that become targets or the web hook.
const INTEGRATIONS: [Integration; 14] = [
    Integration {
        theirs: "webhook_configs",
        ours: "webhook",
        send_resolved: true,
        settings: &[Setting("url", "url", Secret), Setting("max_alerts", "max_alerts", Plain)],
    },
    Integration {
        theirs: "slack_configs",
        ours: "slack",
        send_resolved: false,
        settings: &[
            Setting("api_url", "webhook_url", GlobalSecret("slack_api_url")),
            Setting("app_token", "token", GlobalSecret("slack_app_token")),
            Setting("channel", "channel", Template),
            Setting("username", "username", Template),
            Setting("title", "title", Template),
            Setting("title_link", "link", Template),
            Setting("text", "text", Template),
            Setting("color", "color", Template),
            Setting("icon_emoji", "icon_emoji", Template),
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
            Setting("channel", "channel", Template),
            Setting("username", "username", Template),
            Setting("icon_url", "icon_url", Template),
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
            Setting("device", "device", Template),
            Setting("sound", "sound", Template),
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
            Setting("api_url", "api_url", GlobalPlain("rocketchat_api_url")),
            Setting("token", "token", Secret),
            Setting("token_id", "user_id", Secret),
            Setting("channel", "channel", Template),
            Setting("title", "title", Template),
            Setting("title_link", "link", Template),
            Setting("text", "text", Template),
            Setting("color", "color", Template),
            Setting("emoji", "emoji", Template),
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
    let mut actions = Vec::new();
    if let Some(node) = fields.take("email_configs") {
        for (number, item) in import.list(node).iter().enumerate() {
            import.below(format!("email_configs[{number}]"), |import| {
                actions.extend(email(import, item, &name, global, templates));
            });
        }
    }
    for integration in &INTEGRATIONS {
        let Some(node) = fields.take(integration.theirs) else { continue };
        for (number, item) in import.list(node).iter().enumerate() {
            import.below(format!("{}[{number}]", integration.theirs), |import| {
                actions.push(integrate(import, item, integration, &name, global, templates));
            });
        }
    }
    for (theirs, translate) in services::SERVICES {
        let Some(node) = fields.take(theirs) else { continue };
        for (number, item) in import.list(node).iter().enumerate() {
            import.below(format!("{theirs}[{number}]"), |import| {
                actions.extend(translate(services::Work::new(import, item, &name, global, templates)));
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
) -> Yaml {
    let mut fields = import.fields(node);
    let mut out: Entries = Vec::new();
    for Setting(theirs, ours, kind) in integration.settings {
        setting(import, &mut fields, &mut out, (theirs, ours, *kind), receiver, global, templates);
    }
    if integration.ours == "telegram" {
        telegram_text(import, &mut fields, &mut out, templates);
    }
    send_resolved(import, &mut fields, &mut out, integration.send_resolved);
    if let Some(node) = fields.take("http_config") {
        let login = match integration.ours {
            "webhook" => Login::WebHook,
            "webex" => Login::Token("token"),
            _ => Login::None,
        };
        import.below("http_config", |import| http_config(import, node, &mut out, login, receiver));
    }
    import.end(fields);
    Yaml::Map(vec![(integration.ours.into(), Yaml::Map(out))])
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
    if let Secret | GlobalSecret(_) = kind {
        return out.extend(secret(import, fields, (theirs, ours, kind), receiver, global));
    }
    let value = match (kind, fields.take(theirs)) {
        (GlobalPlain(name) | GlobalBase(name), None) => {
            global.text(name).map(|text| Yaml::text(as_base(text, kind)))
        }
        (_, None) => None,
        (Template, Some(node)) => template(import, node, theirs, templates),
        (Word, Some(node)) => Some(word(import, node, theirs)),
        (Words, Some(node)) => words(import, node, theirs),
        (TemplateMap, Some(node)) => maps::template_map(import, node, theirs, templates),
        (TemplateTree, Some(node)) => maps::template_tree(import, node, theirs, &[], templates),
        (_, Some(node)) => plain(import, node, theirs, kind),
    };
    out.extend(value.map(|value| (ours.to_owned(), value)));
}

fn template(import: &mut Import, node: &Node, theirs: &str, templates: &mut Templates) -> Option<Yaml> {
    let text = import.text(node);
    let translate = |import: &mut Import| templates.translate(import, &text, node.place, Target::Text);
    import.below(theirs, translate).map(Yaml::text)
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
    const FILES: [&str; 20] = [
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

/// Where a login of `http_config` goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    /// As there.
    WebHook,
    /// A token is the setting of this name.
    Token(&'static str),
    /// A user and a password, or a token, are settings of these names: Jira.
    Settings,
    /// Nowhere: the service's login is a setting there, too.
    None,
}

/// What all that speak HTTP share.
pub(super) fn http_config(import: &mut Import, node: &Node, out: &mut Entries, login: Login, receiver: &str) {
    let mut fields = import.fields(node);
    basic_auth(import, &mut fields, out, login, receiver);
    authorization(import, &mut fields, out, login, receiver);
    if let Some(node) = fields.take("proxy_url") {
        let url = import.text(node);
        import.below("proxy_url", |import| import.translated(node.place));
        out.push(("proxy".into(), Yaml::text(url)));
    }
    if let Some(node) = fields.take("follow_redirects") {
        let value = import.flag(node);
        import.below("follow_redirects", |import| match (login, value) {
            (Login::WebHook, _) => {
                out.push(("redirects".into(), Yaml::Plain(value.to_string())));
                import.translated(node.place);
            }
            (_, false) => import.translated(node.place),
            (_, true) => import.approximated(node.place, "redirects of a service are not followed"),
        });
    }
    if let Some(node) = fields.take("tls_config") {
        import.below("tls_config", |import| tls_config(import, node, out));
    }
    if let Some(node) = fields.take("enable_http2") {
        import.below("enable_http2", |import| import.approximated(node.place, "the server decides"));
    }
    import.end(fields);
}

/// Why a login of `http_config` goes nowhere.
const NO_LOGIN: &str = "this service's login is a setting of its own";

fn basic_auth(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries, login: Login, receiver: &str) {
    let Some(node) = fields.take("basic_auth") else { return };
    import.below("basic_auth", |import| {
        if matches!(login, Login::Token(_) | Login::None) {
            return import.impossible(node.place, NO_LOGIN);
        }
        let mut inner = import.fields(node);
        let mut auth: Entries = Vec::new();
        let user = if login == Login::WebHook { "username" } else { "user" };
        if let Some(node) = inner.take("username") {
            auth.push((user.into(), Yaml::text(import.text(node))));
        }
        secret_or_file(import, &mut inner, &mut auth, ("password", "password_file"), receiver);
        import.translated(node.place);
        import.end(inner);
        match login {
            Login::WebHook => out.push(("basic_auth".into(), Yaml::Map(auth))),
            _ => out.extend(auth),
        }
    });
}

fn authorization(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    login: Login,
    receiver: &str,
) {
    let Some(node) = fields.take("authorization") else { return };
    import.below("authorization", |import| {
        let token = match login {
            Login::WebHook => "bearer_token",
            Login::Token(name) => name,
            Login::Settings => "token",
            Login::None => return import.impossible(node.place, NO_LOGIN),
        };
        let mut inner = import.fields(node);
        let scheme = inner.take("type").map(|node| import.text(node));
        if scheme.as_deref().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("bearer")) {
            import.impossible(node.place, "only Bearer is known: use `headers` for others");
        } else {
            secret_or_file(import, &mut inner, out, ("credentials", "credentials_file"), receiver);
            for (key, _) in out.iter_mut().filter(|(key, _)| key.starts_with("credentials")) {
                *key = key.replace("credentials", token);
            }
            import.translated(node.place);
        }
        import.end(inner);
    });
}

fn tls_config(import: &mut Import, node: &Node, out: &mut Entries) {
    let mut fields = import.fields(node);
    let mut tls: Entries = Vec::new();
    for key in ["ca_file", "cert_file", "key_file", "server_name"] {
        if let Some(node) = fields.take(key) {
            let text = import.text(node);
            import.below(key, |import| import.translated(node.place));
            tls.push((key.into(), Yaml::text(text)));
        }
    }
    if let Some(node) = fields.take("insecure_skip_verify")
        && import.flag(node)
    {
        let words = "certificates are always verified: name the authority in `ca_file`";
        import.below("insecure_skip_verify", |import| import.impossible(node.place, words));
    }
    import.end(fields);
    if !tls.is_empty() {
        out.push(("tls".into(), Yaml::Map(tls)));
    }
}

fn secret_or_file(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    (key, file): (&'static str, &'static str),
    receiver: &str,
) {
    if let Some(node) = fields.take(key) {
        let value = import.text(node);
        let (key, value) = import.secret(key, receiver, value);
        out.push((key, Yaml::text(value)));
    }
    if let Some(node) = fields.take(file) {
        let path = import.text(node);
        out.push((file.into(), Yaml::text(path)));
    }
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
                let is_secret = matches!(kind, Secret | GlobalSecret(_));
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
}
