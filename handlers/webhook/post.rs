//! A request as it leaves: with the delivery's id, who we are and, if wanted, a signature; and nothing secret in what is said
//! of it afterwards.

use std::sync::Mutex;

use ams2_core::Wall;
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use tokio::time::Instant;

use super::{
    client::{Answer, Client, Request},
    hide::hide,
    oauth::{OAuth, secret_header},
    sign::Signer,
};
use crate::{Clock, Failure, Receipt, Recipient, Secret};

/// What says that requests come from us.
#[derive(Debug)]
pub(crate) enum Auth {
    None,
    /// The value of `Authorization`.
    Header(HeaderValue),
    Tokens(Box<OAuth>),
}

/// Sends the requests of one action.
#[derive(Debug)]
pub(crate) struct Poster {
    client: Client,
    auth: Auth,
    signer: Option<Signer>,
    clock: ClockBox,
    hidden: Vec<Secret>,
    /// The newest logins that were sent.
    logins: Mutex<Vec<Secret>>,
}

/// A clock that can be shown.
struct ClockBox(Clock);

impl std::fmt::Debug for ClockBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock(..)")
    }
}

/// Most logins that are kept to be hidden: tokens change while requests are under way.
const LOGINS_MAX: usize = 8;
/// Longest failure words, so that `[hidden]` in place of something shorter fits.
const WORDS_BYTES_MAX: usize = ams2_core::input::REPLY_BYTES_MAX - 64;

impl Poster {
    /// `hidden`: secrets that a far end might repeat in its answer.
    pub(crate) fn new(
        client: Client,
        auth: Auth,
        signer: Option<Signer>,
        clock: Clock,
        mut hidden: Vec<Secret>,
    ) -> Poster {
        if let Auth::Tokens(oauth) = &auth {
            hidden.extend(oauth.secrets());
        }
        Poster { client, auth, signer, clock: ClockBox(clock), hidden, logins: Mutex::default() }
    }

    /// Makes one request, known by `id`. With OAuth a token that is refused is fetched anew once: it may have been withdrawn.
    pub(crate) async fn post(&self, id: &str, mut request: Request, end: Instant) -> Result<Answer, Failure> {
        let set = |request: &mut Request, name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).expect("digits, letters and base64");
            request.headers.insert(HeaderName::from_static(name), value);
        };
        set(&mut request, "idempotency-key", id);
        if let Some(signer) = &self.signer {
            let now = self.now().0.div_euclid(1000);
            let signature = signer.sign(id, now, &request.body);
            set(&mut request, "webhook-id", id);
            set(&mut request, "webhook-timestamp", &now.to_string());
            set(&mut request, "webhook-signature", &signature);
        }
        let oauth = match &self.auth {
            Auth::None => {
                self.remember(&request.headers);
                return self.client.send(request, end).await;
            }
            Auth::Header(value) => {
                request.headers.insert(AUTHORIZATION, value.clone());
                self.remember(&request.headers);
                return self.client.send(request, end).await;
            }
            Auth::Tokens(oauth) => oauth,
        };
        let with = |token: &Secret| {
            let mut headers = request.headers.clone();
            headers.insert(AUTHORIZATION, secret_header(&format!("Bearer {}", token.expose())));
            self.remember(&headers);
            let (method, url, body) = (request.method.clone(), request.url.clone(), request.body.clone());
            Request { method, url, headers, body }
        };
        let token = oauth.token(&self.client, None, end).await?;
        let answer = self.client.send(with(&token), end).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let token = oauth.token(&self.client, Some(&token), end).await?;
        self.client.send(with(&token), end).await
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Wall {
        (self.clock.0)()
    }

    pub(crate) async fn probe(&self, url: &Url, deadline: std::time::Duration) -> Result<String, String> {
        self.client.probe(url, deadline).await
    }

    /// The outcome without anything secret in its words: far ends repeat what they were asked for. `more`: what is secret
    /// beside the settings.
    pub(crate) fn discreet(
        &self,
        more: &[Secret],
        result: Result<Receipt, Failure>,
    ) -> Result<Receipt, Failure> {
        let failed = |failure: Failure| Failure { reason: self.hide(more, failure.reason), ..failure };
        let each = |refused: Vec<(Recipient, String)>| {
            refused.into_iter().map(|(recipient, words)| (recipient, self.hide(more, words))).collect()
        };
        match result {
            Ok(Receipt::Sent) => Ok(Receipt::Sent),
            Ok(Receipt::Delivered { reply, memo, unfinished, refused }) => {
                let (reply, refused) = (self.hide(more, reply), each(refused));
                Ok(Receipt::Delivered { reply, memo, unfinished, refused })
            }
            Ok(Receipt::Partial { failure, unfinished, refused }) => {
                let (failure, refused) = (failed(failure), each(refused));
                Ok(Receipt::Partial { failure, unfinished, refused })
            }
            Err(failure) => Err(failed(failure)),
        }
    }

    fn hide(&self, more: &[Secret], words: String) -> String {
        let logins = self.logins.lock().unwrap_or_else(|e| e.into_inner());
        let secrets = self.hidden.iter().chain(logins.iter()).chain(more).map(Secret::expose);
        crate::text::cut(&hide(words, secrets), WORDS_BYTES_MAX).into_owned()
    }

    /// Keeps the login of a request as it is sent.
    fn remember(&self, headers: &HeaderMap) {
        let Some(login) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return };
        let mut logins = self.logins.lock().unwrap_or_else(|e| e.into_inner());
        if logins.iter().all(|known| known.expose() != login) {
            if logins.len() == LOGINS_MAX {
                logins.remove(0);
            }
            logins.push(Secret::new(login));
        }
    }
}

/// What of a URL may be secret: all behind the host, whole and in parts.
pub(crate) fn secret_parts(url: &Url) -> [Secret; 3] {
    [url.as_str(), url.path(), url.query().unwrap_or_default()].map(Secret::new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::webhook::client::Options;

    /// Whatever the outcome is, nothing in its words is secret.
    #[test]
    fn no_outcome_has_a_secret_in_its_words() {
        let clock: Clock = Arc::new(|| Wall(0));
        let options = Options {
            proxy: None,
            tls: None,
            redirects: false,
            https: false,
            connections: 1,
            named: Vec::new(),
            host: None,
        };
        let client = Client::new(options, clock.clone()).expect("a client");
        let poster = Poster::new(client, Auth::None, None, clock, vec![Secret::new("canary-one")]);
        let words = || "canary-one and canary-two".to_owned();
        let refused = || vec![(Recipient(7), words())];
        let memo = || Some(b"canary-one".to_vec());
        let outcomes = [
            Ok(Receipt::Delivered { reply: words(), memo: memo(), unfinished: vec![], refused: refused() }),
            Ok(Receipt::Partial {
                failure: Failure::transient(words()),
                unfinished: vec![Recipient(8)],
                refused: refused(),
            }),
            Err(Failure::permanent(words())),
        ];
        let [done, partial, failed] =
            outcomes.map(|outcome| poster.discreet(&[Secret::new("canary-two")], outcome));
        let (hidden, refused) =
            ("[hidden] and [hidden]", vec![(Recipient(7), "[hidden] and [hidden]".into())]);
        let expected = Receipt::Delivered {
            reply: hidden.into(),
            memo: memo(),
            unfinished: vec![],
            refused: refused.clone(),
        };
        assert_eq!(done, Ok(expected), "what the next delivery gets back is kept");
        let failure = Failure::transient(hidden);
        assert_eq!(partial, Ok(Receipt::Partial { failure, unfinished: vec![Recipient(8)], refused }));
        assert_eq!(failed, Err(Failure::permanent(hidden)));
        assert_eq!(poster.discreet(&[], Ok(Receipt::Sent)), Ok(Receipt::Sent));
    }
}
