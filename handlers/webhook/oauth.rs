//! Tokens by client credentials (RFC 6749 section 4.4), kept until they expire.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::{sync::Mutex, time::Instant};

use super::client::{Client, Request, place_of};
use crate::{Failure, Secret, text};

/// A token is fetched anew this long before it expires, so that none expires on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// Longest token that is taken, in bytes: a header must hold it.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Where tokens come from, and the one that is kept.
#[derive(Debug)]
pub(crate) struct OAuth {
    url: Url,
    client_id: String,
    client_secret: Secret,
    scopes: Vec<String>,
    /// Whether the login stands in the body, for servers that know no other way.
    in_body: bool,
    kept: Mutex<Option<Token>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    value: Secret,
    /// `None`: until it is refused.
    until: Option<Instant>,
}

impl OAuth {
    pub(crate) fn new(
        url: Url,
        client_id: String,
        client_secret: Secret,
        scopes: Vec<String>,
        in_body: bool,
    ) -> OAuth {
        OAuth { url, client_id, client_secret, scopes, in_body, kept: Mutex::new(None) }
    }

    /// What is secret in a request for a token, as it is sent.
    pub(crate) fn secrets(&self) -> [Secret; 2] {
        [Secret::new(form(self.client_secret.expose())), Secret::new(self.login())]
    }

    /// RFC 6749 section 2.3.1: both are encoded before they are put together.
    fn login(&self) -> String {
        let login = format!("{}:{}", form(&self.client_id), form(self.client_secret.expose()));
        format!("Basic {}", BASE64_STANDARD.encode(login))
    }

    /// The token that is kept, or a new one. `refused` was sent and not taken: it is not used again. Whoever asks meanwhile
    /// waits for the same token.
    pub(crate) async fn token(
        &self,
        client: &Client,
        refused: Option<&Secret>,
        end: Instant,
    ) -> Result<Secret, Failure> {
        let mut kept = self.kept.lock().await;
        let is_good = |token: &&Token| {
            Some(&token.value) != refused && token.until.is_none_or(|until| until > Instant::now())
        };
        if let Some(token) = kept.as_ref().filter(is_good) {
            return Ok(token.value.clone());
        }
        let token = self.fetch(client, end).await?;
        let value = token.value.clone();
        *kept = Some(token);
        Ok(value)
    }

    async fn fetch(&self, client: &Client, end: Instant) -> Result<Token, Failure> {
        let asked = Instant::now();
        let answer = client.send(self.request(), end).await.map_err(|failure| Failure {
            // Whatever came of it: the message itself was not sent.
            kind: crate::FailureKind::Transient,
            reason: format!("no token: {}", failure.reason),
            ..failure
        })?;
        let place = place_of(&self.url);
        // What is wrong with the login is not the message's fault: it waits.
        let failed = |what: String| Failure {
            retry_after_ms: answer.retry_after_ms,
            ..Failure::transient(format!("no token: {place}: {what}"))
        };
        let body: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        if answer.status != 200 {
            let words = |key: &str| body.as_ref().and_then(|body| body[key].as_str()).unwrap_or_default();
            let words = format!("{} {} {}", answer.status, words("error"), words("error_description"));
            return Err(failed(text::one_line(&text::cut(words.trim(), 512)).into_owned()));
        }
        let body = body.ok_or_else(|| failed("the answer is no JSON".into()))?;
        let value = body["access_token"].as_str().filter(|token| {
            (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic())
        });
        let value = value.ok_or_else(|| failed("there is no `access_token` in the answer".into()))?;
        let kind = body["token_type"].as_str().unwrap_or("bearer");
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(failed("its token is no bearer token".into()));
        }
        // Some say it as text.
        let seconds = body["expires_in"].as_u64().or_else(|| body["expires_in"].as_str()?.parse().ok());
        let until = seconds.map(|seconds| good_until(asked, seconds));
        Ok(Token { value: Secret::new(value), until })
    }

    fn request(&self) -> Request {
        let mut fields = vec![("grant_type", "client_credentials".to_owned())];
        if !self.scopes.is_empty() {
            fields.push(("scope", self.scopes.join(" ")));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if self.in_body {
            fields.push(("client_id", self.client_id.clone()));
            fields.push(("client_secret", self.client_secret.expose().to_owned()));
        } else {
            headers.insert(AUTHORIZATION, secret_header(&self.login()));
        }
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", form(value))).collect();
        Request { method: Method::POST, url: self.url.clone(), headers, body: body.join("&").into_bytes() }
    }
}

/// Until when something is used that was asked for then and lives for so many seconds.
pub(crate) fn good_until(asked: Instant, seconds: u64) -> Instant {
    let life = Duration::from_secs(seconds.min(86_400));
    // What lives shorter than twice the margin is good for half its life.
    asked + life.saturating_sub(MARGIN).max(life / 2)
}

/// As `application/x-www-form-urlencoded` has it, and a URL's query.
pub(crate) fn form(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A header that no trace shows. Base64 and what was checked for it are always headers.
pub(crate) fn secret_header(value: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(value).expect("checked when it was read");
    value.set_sensitive(true);
    value
}
