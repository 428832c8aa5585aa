//! Services whose settings are not one to one: Jira, Amazon SNS and WeCom.

use super::{
    global::Global,
    http::{Login, take_http_config},
    maps,
    receivers::send_resolved,
    setting::{
        Entries,
        Kind::{self, GlobalPlain, GlobalSecret, Plain, Secret, Template},
        fixed, has, setting,
    },
    templates::Templates,
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::{
    alertmanager::go_template::Target,
    config::tree::{Node, Value},
};

/// Translates one integration into an action; where it would tell nobody it says why.
type Translate = fn(Work<'_, '_>) -> Result<Yaml, String>;

/// Their keys, and how each is translated.
pub(super) const SERVICES: [(&str, Translate); 3] =
    [("jira_configs", jira), ("sns_configs", sns), ("wechat_configs", wechat)];

/// What one integration is made with.
pub(super) struct Work<'w, 'n> {
    import: &'w mut Import,
    fields: Fields<'n>,
    out: Entries,
    receiver: &'w str,
    global: &'w Global,
    templates: &'w mut Templates,
}

fn jira(mut work: Work<'_, '_>) -> Result<Yaml, String> {
    work.settings(&[
        ("api_url", "api_url", GlobalPlain("jira_api_url")),
        ("api_type", "api_type", Plain),
        ("project", "project", Template),
        ("issue_type", "issue_type", Template),
        ("priority", "priority", Template),
        ("resolve_transition", "resolve_transition", Plain),
        ("reopen_transition", "reopen_transition", Plain),
        ("reopen_duration", "reopen_duration", Plain),
        ("wont_fix_resolution", "wont_fix_resolution", Plain),
    ]);
    let is_v3 = work.text("api_url").is_some_and(|url| url.trim_end_matches('/').ends_with("/3"));
    work.issue_text("summary", "summary", "update_summary");
    let description = if is_v3 { "description_adf" } else { "description_wiki" };
    work.issue_text("description", description, "update_description");
    if let Some(node) = work.fields.take("labels") {
        let items = work.import.list(node).iter().enumerate();
        let labels = items.filter_map(|(number, item)| work.template(&format!("labels[{number}]"), item));
        let labels = labels.collect();
        work.out.push(("labels".into(), Yaml::List(labels)));
    }
    work.template_tree("fields", &["project", "issuetype", "summary", "description", "labels"]);
    work.http(Login::Settings);
    let has_login = has(&work.out, "token") || has(&work.out, "user");
    let missing = "nothing says who we are: give `basic_auth` or `authorization` in its `http_config`";
    work.end("jira", true, (!has_login).then_some(missing))
}

fn sns(mut work: Work<'_, '_>) -> Result<Yaml, String> {
    work.fixed("api_url");
    work.settings(&[
        ("topic_arn", "topic_arn", Template),
        ("target_arn", "target_arn", Template),
        ("phone_number", "phone_number", Template),
        ("subject", "subject", Template),
        ("message", "text", Template),
    ]);
    work.template_map("attributes");
    if let Some(node) = work.fields.take("sigv4") {
        work.below("sigv4", node, |work| {
            work.settings(&[
                ("region", "region", Plain),
                ("access_key", "access_key", Plain),
                ("secret_key", "secret_key", Secret),
                ("role_arn", "role_arn", Plain),
                ("external_id", "external_id", Plain),
            ]);
            work.refuse("profile", "files of AWS's own are not read: give `access_key` and `secret_key`");
        });
    }
    if let Some(node) = work.fields.take("use_aws_http_client") {
        let words = "there is one client for all";
        work.import.below("use_aws_http_client", |import| import.approximated(node.place, words));
    }
    work.http(Login::None);
    let arn = work.text("topic_arn").or(work.text("target_arn")).unwrap_or_default();
    let region = work.text("region").or(arn.split(':').nth(3)).unwrap_or_default();
    let missing = if !has(&work.out, "access_key") || !has(&work.out, "secret_key") {
        Some(
            "nothing says with which key: give `access_key` and `secret_key` in its `sigv4`, since those of the machine or its environment are not looked for",
        )
    } else if region.is_empty() || region.contains('{') {
        Some("nothing says which region: give `region` in its `sigv4`")
    } else {
        None
    };
    work.end("sns", true, missing)
}

fn wechat(mut work: Work<'_, '_>) -> Result<Yaml, String> {
    work.settings(&[
        ("api_secret", "secret", GlobalSecret("wechat_api_secret")),
        ("corp_id", "corp_id", GlobalPlain("wechat_api_corp_id")),
        ("api_url", "api_url", GlobalPlain("wechat_api_url")),
        ("agent_id", "agent_id", Template),
        ("to_user", "to_user", Template),
        ("to_party", "to_party", Template),
        ("to_tag", "to_tag", Template),
    ]);
    let kind = work.fields.take("message_type").map(|node| {
        work.import.below("message_type", |import| import.translated(node.place));
        work.import.text(node)
    });
    match kind.as_deref() {
        Some("markdown") => {
            work.settings(&[("message", "markdown", Template)]);
            if !has(&work.out, "markdown") {
                work.out.push(("markdown".into(), Yaml::text("{{ title }}\n{{ brief }}")));
            }
        }
        _ => work.settings(&[("message", "text", Template)]),
    }
    work.http(Login::None);
    let is_given = |key: &str| work.text(key).is_some_and(|text| !text.is_empty());
    let missing = if !is_given("agent_id") {
        Some("nothing says which application: give `agent_id`")
    } else if !["to_user", "to_party", "to_tag"].into_iter().any(is_given) {
        Some("nothing says to whom: give `to_user`, `to_party` or `to_tag`")
    } else {
        None
    };
    work.end("wechat", false, missing)
}

impl<'w, 'n> Work<'w, 'n> {
    pub(super) fn new(
        import: &'w mut Import,
        node: &'n Node,
        receiver: &'w str,
        global: &'w Global,
        templates: &'w mut Templates,
    ) -> Work<'w, 'n> {
        let fields = import.fields(node);
        Work { import, fields, out: Vec::new(), receiver, global, templates }
    }

    /// Settings that have the same meaning: their names there and here.
    fn settings(&mut self, settings: &[(&'static str, &'static str, Kind)]) {
        for names in settings {
            let (fields, out) = (&mut self.fields, &mut self.out);
            setting(self.import, fields, out, *names, self.receiver, self.global, self.templates);
        }
    }

    /// Works on the settings in a map.
    fn below(&mut self, key: &'static str, node: &'n Node, work: impl FnOnce(&mut Self)) {
        self.import.enter(key);
        let within = self.import.fields(node);
        let around = std::mem::replace(&mut self.fields, within);
        work(self);
        let within = std::mem::replace(&mut self.fields, around);
        self.import.end(within);
        self.import.leave();
    }

    /// A setting that no alert can fill here, though it is a template there.
    fn fixed(&mut self, key: &'static str) {
        let Some(node) = self.fields.take(key) else { return };
        self.out.extend(fixed(self.import, node, key).map(|text| (key.to_owned(), text)));
    }

    fn refuse(&mut self, key: &'static str, words: &str) {
        if let Some(node) = self.fields.take(key) {
            self.import.below(key, |import| import.impossible(node.place, words));
        }
    }

    /// A template at `key`.
    fn template(&mut self, key: &str, node: &Node) -> Option<Yaml> {
        let text = self.import.text(node);
        let templates = &mut *self.templates;
        let translate = |import: &mut Import| templates.translate(import, &text, node.place, Target::Text);
        self.import.below(key, translate).map(Yaml::text)
    }

    /// A template of an issue, alone or with whether it is changed later.
    fn issue_text(&mut self, theirs: &'static str, ours: &str, update: &str) {
        let Some(node) = self.fields.take(theirs) else { return };
        if !matches!(node.value, Value::Map(_)) {
            let text = self.template(theirs, node);
            return self.out.extend(text.map(|text| (ours.to_owned(), text)));
        }
        self.below(theirs, node, |work| {
            if let Some(node) = work.fields.take("template") {
                let text = work.template("template", node);
                work.out.extend(text.map(|text| (ours.to_owned(), text)));
            }
            if let Some(node) = work.fields.take("enable_update") {
                let value = work.import.flag(node);
                work.import.below("enable_update", |import| import.translated(node.place));
                work.out.push((update.to_owned(), Yaml::Plain(value.to_string())));
            }
        });
    }

    /// Names, and a template for each.
    fn template_map(&mut self, key: &'static str) {
        let Some(node) = self.fields.take(key) else { return };
        let map = maps::template_map(self.import, node, key, self.templates);
        self.out.extend(map.map(|map| (key.to_owned(), map)));
    }

    /// Names, and YAML whose texts are templates for each. `own`: names that have settings of their own.
    fn template_tree(&mut self, key: &'static str, own: &[&str]) {
        let Some(node) = self.fields.take(key) else { return };
        let map = maps::template_tree(self.import, node, key, own, self.templates);
        self.out.extend(map.map(|map| (key.to_owned(), map)));
    }

    fn http(&mut self, login: Login) {
        let (fields, out) = (&mut self.fields, &mut self.out);
        take_http_config(self.import, fields, out, login, self.receiver, self.global);
    }

    /// The value of one of ours, where it is a text.
    fn text(&self, key: &str) -> Option<&str> {
        match self.out.iter().find(|(known, _)| known == key) {
            Some((_, Yaml::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// The action, unless something is missing without which it tells nobody.
    fn end(mut self, key: &str, resolved: bool, missing: Option<&str>) -> Result<Yaml, String> {
        send_resolved(self.import, &mut self.fields, &mut self.out, resolved);
        self.import.end(self.fields);
        match missing {
            None => Ok(Yaml::Map(vec![(key.into(), Yaml::Map(self.out))])),
            Some(missing) => Err(missing.to_owned()),
        }
    }
}
