//! Mail: an action of its own here, whose server and login may stand in `global` there.

use super::{
    global::Global,
    receivers::send_resolved,
    setting::{Entries, Kind::GlobalSecret, setting},
    templates::Templates,
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::{
    alertmanager::go_template::{self, Target},
    config::tree::{Node, Value},
};

/// Mail: the server and the login may stand in `global`.
pub(super) fn email(
    import: &mut Import,
    node: &Node,
    receiver: &str,
    global: &Global,
    templates: &mut Templates,
) -> Result<Yaml, String> {
    let mut fields = import.fields(node);
    let mut out: Entries = Vec::new();
    let mut missing = None;
    if let Some(node) = fields.take("to") {
        let to = import.text(node);
        import.below("to", |import| {
            if go_template::is_template(&to) {
                missing = Some("nobody is named in its `to`".to_owned());
                import.impossible(node.place, "recipients are not made from alerts: make a route for each");
            } else {
                import.translated(node.place);
            }
        });
        out.push(("to".into(), Yaml::texts(addresses(&to))));
    }
    let text = |import: &mut Import, fields: &mut Fields<'_>, key: &'static str, name: &str| {
        let own = fields.take(key).map(|node| {
            import.below(key, |import| import.translated(node.place));
            import.text(node)
        });
        own.or_else(|| global.text(name).map(str::to_owned))
    };
    if let Some(from) = text(import, &mut fields, "from", "smtp_from") {
        out.push(("from".into(), Yaml::text(from)));
    }
    let host = text(import, &mut fields, "smarthost", "smtp_smarthost");
    let hello = text(import, &mut fields, "hello", "smtp_hello");
    let user = text(import, &mut fields, "auth_username", "smtp_auth_username");
    let flag = |import: &mut Import, fields: &mut Fields<'_>, key: &'static str| {
        fields.take(key).map(|node| {
            import.below(key, |import| import.translated(node.place));
            import.flag(node)
        })
    };
    let require_tls = flag(import, &mut fields, "require_tls").or(global.require_tls).unwrap_or(true);
    let implicit = flag(import, &mut fields, "force_implicit_tls").unwrap_or(global.implicit_tls);
    if let Some(host) = host {
        let implicit = implicit || host.ends_with(":465");
        let scheme = if implicit { "smtps" } else { "smtp" };
        out.push(("smtp".into(), Yaml::text(format!("{scheme}://{host}"))));
        if !implicit && !require_tls {
            out.push(("tls".into(), Yaml::text("none")));
        }
    }
    out.extend(hello.map(|hello| ("hello".to_owned(), Yaml::text(hello))));
    if let Some(user) = user {
        out.push(("user".into(), Yaml::text(user)));
        let kind = GlobalSecret("smtp_auth_password");
        let name = ("auth_password", "password", kind);
        setting(import, &mut fields, &mut out, name, receiver, global, templates);
        if out.iter().all(|(key, _)| !key.starts_with("password"))
            && let Some(path) = global.text("smtp_auth_password_file")
        {
            out.push(("password_file".into(), Yaml::text(path)));
        }
    }
    for key in ["auth_secret", "auth_secret_file", "auth_identity"] {
        if let Some(node) = fields.take(key) {
            import.below(key, |import| {
                import.impossible(node.place, "CRAM-MD5 and identities are not known: PLAIN and LOGIN are")
            });
        }
    }
    if let Some(node) = fields.take("headers") {
        import.below("headers", |import| headers(import, node, &mut out, templates));
    }
    for (key, target) in [("text", Target::Text), ("html", Target::Html)] {
        let Some(node) = fields.take(key) else { continue };
        let template = import.text(node);
        if key == "html" && template.is_empty() {
            import.below(key, |import| import.translated(node.place));
            out.push(("html".into(), Yaml::Plain("false".into())));
            continue;
        }
        let translated =
            import.below(key, |import| templates.translate(import, &template, node.place, target));
        out.extend(translated.filter(|text| !text.is_empty()).map(|text| (key.to_owned(), Yaml::text(text))));
    }
    if let Some(node) = fields.take("tls_config") {
        import.below("tls_config", |import| {
            let mut inner = import.fields(node);
            if let Some(node) = inner.take("ca_file") {
                let path = import.text(node);
                import.below("ca_file", |import| import.translated(node.place));
                out.push(("ca_file".into(), Yaml::text(path)));
            }
            import.end(inner);
        });
    }
    if let Some(node) = fields.take("threading") {
        import.below("threading", |import| {
            import.approximated(node.place, "the mails of a group are always one thread");
        });
    }
    send_resolved(import, &mut fields, &mut out, false);
    import.end(fields);
    match missing {
        None => Ok(Yaml::Map(vec![("email".into(), Yaml::Map(out))])),
        Some(missing) => Err(missing),
    }
}

/// The addresses of a list (RFC 5322 section 3.4): commas within quotes and comments end none.
fn addresses(list: &str) -> Vec<&str> {
    let (mut found, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped, mut comments) = (false, false, 0_usize);
    for (at, c) in list.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted || comments > 0 => is_escaped = true,
            '"' if comments == 0 => is_quoted = !is_quoted,
            '(' if !is_quoted => comments += 1,
            ')' if !is_quoted => comments = comments.saturating_sub(1),
            ',' if !is_quoted && comments == 0 => {
                found.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&list[start..]);
    found.into_iter().map(str::trim).filter(|address| !address.is_empty()).collect()
}

/// `Subject` and `Reply-To` have settings of their own.
fn headers(import: &mut Import, node: &Node, out: &mut Entries, templates: &mut Templates) {
    let Value::Map(entries) = &node.value else {
        import.fields(node);
        return;
    };
    let mut more: Entries = Vec::new();
    for (key, value) in entries {
        let text = import.text(value);
        import.below(key.text.clone(), |import| {
            let Some(text) = templates.translate(import, &text, value.place, Target::Text) else { return };
            match key.text.to_ascii_lowercase().as_str() {
                "subject" => out.push(("subject".into(), Yaml::text(text))),
                "reply-to" => out.push(("reply_to".into(), Yaml::text(text))),
                _ => more.push((key.text.clone(), Yaml::text(text))),
            }
        });
    }
    if !more.is_empty() {
        out.push(("headers".into(), Yaml::Map(more)));
    }
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn commas_within_quotes_and_comments_end_no_address() {
        let rows: [(&str, &[&str]); 8] = [
            ("a@example.com", &["a@example.com"]),
            ("a@example.com,  b@example.com,", &["a@example.com", "b@example.com"]),
            (
                r#""Doe, John" <j@example.com>, a@example.com"#,
                &[r#""Doe, John" <j@example.com>"#, "a@example.com"],
            ),
            (
                r#""Doe \", J" <j@example.com>,a@example.com"#,
                &[r#""Doe \", J" <j@example.com>"#, "a@example.com"],
            ),
            (
                "a@example.com (noc, (day, night)), b@example.com",
                &["a@example.com (noc, (day, night))", "b@example.com"],
            ),
            (r"a@example.com (:-\), x), b@example.com", &[r"a@example.com (:-\), x)", "b@example.com"]),
            ("a@example.com) , b@example.com", &["a@example.com)", "b@example.com"]),
            (" , ", &[]),
        ];
        for (list, expected) in rows {
            assert_eq!(addresses(list), expected, "{list}");
        }
    }
}
