//! `global`: what stands once for all receivers.

use super::{
    http::{Login, http_config},
    particular::{SLACK_METHOD, slack_api},
    setting::Entries,
    walk::Import,
};
use crate::config::tree::Node;

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
pub(super) const GLOBAL_TEXTS: [&str; 34] = [
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
