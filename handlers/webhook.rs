//! Web hooks: a notification as an HTTP request, by default with Alertmanager's body (version "4").
//!
//! One attempt is one request with the delivery's id in `Idempotency-Key`, the same on each attempt, as is the body. 2xx is
//! done; 408, 425, 429, 5xx and a far end that cannot be reached are tried again, when it says (`Retry-After`); any other status is for
//! good. The URL may be a secret: what is said of a far end names its host alone. Redirects are not followed unless the
//! config says so, and addresses inside are for hosts that the config names itself (`guard`).

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod guard;
mod hide;
pub(crate) mod oauth;
pub(crate) mod post;
pub(crate) mod sign;
pub(crate) mod sigv4;

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use tokio::time::Instant;

use crate::{
    Action, BuildContext, Defaults, Delivery, Failure, FileSetting, Kind, Receipt, Secret, SettingsError,
    json,
    render::{Scope, Template},
    settings::{Warnings, settings},
    target::{escape::Escape, tree::Tree},
    units,
};
pub use client::ClientTls;
use client::{Client, Options, Request, place_of};
use oauth::{OAuth, secret_header};
use post::{Auth, Poster, secret_parts};
use sign::Signer;

/// The entry in the table.
pub const KIND: Kind = Kind {
    key: "webhook",
    summary: "posts a notification to a URL, as Alertmanager does or by a template",
    examples: &[
        "webhook: { url: 'http://127.0.0.1:9/alerts' }",
        "webhook: { url: 'https://127.0.0.1:9/{{ receiver }}', method: PUT, signing_secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }",
        "webhook: { url: 'http://127.0.0.1:9/', bearer_token: example, body: { text: '{{ title }}', event: { name: '{{ event }}' } } }",
    ],
    files: &[
        FileSetting { key: "url_file", into: "url", secret: true, inline: true },
        FileSetting::secret("signing_secret_file", "signing_secret"),
        FileSetting::secret("bearer_token_file", "bearer_token"),
        FileSetting::secret("basic_auth.password_file", "basic_auth.password"),
        FileSetting::secret("oauth2.client_secret_file", "oauth2.client_secret"),
        FileSetting::public("tls.ca_file", "tls.ca"),
        FileSetting::public("tls.cert_file", "tls.cert"),
        FileSetting::secret("tls.key_file", "tls.key"),
    ],
    defaults: Defaults {
        send_resolved: true,
        max_in_flight: 4,
        batch_max: 1,
        timeout: units::Duration::from_seconds(30),
        max_alerts: 0,
        patient: false,
    },
};

settings! {
    /// Settings of a `webhook` action.
    pub struct Settings {
        /// Where it is sent: https:// or http://. A template, in whose host no address inside is allowed. From `url_file` where
        /// it is a secret.
        pub url: Secret,
        /// `POST`, `PUT` or `PATCH`; POST unless set.
        pub method: Option<String>,
        /// More headers and their values.
        pub headers: Option<BTreeMap<String, Secret>>,
        /// What is sent: a template for the text, or JSON whose texts are templates, of which no value can break out.
        /// Alertmanager's body (version "4") unless set.
        pub body: Option<Body>,
        /// What the body is; `application/json` unless set.
        pub content_type: Option<String>,
        /// Signs by Standard Webhooks with this secret (`whsec_...`); from `signing_secret_file` or `${env:NAME}`.
        pub signing_secret: Option<Secret>,
        /// A login by user and password.
        pub basic_auth: Option<BasicAuth>,
        /// A login by token; from `bearer_token_file` or `${env:NAME}`.
        pub bearer_token: Option<Secret>,
        /// A login by tokens of an authorisation server (client credentials).
        pub oauth2: Option<OAuth2>,
        /// The proxy that is used, such as http://proxy.example.com:3128. None unless set, whatever the environment says.
        pub proxy: Option<String>,
        /// Whom TLS trusts, and who we are.
        pub tls: Option<ClientTls>,
        /// Whether redirects are followed; `false` unless set.
        pub redirects: Option<bool>,
    }
}

/// User and password (RFC 7617).
#[derive(Clone, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// Its password, from `password_file` or `${env:NAME}`; empty unless set.
    pub password: Option<Secret>,
}

/// Client credentials (RFC 6749 section 4.4).
#[derive(Clone, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// Who we are.
    pub client_id: String,
    /// Our secret, from `client_secret_file` or `${env:NAME}`.
    pub client_secret: Secret,
    /// Where tokens are given out.
    pub token_url: String,
    /// What the token is for.
    pub scopes: Option<Vec<String>>,
    /// Whether id and secret stand in the body; in the header unless set.
    pub secret_in_body: Option<bool>,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// By a template.
    Text(String),
    /// As JSON whose texts are templates.
    Json(serde_json::Value),
}

impl<'de> serde::Deserialize<'de> for Body {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Body, D::Error> {
        Ok(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Body::Text(text),
            tree @ (serde_json::Value::Object(_) | serde_json::Value::Array(_)) => Body::Json(tree),
            _ => return Err(serde::de::Error::custom("expected a template, or JSON as a map or a list")),
        })
    }
}

impl schemars::JsonSchema for Body {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Body".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, { "type": "object" }, { "type": "array" }] })
    }
}

/// Headers that are ours, or HTTP's own.
const OUR_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "te",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// A web hook that is ready.
struct WebHook {
    url: Place,
    method: Method,
    headers: HeaderMap,
    body: Written,
    poster: Poster,
}

/// The URL may be a secret, and so may headers.
impl std::fmt::Debug for WebHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebHook").field("poster", &self.poster).finish_non_exhaustive()
    }
}

/// Where requests go.
enum Place {
    Fixed(Url),
    /// By a template; the host, if it is the same for all.
    Template(Template, Option<String>),
}

/// How the body is written.
enum Written {
    Alertmanager,
    Text(Template),
    Json(Tree),
}

impl Warnings for Settings {
    fn warnings(&self) -> Vec<SettingsError> {
        let has_login = self.basic_auth.is_some() || self.bearer_token.is_some() || self.oauth2.is_some();
        if !has_login || !client::is_far_in_the_clear(self.url.expose()) {
            return Vec::new();
        }
        let message = "the login goes over the network in the clear";
        vec![SettingsError::new("url", message, "write https://, if the far end speaks it")]
    }
}

impl Settings {
    /// The words of `older`, sent where these settings say.
    pub(crate) fn with_texts_of(&self, older: &Settings) -> Settings {
        Settings { body: older.body.clone(), content_type: older.content_type.clone(), ..self.clone() }
    }

    pub(crate) fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let url = self.place().map_err(|error| errors.push(error));
        let method = self.method().map_err(|error| errors.push(error));
        let headers = self.headers().map_err(|found| errors.extend(found));
        let body = self.written().map_err(|error| errors.push(error));
        let signer = self.signing_secret.as_ref().map(|secret| Signer::new(secret.expose())).transpose();
        let signer = signer.map_err(|what| {
            let mend = "use the secret that the far end shows, or 32 random bytes in base64 behind `whsec_`";
            errors.push(SettingsError::new("signing_secret", what, mend));
        });
        let auth = self.auth().map_err(|error| errors.push(error));
        let (Ok(url), Ok(auth)) = (url, auth) else { return Err(errors) };
        let client = Client::new(self.options(&url, &auth), context.clock.clone());
        let client = client.map_err(|found| errors.extend(found));
        if self.proxy.is_some() && matches!(url, Place::Template(_, None)) {
            let message = "a host from a template cannot be checked behind a proxy";
            errors.push(SettingsError::new("proxy", message, "write the host itself into `url`"));
        }
        match (method, headers, body, signer, client) {
            (Ok(method), Ok(headers), Ok(body), Ok(signer), Ok(client)) if errors.is_empty() => {
                let poster = Poster::new(client, auth.0, signer, context.clock.clone(), self.hidden());
                Ok(Box::new(WebHook { url, method, headers, body, poster }))
            }
            _ => Err(errors),
        }
    }

    fn place(&self) -> Result<Place, SettingsError> {
        let text = self.url.expose();
        let wrong = |what: String| {
            SettingsError::new(
                "url",
                format!("it is no URL of a web hook: {what}"),
                "write https://host/path",
            )
        };
        if !Template::is_template(text) {
            return client::url(text).map(Place::Fixed).map_err(wrong);
        }
        let compiled = Template::compile_with(text, Scope::Message(Escape::Url), &self.templates);
        let template = compiled.map_err(|error| {
            SettingsError::new("url", format!("its template is wrong: {error}"), "correct the template")
        })?;
        let (scheme, rest) = text.split_once("://").unwrap_or(("", ""));
        if scheme != "https" && scheme != "http" {
            return Err(wrong("it begins with neither http:// nor https://".into()));
        }
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let host = match Template::is_template(authority) || authority.contains(['{', '}']) {
            true => None,
            false => {
                let fixed = client::url(&format!("{scheme}://{authority}/")).map_err(wrong)?;
                fixed.host_str().map(str::to_owned)
            }
        };
        Ok(Place::Template(template, host))
    }

    fn method(&self) -> Result<Method, SettingsError> {
        match self.method.as_deref() {
            None | Some("POST") => Ok(Method::POST),
            Some("PUT") => Ok(Method::PUT),
            Some("PATCH") => Ok(Method::PATCH),
            Some(other) => {
                let message = format!("{other:?} is no way to send a body");
                Err(SettingsError::new("method", message, "use POST, PUT or PATCH"))
            }
        }
    }

    fn headers(&self) -> Result<HeaderMap, Vec<SettingsError>> {
        let (mut headers, mut errors) = (HeaderMap::new(), Vec::new());
        let has_login = self.basic_auth.is_some() || self.bearer_token.is_some() || self.oauth2.is_some();
        for (name, value) in self.headers.iter().flatten() {
            let lower = name.to_ascii_lowercase();
            let field = format!("headers.{name}");
            if OUR_HEADERS.contains(&lower.as_str()) || (has_login && lower == "authorization") {
                let message = format!("{name:?} is set by ams2");
                errors.push(SettingsError::new(field, message, "remove it; there may be a setting for it"));
                continue;
            }
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose())) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.append(name, value);
                }
                (Err(_), _) => {
                    let message = format!("{name:?} is no name of a header");
                    errors.push(SettingsError::new("headers", message, "use a name like X-Team"));
                }
                (_, Err(_)) => {
                    let mend = "use ASCII without control characters";
                    errors.push(SettingsError::new(field, "a value that no header can have", mend));
                }
            }
        }
        let content_type = self.content_type.as_deref().unwrap_or("application/json");
        match HeaderValue::from_str(content_type) {
            Ok(value) if !content_type.is_empty() => drop(headers.insert(CONTENT_TYPE, value)),
            _ => {
                let message = format!("{content_type:?} is no type of content");
                errors.push(SettingsError::new("content_type", message, "write it like text/plain"));
            }
        }
        if errors.is_empty() { Ok(headers) } else { Err(errors) }
    }

    fn written(&self) -> Result<Written, SettingsError> {
        Ok(match &self.body {
            None => Written::Alertmanager,
            Some(Body::Text(source)) => {
                let template = Template::compile_with(source, Scope::Delivery, &self.templates);
                Written::Text(template.map_err(|error| error.of_setting("body"))?)
            }
            Some(Body::Json(tree)) => {
                let tree = Tree::compile(tree, Scope::Message(Escape::None), &self.templates);
                Written::Json(
                    tree.map_err(|error| SettingsError::new("body", error, "correct the template"))?,
                )
            }
        })
    }

    /// Who we are, and the host that says so.
    fn auth(&self) -> Result<(Auth, Option<String>), SettingsError> {
        match (&self.basic_auth, &self.bearer_token, &self.oauth2) {
            (None, None, None) => Ok((Auth::None, None)),
            (Some(login), None, None) => {
                let BasicAuth { username, password } = login;
                if username.contains(':') {
                    let message = "a user with a colon, which the far end would take for its end";
                    return Err(SettingsError::new("basic_auth.username", message, "remove it"));
                }
                if username.is_empty() {
                    let mend = "write who we are, or remove `basic_auth`";
                    return Err(SettingsError::new("basic_auth.username", "it is empty", mend));
                }
                let password = password.as_ref().map(Secret::expose);
                if password.is_some_and(str::is_empty) {
                    let mend = "write the password there, or remove the setting where the user has none";
                    return Err(SettingsError::new("basic_auth.password", "it is empty", mend));
                }
                let password = password.unwrap_or_default();
                if [username.as_str(), password].iter().any(|text| text.contains(char::is_control)) {
                    let message = "control characters in a login";
                    return Err(SettingsError::new("basic_auth", message, "remove them"));
                }
                let login = BASE64_STANDARD.encode(format!("{username}:{password}"));
                Ok((Auth::Header(secret_header(&format!("Basic {login}"))), None))
            }
            (None, Some(token), None) => {
                let is_token = |b: u8| b.is_ascii_graphic();
                if token.expose().is_empty() || !token.expose().bytes().all(is_token) {
                    let mend = "use the token alone, without `Bearer` before it";
                    return Err(SettingsError::new("bearer_token", "it is no token", mend));
                }
                Ok((Auth::Header(secret_header(&format!("Bearer {}", token.expose()))), None))
            }
            (None, None, Some(oauth)) => {
                let url = client::url(&oauth.token_url).map_err(|what| {
                    let mend = "write https://login.example.com/token";
                    SettingsError::new("oauth2.token_url", format!("it is no URL: {what}"), mend)
                })?;
                let host = url.host_str().map(str::to_owned);
                let scopes = oauth.scopes.clone().unwrap_or_default();
                let in_body = oauth.secret_in_body.unwrap_or(false);
                let (id, secret) = (oauth.client_id.clone(), oauth.client_secret.clone());
                Ok((Auth::Tokens(Box::new(OAuth::new(url, id, secret, scopes, in_body))), host))
            }
            _ => {
                let mend = "keep one of `basic_auth`, `bearer_token` and `oauth2`";
                let field = if self.oauth2.is_some() { "oauth2" } else { "bearer_token" };
                Err(SettingsError::new(field, "more than one login", mend))
            }
        }
    }

    fn options<'a>(&'a self, url: &Place, auth: &(Auth, Option<String>)) -> Options<'a> {
        let host = match url {
            Place::Fixed(url) => url.host_str().map(str::to_owned),
            Place::Template(_, host) => host.clone(),
        };
        let is_https = |text: &str| text.starts_with("https:");
        Options {
            proxy: self.proxy.as_deref(),
            tls: self.tls.as_ref(),
            redirects: self.redirects.unwrap_or(false),
            https: is_https(self.url.expose())
                || self.oauth2.as_ref().is_some_and(|oauth| is_https(&oauth.token_url)),
            connections: self.common().limits(&KIND.defaults).max_in_flight as usize,
            named: host.iter().chain(&auth.1).cloned().collect(),
            host,
        }
    }

    /// What a far end might repeat, and nobody should read.
    fn hidden(&self) -> Vec<Secret> {
        let headers = self.headers.iter().flatten().map(|(_, value)| value);
        let logins = [&self.bearer_token, &self.signing_secret].into_iter().flatten();
        let basic = self.basic_auth.iter().filter_map(|login| login.password.as_ref());
        let oauth = self.oauth2.iter().map(|oauth| &oauth.client_secret);
        headers.chain(logins).chain(basic).chain(oauth).cloned().collect()
    }
}

#[async_trait::async_trait]
impl Action for WebHook {
    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let end = Instant::now() + deadline;
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            results.push(self.tell(delivery, end).await);
        }
        results
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        match &self.url {
            Place::Fixed(url) => self.poster.probe(url, deadline).await,
            Place::Template(template, Some(_)) => {
                // The template's own text has scheme, host and port.
                let source = template.source();
                let (scheme, rest) = source.split_once("://").unwrap_or_default();
                let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
                let url = client::url(&format!("{scheme}://{authority}/"))?;
                self.poster.probe(&url, deadline).await
            }
            Place::Template(_, None) => Ok("its host comes from a template: there is none to ask".into()),
        }
    }
}

impl WebHook {
    async fn tell(&self, delivery: &Delivery, end: Instant) -> Result<Receipt, Failure> {
        let url = self.url.of(delivery).map_err(Failure::permanent)?;
        let body = self.body.of(delivery).map_err(Failure::permanent)?;
        let request =
            Request { method: self.method.clone(), url: url.clone(), headers: self.headers.clone(), body };
        let answer = self.poster.post(&delivery.id.to_string(), request, end).await;
        self.poster.discreet(&secret_parts(&url), answer.and_then(|answer| answer::classify(&url, &answer)))
    }
}

impl Place {
    fn of(&self, delivery: &Delivery) -> Result<Url, String> {
        let (template, host) = match self {
            Place::Fixed(url) => return Ok(url.clone()),
            Place::Template(template, host) => (template, host),
        };
        let text = template
            .render_message(delivery)
            .map_err(|error| format!("the template `url` failed: {error}"))?;
        let url = checked(&text)?;
        match host {
            Some(host) if url.host_str() != Some(host) => Err("the template `url` gives another host".into()),
            _ => Ok(url),
        }
    }
}

/// A URL that a template gave. No value in it may lead to another folder.
pub(crate) fn checked(text: &str) -> Result<Url, String> {
    let url = client::url(text).map_err(|what| format!("the template `url` gives no URL: {what}"))?;
    let path = text.split_once("://").map_or("", |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let leads_away = |part: &str| {
        let plain = part.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    if path.split('/').any(leads_away) {
        return Err(format!("{}: the template `url` gives a path that leads elsewhere", place_of(&url)));
    }
    Ok(url)
}

impl Written {
    /// The body. A template that fails makes a dead letter: a far end that wants a body of its own would take another for
    /// told, and nobody would know.
    fn of(&self, delivery: &Delivery) -> Result<Vec<u8>, String> {
        let failed = |error: String| format!("the template `body` failed: {error}");
        match self {
            Written::Alertmanager => Ok(json::alertmanager(delivery)),
            Written::Text(template) => {
                template.render(delivery).map(String::into_bytes).map_err(|error| failed(error.to_string()))
            }
            Written::Json(tree) => {
                let value = tree.render(&crate::target::context(delivery)).map_err(failed)?;
                Ok(serde_json::to_vec(&value).expect("JSON encodes"))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;
