//! Receivers: each integration as one of our actions, by a table of settings that have the same meaning. Those whose settings are not one
//! to one are in `services`, mail in `email`, and what is particular to one of these in `particular`.

use super::{
    email::email,
    global::Global,
    http::{Login, take_http_config},
    particular::{payload, service_key, slack_app, superseded, telegram_text, timeout},
    services,
    setting::{
        Entries,
        Kind::{
            self, Fixed, GlobalBase, GlobalPlain, GlobalSecret, Plain, Secret, Template, TemplateMap,
            TemplateTree, UrlTemplate, Word, Words,
        },
        has, setting,
    },
    templates::Templates,
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::config::tree::Node;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alertmanager::import::{global::GLOBAL_TEXTS, setting::file_key},
        config::{Overrides, lines, load_text},
    };

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
            let imported = import(&text, folder.path(), SecretsTo::Variables, true)
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
}
