//! Settings that have the same meaning there and here: their names, and what kind of value each has.

use super::{
    global::Global,
    http::has_oauth2,
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

/// Whether one of ours is given, itself or by a file.
pub(super) fn has(out: &Entries, key: &str) -> bool {
    out.iter().any(|(known, _)| known.strip_suffix("_file").unwrap_or(known) == key)
}

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
        && let Some(node) = fields.take(theirs)
    {
        let oauth2 = has_oauth2(fields, global);
        return url(import, node, out, (theirs, ours), receiver, oauth2, templates);
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

/// The URL of a web hook, a template or a secret. A login in it is one of ours, unless `http_config` gives one by OAuth 2: that counts there.
fn url(
    import: &mut Import,
    node: &Node,
    out: &mut Entries,
    (theirs, ours): (&'static str, &'static str),
    receiver: &str,
    has_oauth2: bool,
    templates: &mut Templates,
) {
    let text = import.text(node);
    let (text, login) = match without_login(&text) {
        Some((url, user, password)) => (url, Some((user, password))),
        None => (text, None),
    };
    let is_template = go_template::is_template(&text);
    if has_oauth2 && login.is_some() {
        let words = "the login of `oauth2` counts, not the URL's";
        import.below(theirs, |import| import.approximated(node.place, words));
    } else if !is_template {
        import.below(theirs, |import| import.translated(node.place));
    }
    if is_template {
        let translate = |import: &mut Import| templates.translate(import, &text, node.place, Target::Text);
        out.extend(import.below(theirs, translate).map(|url| (ours.to_owned(), Yaml::text(url))));
    } else {
        let (key, url) = import.secret(ours, receiver, text);
        out.push((key, Yaml::text(url)));
    }
    let Some((user, password)) = login.filter(|_| !has_oauth2) else { return };
    let mut login = vec![("username".to_owned(), Yaml::text(user))];
    if !password.is_empty() {
        let (key, password) = import.secret("password", receiver, password);
        login.push((key, Yaml::text(password)));
    }
    out.push(("basic_auth".into(), Yaml::Map(login)));
}

/// A URL without the login that stands in it, and that: user and password, which may be empty. `None` where there is none that is plain
/// text.
fn without_login(url: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (login, host) = authority.rsplit_once('@')?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (user, password) = (decoded(user)?, decoded(password)?);
    (!go_template::is_template(login)).then(|| (format!("{scheme}://{host}{path}"), user, password))
}

/// A text without its percent-encoding (RFC 3986 section 2.1); `None` if it is encoded otherwise, or becomes no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
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
            ("http://u@h/", Some(("http://h/", "u", ""))),
            ("http://u:@h/", Some(("http://h/", "u", ""))),
            ("http://:p@h/", Some(("http://h/", "", "p"))),
            ("http://u%3a1:a%40b%C3%BC@h/%40", Some(("http://h/%40", "u:1", "a@bü"))),
            ("http://u:p@h/{{ .Status }}", Some(("http://h/{{ .Status }}", "u", "p"))),
            ("http://u:{{ .Status }}@h/", None),
            ("http://u:%4@h/", None),
            ("http://u:%+1@h/", None),
            ("http://u:%ff@h/", None),
            ("u:p@h", None),
        ];
        for (url, expected) in rows {
            let found = without_login(url);
            let found = found.as_ref().map(|(url, user, word)| (url.as_str(), user.as_str(), word.as_str()));
            assert_eq!(found, expected, "{url}");
        }
    }
}
