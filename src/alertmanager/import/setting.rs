//! Settings that have the same meaning there and here: their names, and what kind of value each has.

use super::{
    global::Global,
    maps,
    templates::Templates,
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::{
    alertmanager::go_template::{self, Target},
    config::tree::{Node, Value},
};

pub(super) type Entries = Vec<(String, Yaml)>;

/// What a setting is.
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
    Fixed, GlobalBase, GlobalPlain, GlobalSecret, Secret, Template, TemplateMap, TemplateTree, UrlTemplate,
    Word, Words,
};

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
pub(super) fn secret(
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
pub(super) fn file_key(name: &str) -> &'static str {
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

/// Without a slash at the end, where paths are appended to it: theirs have one, ours do not.
fn as_base(text: &str, kind: Kind) -> String {
    match kind {
        GlobalBase(_) => text.trim_end_matches('/').to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
