//! A request as it leaves: with the delivery's id, who we are and, if wanted, a signature; and nothing secret in what is said
//! of it afterwards.

use std::sync::Mutex;

use ams2_core::input::DeliveryId;
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
use crate::{Clock, Failure, Receipt, Secret};

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

    /// Makes one request. With OAuth a token that is refused is fetched anew once: it may have been withdrawn.
    pub(crate) async fn post(
        &self,
        id: DeliveryId,
        mut request: Request,
        end: Instant,
    ) -> Result<Answer, Failure> {
        let id = id.to_string();
        let set = |request: &mut Request, name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).expect("digits, letters and base64");
            request.headers.insert(HeaderName::from_static(name), value);
        };
        set(&mut request, "idempotency-key", &id);
        if let Some(signer) = &self.signer {
            let now = (self.clock.0)().0.div_euclid(1000);
            let signature = signer.sign(&id, now, &request.body);
            set(&mut request, "webhook-id", &id);
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

    pub(crate) async fn probe(&self, url: &Url, deadline: std::time::Duration) -> Result<String, String> {
        self.client.probe(url, deadline).await
    }

    /// The outcome without anything secret in its words: far ends repeat what they were asked for.
    pub(crate) fn discreet(&self, url: &Url, result: Result<Receipt, Failure>) -> Result<Receipt, Failure> {
        match result {
            Ok(Receipt::Delivered { reply, memo, unfinished, refused }) => {
                Ok(Receipt::Delivered { reply: self.hide(url, reply), memo, unfinished, refused })
            }
            Ok(other) => Ok(other),
            Err(failure) => Err(Failure { reason: self.hide(url, failure.reason), ..failure }),
        }
    }

    fn hide(&self, url: &Url, words: String) -> String {
        let logins = self.logins.lock().unwrap_or_else(|e| e.into_inner());
        let secrets = self.hidden.iter().chain(logins.iter()).map(Secret::expose);
        crate::text::cut(&hide(words, secrets.chain([url.as_str()])), WORDS_BYTES_MAX).into_owned()
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
