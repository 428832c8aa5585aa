//! `http_config`: what all that speak HTTP share. Logins, headers, proxies and certificates.

use super::{
    global::Global,
    setting::{Entries, has},
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::{
    alertmanager::go_template::is_template,
    config::{
        Place, is_login_of_proxy, is_secret_header,
        tree::{Node, Value},
    },
};

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

impl Login {
    /// The setting that a token becomes.
    fn token(self) -> Option<&'static str> {
        match self {
            Login::WebHook => Some("bearer_token"),
            Login::Token(name) => Some(name),
            Login::Settings => Some("token"),
            Login::None => None,
        }
    }
}

/// Takes `http_config`, or what `global` says instead.
pub(super) fn take_http_config(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    login: Login,
    receiver: &str,
    global: &Global,
) {
    match (fields.take("http_config"), &global.http) {
        (Some(node), _) => {
            import.below("http_config", |import| http_config(import, node, out, login, receiver));
        }
        (None, Some(node)) => {
            let path = ["global", "http_config"];
            import.again(&path, |import| http_config(import, node, out, login, "global"));
        }
        (None, None) => {}
    }
}

/// Whether an action's login is that of OAuth 2: its own, or that of `global`.
pub(super) fn has_oauth2(fields: &Fields<'_>, global: &Global) -> bool {
    let node = fields.peek("http_config").or(global.http.as_ref());
    node.is_some_and(|node| {
        node.key_place("oauth2").is_some() && !matches!(node.at("oauth2").value, Value::Null)
    })
}

/// What all that speak HTTP share.
pub(super) fn http_config(import: &mut Import, node: &Node, out: &mut Entries, login: Login, receiver: &str) {
    let mut fields = import.fields(node);
    if login == Login::WebHook && has(out, "basic_auth") {
        // It stood in the URL.
        for key in ["basic_auth", "authorization", "bearer_token", "bearer_token_file"] {
            if let Some(node) = fields.take(key) {
                import.below(key, |import| import.approximated(node.place, "the URL's login counts"));
            }
        }
    } else {
        basic_auth(import, &mut fields, out, login, receiver);
        authorization(import, &mut fields, out, login, receiver);
        bearer_token(import, &mut fields, out, login, receiver);
    }
    if let Some(node) = fields.take("oauth2") {
        import.below("oauth2", |import| match login {
            Login::WebHook => oauth2(import, node, out, receiver),
            _ => import.impossible(node.place, NO_LOGIN),
        });
    }
    if let Some(node) = fields.take("http_headers") {
        import.below("http_headers", |import| match login {
            Login::WebHook => headers(import, node, out, receiver),
            _ => import.impossible(node.place, "only the web hook has headers of its own"),
        });
    }
    if let Some(node) = fields.take("proxy_url") {
        let url = import.text(node);
        let url = import.below("proxy_url", |import| {
            if is_login_of_proxy(&url) {
                return from_variable(import, node.place, "no proxy with a login", ("proxy", receiver), url);
            }
            import.translated(node.place);
            url
        });
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
        let Some(token) = login.token() else { return import.impossible(node.place, NO_LOGIN) };
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

/// The older way to say `authorization`.
fn bearer_token(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    login: Login,
    receiver: &str,
) {
    let own = [
        ("bearer_token", fields.take("bearer_token")),
        ("bearer_token_file", fields.take("bearer_token_file")),
    ];
    for (key, node) in own.into_iter().filter_map(|(key, node)| Some((key, node?))) {
        import.below(key, |import| {
            let Some(token) = login.token() else { return import.impossible(node.place, NO_LOGIN) };
            let value = import.text(node);
            let (key, value) = match key {
                "bearer_token" => import.secret(token, receiver, value),
                _ => (format!("{token}_file"), value),
            };
            out.push((key, Yaml::text(value)));
            import.translated(node.place);
        });
    }
}

/// Client credentials.
fn oauth2(import: &mut Import, node: &Node, out: &mut Entries, receiver: &str) {
    let mut fields = import.fields(node);
    let mut oauth: Entries = Vec::new();
    for key in ["client_id", "token_url"] {
        if let Some(node) = fields.take(key) {
            let text = import.text(node);
            import.below(key, |import| import.translated(node.place));
            oauth.push((key.into(), Yaml::text(text)));
        }
    }
    secret_or_file(import, &mut fields, &mut oauth, ("client_secret", "client_secret_file"), receiver);
    if let Some(node) = fields.take("scopes") {
        let scopes: Vec<String> = import.list(node).iter().map(|item| import.text(item)).collect();
        import.below("scopes", |import| import.translated(node.place));
        if !scopes.is_empty() {
            oauth.push(("scopes".into(), Yaml::texts(scopes)));
        }
    }
    import.translated(node.place);
    import.end(fields);
    out.push(("oauth2".into(), Yaml::Map(oauth)));
}

/// Headers by name: values that everybody may read, and secrets. Several of one name are one list, as RFC 9110 section 5.3 has it.
fn headers(import: &mut Import, node: &Node, out: &mut Entries, receiver: &str) {
    let Value::Map(entries) = &node.value else {
        // Says that it is none.
        import.fields(node);
        return;
    };
    let mut headers: Entries = Vec::new();
    for (name, value) in entries {
        import.below(name.text.clone(), |import| {
            let mut fields = import.fields(value);
            let mut texts = Vec::new();
            let mut are_secret = false;
            for (key, secret) in [("values", false), ("secrets", true)] {
                let Some(node) = fields.take(key) else { continue };
                texts.extend(import.list(node).iter().map(|item| import.text(item)).collect::<Vec<_>>());
                are_secret |= secret;
            }
            if let Some(node) = fields.take("files") {
                let words = "no header comes from a file here: give it as `secrets`";
                import.below("files", |import| import.impossible(node.place, words));
            }
            import.end(fields);
            if texts.is_empty() {
                return;
            }
            let text = texts.join(", ");
            if is_template(&text) || ams2_handlers::render::Template::is_template(&text) {
                return import.impossible(name.place, "a header is not made from alerts");
            }
            if !are_secret && !is_secret_header(&name.text) {
                import.translated(name.place);
                return headers.push((name.text.clone(), Yaml::text(text)));
            }
            let reference = from_variable(import, name.place, "no header", (&name.text, receiver), text);
            headers.push((name.text.clone(), Yaml::text(reference)));
        });
    }
    if !headers.is_empty() {
        out.push(("headers".into(), Yaml::Map(headers)));
    }
}

/// What stands for a secret that no file can give: a reference to a variable. `what` is no such thing.
fn from_variable(
    import: &mut Import,
    place: Place,
    what: &str,
    (key, receiver): (&str, &str),
    value: String,
) -> String {
    let (reference, variable) = import.secret_variable(key, receiver, value);
    match variable {
        None => import.translated(place),
        Some(variable) => {
            let words = format!("{what} comes from a file here: give ams2 the variable {variable}");
            import.approximated(place, words);
        }
    }
    reference
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
        // A password may be empty, and is so where none is given.
        if key != "password" || !value.is_empty() {
            let (key, value) = import.secret(key, receiver, value);
            out.push((key, Yaml::text(value)));
        }
    }
    if let Some(node) = fields.take(file) {
        let path = import.text(node);
        out.push((file.into(), Yaml::text(path)));
    }
}
