//! `forward`: alerts go to another server of ours, which takes charge of them once they are on its disk.
//!
//! The journal is the spool: what a parent has not taken waits there for as long as it takes. Nothing is told twice: each
//! alert is known by the place at which it was accepted first.

mod parents;
pub mod wire;

use std::{collections::BTreeMap, time::Duration};

use ams2_core::trail;
use reqwest::{
    Method, Url,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use tokio::time::Instant;

use crate::{
    Action, Alert, BuildContext, Delivery, Failure, FailureKind, FileSetting, Kind, Receipt, Report, Secret,
    SettingsError, check_in,
    settings::{Defaults, Warnings, settings},
    text, units,
    webhook::{
        ClientTls, answer,
        client::{self, Client, Options, Request, place_of},
        oauth::secret_header,
        post::{Auth, Poster},
    },
};
pub use parents::Choose;
use parents::Parents;
use wire::{ALERTS_MAX, Answer, Batch, Server};

/// The entry in the table.
pub const KIND: Kind = Kind {
    key: "forward",
    summary: "hands alerts on to another ams2, which takes charge once they are on its disk",
    examples: &[
        "forward: { to: ['http://127.0.0.1:9'] }",
        "forward: { to: ['https://127.0.0.1:9', 'https://[::1]:9/ams2'], choose: nearest, bearer_token: example, labels: { site: boston } }",
    ],
    files: &[
        FileSetting::secret("bearer_token_file", "bearer_token"),
        FileSetting::public("tls.ca_file", "tls.ca"),
        FileSetting::public("tls.cert_file", "tls.cert"),
        FileSetting::secret("tls.key_file", "tls.key"),
    ],
    defaults: Defaults {
        send_resolved: true,
        max_in_flight: 2,
        batch_max: ALERTS_MAX as u32,
        timeout: units::Duration::from_seconds(30),
        max_alerts: 0,
        patient: true,
    },
};

settings! {
    /// Settings of a `forward` action.
    pub struct Settings {
        /// Other servers, as `https://host:port`, with the prefix that they answer below, if any. One of them takes each alert.
        pub to: Vec<String>,
        /// Which of several: the first that is there (`in_order`), or the `nearest`; `in_order` unless set.
        pub choose: Option<Choose>,
        /// Who we are, by the token of a client there; from `bearer_token_file` or `${env:NAME}`.
        pub bearer_token: Option<Secret>,
        /// Labels that alerts get on the way, where they have none of these names.
        pub labels: Option<BTreeMap<SmolStr, SmolStr>>,
        /// Most alerts that wait here; of more the oldest are dropped, the least severe first, counted and said. No limit unless
        /// set.
        pub spool_max: Option<u32>,
        /// The proxy that is used, such as http://proxy.example.com:3128. None unless set, whatever the environment says.
        pub proxy: Option<String>,
        /// Whom TLS trusts, and who we are.
        pub tls: Option<ClientTls>,
    }
}

/// Fewest alerts that may wait: what two requests carry are on their way at once.
const SPOOL_MIN: u32 = 2 * ALERTS_MAX as u32;
/// Most parents of one action.
const PARENTS_MAX: usize = 16;
/// How long a parent may take to say that it is there.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// Bytes of names and values in one request: whatever must be escaped in them, a parent with the usual limit takes it.
const REQUEST_BYTES: usize = 1 << 20;

/// An alert, in which delivery, and where that stands in the batch.
type Item<'a> = (usize, &'a Delivery, &'a Alert);

/// A forwarder that is ready.
#[derive(Debug)]
struct Forward {
    parents: std::sync::Arc<Parents>,
    poster: std::sync::Arc<Poster>,
    labels: BTreeMap<SmolStr, SmolStr>,
}

impl Warnings for Settings {
    fn warnings(&self) -> Vec<SettingsError> {
        let in_the_clear =
            self.bearer_token.is_some() && self.to.iter().any(|to| client::is_far_in_the_clear(to));
        let message = "the token goes over the network in the clear";
        let warn =
            || SettingsError::new("to", message, "write https://, and give the other server a certificate");
        in_the_clear.then(warn).into_iter().collect()
    }
}

impl Settings {
    /// Nothing of it is words.
    pub(crate) fn with_texts_of(&self, _: &Settings) -> Settings {
        self.clone()
    }

    pub(crate) fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let urls: Vec<Url> = self.urls(&mut errors);
        if let Some(token) = &self.bearer_token
            && (token.expose().is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()))
        {
            let mend = "use the token alone, without `Bearer` before it";
            errors.push(SettingsError::new("bearer_token", "it is no token", mend));
        }
        for name in self.labels.iter().flatten().map(|(name, _)| name) {
            if name.is_empty() || matches!(name.as_str(), "source") {
                let message = format!("the label {name:?} cannot be given");
                errors.push(SettingsError::new("labels", message, "use another name"));
            }
        }
        if self.spool_max.is_some_and(|most| most < SPOOL_MIN) {
            let mend = format!("use {SPOOL_MIN} or more, or leave it out for no limit");
            errors.push(SettingsError::new("spool_max", "less than two requests carry", mend));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let hosts: Vec<String> = urls.iter().filter_map(|url| url.host_str().map(str::to_owned)).collect();
        let options = Options {
            proxy: self.proxy.as_deref(),
            tls: self.tls.as_ref(),
            redirects: false,
            https: urls.iter().any(|url| url.scheme() == "https"),
            connections: self.common().limits(&KIND.defaults).max_in_flight as usize,
            host: hosts.first().filter(|first| hosts.iter().all(|host| host == *first)).cloned(),
            named: hosts,
        };
        let client = Client::new(options, context.clock.clone())?;
        let auth = match &self.bearer_token {
            Some(token) => Auth::Header(secret_header(&format!("Bearer {}", token.expose()))),
            None => Auth::None,
        };
        let hidden = self.bearer_token.iter().cloned().collect();
        Ok(Box::new(Forward {
            parents: Parents::new(urls, self.choose.unwrap_or_default()).into(),
            poster: Poster::new(client, auth, None, context.clock.clone(), hidden).into(),
            labels: self.labels.clone().unwrap_or_default(),
        }))
    }

    /// Where each parent takes alerts.
    fn urls(&self, errors: &mut Vec<SettingsError>) -> Vec<Url> {
        let mut urls: Vec<Url> = Vec::new();
        if self.to.is_empty() || self.to.len() > PARENTS_MAX {
            let message = format!("{} servers", self.to.len());
            errors.push(SettingsError::new("to", message, format!("name 1 to {PARENTS_MAX}")));
        }
        for (place, text) in self.to.iter().enumerate().take(PARENTS_MAX) {
            let mut wrong = |what: String| {
                let mend = "write https://host:port, and no path but the prefix of that server";
                errors.push(SettingsError::new(
                    format!("to[{place}]"),
                    format!("it is no server: {what}"),
                    mend,
                ));
            };
            match client::url(text) {
                Ok(url) if url.query().is_some() => wrong("nobody reads what follows a `?`".into()),
                Ok(url) => {
                    let path = format!("{}{}", url.path().trim_end_matches('/'), wire::PATH);
                    let mut url = url;
                    url.set_path(&path);
                    if urls.contains(&url) {
                        wrong("it is there twice".into());
                    }
                    urls.push(url);
                }
                Err(what) => wrong(what),
            }
        }
        urls
    }
}

#[async_trait::async_trait]
impl Action for Forward {
    fn batch_max(&self) -> usize {
        ALERTS_MAX
    }

    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let end = Instant::now() + deadline;
        self.look();
        let mut results: Vec<Option<Result<Receipt, Failure>>> = batch.iter().map(|_| None).collect();
        let alerts: Vec<Item<'_>> = batch
            .iter()
            .enumerate()
            .flat_map(|(place, delivery)| delivery.alerts().map(move |alert| (place, delivery, alert)))
            .collect();
        let mut failed: Option<Failure> = None;
        for part in parts(&alerts) {
            match &failed {
                None => failed = self.hand_on(part, end, &mut results).await.err(),
                // What comes behind waits for what is before it.
                Some(failure) => {
                    for (place, ..) in part {
                        results[*place] = Some(Err(failure.clone()));
                    }
                }
            }
        }
        // A delivery without any alert has nothing to say.
        let nothing = || Ok(Receipt::delivered("there was nothing to hand on"));
        results.into_iter().map(|result| result.unwrap_or_else(nothing)).collect()
    }

    async fn check_in(
        &self,
        report: &Report,
        deadline: Duration,
    ) -> Option<Result<check_in::Answer, String>> {
        let end = Instant::now() + deadline;
        let mut failed = None;
        for parent in self.parents.order() {
            match self.report(parent, report, end).await {
                Ok(answer) => {
                    self.parents.took(parent);
                    if let Some(before) = self.parents.checked_in(parent) {
                        // Whether or not it hears it.
                        let last = Report { leaves_for: Some(answer.router.clone()), ..report.clone() };
                        drop(self.report(before, &last, end.min(Instant::now() + LOOK_TIME)).await);
                    }
                    return Some(Ok(answer));
                }
                Err(words) => failed = Some(failed.unwrap_or(words)),
            }
        }
        Some(Err(failed.unwrap_or_default()))
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        let mut words = Vec::new();
        let mut any = false;
        for url in &self.parents.urls {
            match self.poster.probe(url, deadline).await {
                Ok(said) => (any, _) = (true, words.push(said)),
                Err(said) => words.push(said),
            }
        }
        let words = words.join("; ");
        if any { Ok(words) } else { Err(words) }
    }
}

impl Forward {
    /// Hands a part of a batch on to the parent whose turn it is, or to the next that takes it, and says of each delivery in it
    /// what became of it. An error holds for all of it, and for what comes behind.
    async fn hand_on(
        &self,
        part: &[Item<'_>],
        end: Instant,
        results: &mut [Option<Result<Receipt, Failure>>],
    ) -> Result<(), Failure> {
        let (_, first, _) = part[0];
        let sent = Batch {
            from: Server {
                name: first.server.name.clone(),
                journal: format_smolstr!("{:016x}", first.server.journal),
                version: SmolStr::new_static(env!("CARGO_PKG_VERSION")),
            },
            alerts: part.iter().map(|(_, delivery, alert)| self.alert(delivery, alert)).collect(),
        };
        let answered = match sent.encode() {
            Ok(body) => self.ask_around(&first.id.to_string(), body, sent.alerts.len(), end).await,
            Err(error) => Err(Failure::transient(format!("it cannot be compressed: {error}"))),
        };
        match answered {
            Ok(answer) => took(part, answer, results),
            // It is too large for that server: in halves, then.
            Err(failure) if failure.kind == FailureKind::Permanent && part.len() > 1 => {
                let (head, tail) = part.split_at(part.len() / 2);
                Box::pin(self.hand_on(head, end, results)).await?;
                return Box::pin(self.hand_on(tail, end, results)).await;
            }
            Err(failure) => {
                for (place, ..) in part {
                    results[*place] = Some(Err(failure.clone()));
                }
                if failure.kind != FailureKind::Permanent {
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// Asks one parent after the other, until one has it.
    async fn ask_around(
        &self,
        id: &str,
        body: Vec<u8>,
        count: usize,
        end: Instant,
    ) -> Result<Answer, Failure> {
        let mut failed = None;
        for parent in self.parents.order() {
            if end <= Instant::now() {
                break;
            }
            match self.ask(parent, id, body.clone(), count, end).await {
                Ok(answer) => {
                    self.parents.took(parent);
                    return Ok(answer);
                }
                Err(failure) if failure.kind == FailureKind::Uncertain && self.parents.may_have_it() => {
                    return Err(failure);
                }
                Err(failure) if failure.kind == FailureKind::Permanent => return Err(failure),
                Err(failure) => failed = Some(failed.unwrap_or(failure)),
            }
        }
        Err(failed.unwrap_or_else(|| Failure::transient("no parent was asked in time")))
    }

    async fn ask(
        &self,
        parent: usize,
        id: &str,
        body: Vec<u8>,
        count: usize,
        end: Instant,
    ) -> Result<Answer, Failure> {
        let url = &self.parents.urls[parent];
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(wire::CODING));
        let request = Request { method: Method::POST, url: url.clone(), headers, body };
        let answered = self.poster.post(id, request, end).await.map_err(|failure| match failure.kind {
            // A config that is mended lets it pass.
            FailureKind::Permanent => Failure { kind: FailureKind::Transient, ..failure },
            _ => failure,
        });
        let answered = answered.and_then(|answer| {
            if answer.status == 413 {
                return Err(Failure::permanent(answer::words(url, &answer)));
            }
            if !(200..300).contains(&answer.status) {
                // Whatever is wrong there may be mended: alerts wait.
                let failure = Failure::transient(answer::words(url, &answer));
                return Err(Failure { retry_after_ms: answer.retry_after_ms, ..failure });
            }
            read(&answer.body, count).map_err(|what| {
                let words = format!("{}: it answers what no ams2 does: {what}", place_of(url));
                Failure::transient(words)
            })
        });
        let said = answered.as_ref().map(|_| Receipt::Sent).map_err(Clone::clone);
        match self.poster.discreet(&[], said) {
            Ok(_) => answered,
            Err(failure) => Err(failure),
        }
    }

    /// Says to one parent how we are.
    async fn report(&self, parent: usize, report: &Report, end: Instant) -> Result<check_in::Answer, String> {
        let mut url = self.parents.urls[parent].clone();
        url.set_path(&url.path().replace(wire::PATH, wire::CHECK_IN));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE));
        let body = serde_json::to_vec(report).map_err(|error| error.to_string())?;
        let request = Request { method: Method::POST, url: url.clone(), headers, body };
        let answered = self.poster.post("check-in", request, end).await;
        let answered = answered.and_then(|answer| match answer.status {
            200..=299 => serde_json::from_slice(&answer.body).map_err(|error| {
                Failure::transient(format!("{}: it answers what no ams2 does: {error}", place_of(&url)))
            }),
            _ => Err(Failure::transient(answer::words(&url, &answer))),
        });
        let said = answered.as_ref().map(|_| Receipt::Sent).map_err(Clone::clone);
        self.poster.discreet(&[], said).map_err(|failure| failure.reason)?;
        answered.map_err(|failure| failure.reason)
    }

    /// Asks the others how they are, where that matters, while alerts go their way.
    fn look(&self) {
        if !self.parents.is_time_to_look() {
            return;
        }
        let (parents, poster) = (self.parents.clone(), self.poster.clone());
        tokio::spawn(async move {
            let mut round_trips = Vec::with_capacity(parents.urls.len());
            for url in &parents.urls {
                let mut well = url.clone();
                well.set_path(&url.path().replace(wire::PATH, "/-/ready"));
                let request =
                    Request { method: Method::GET, url: well, headers: HeaderMap::new(), body: Vec::new() };
                // The second answer comes over a connection that is there: the first one's is no round trip.
                let end = Instant::now() + LOOK_TIME;
                let mut took = None;
                for _ in 0..2 {
                    let begun = Instant::now();
                    let again = Request {
                        headers: HeaderMap::new(),
                        body: Vec::new(),
                        method: Method::GET,
                        url: request.url.clone(),
                    };
                    let answer = poster.post("look", again, end).await;
                    took = answer.is_ok_and(|answer| answer.status == 200).then(|| begun.elapsed());
                }
                round_trips.push(took);
            }
            parents.looked(&round_trips);
        });
    }

    fn alert(&self, delivery: &Delivery, alert: &Alert) -> wire::Alert {
        let mut labels: BTreeMap<SmolStr, SmolStr> = alert.labels.iter().cloned().collect();
        for (name, value) in &self.labels {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if alert.client == ams2_core::machine::OWN_CLIENT {
            // What a server says of itself is not what its parent says of itself.
            labels.remove(ams2_core::machine::OWN_LABEL);
            let server = || delivery.server.name.clone();
            labels.entry(SmolStr::new_static("server")).or_insert_with(server);
        }
        let mut annotations: BTreeMap<SmolStr, SmolStr> = alert.annotations.iter().cloned().collect();
        let (origin, trail) = (annotations.remove(trail::ORIGIN), annotations.remove(trail::TRAIL));
        let happened = alert.occurrence.clone().or_else(|| delivery.test.then(|| delivery.id.to_smolstr()));
        wire::Alert {
            labels,
            annotations,
            generator_url: alert.generator_url.clone(),
            starts_at: alert.starts_at.0,
            ends_at: alert.ends_at.map(|ends| ends.0),
            occurrence: happened.filter(|_| alert.firing),
            position: alert.position.to_smolstr(),
            at: delivery.groups.first().map_or(0, |group| group.decided.0),
            origin,
            trail,
        }
    }
}

/// A part of a batch as large as one request.
fn parts<'p, 'a>(alerts: &'p [Item<'a>]) -> impl Iterator<Item = &'p [Item<'a>]> {
    let mut rest = alerts;
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        for (_, _, alert) in rest.iter().take(ALERTS_MAX) {
            let pairs = alert.labels.iter().chain(&alert.annotations);
            bytes += pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>();
            if count > 0 && bytes > REQUEST_BYTES {
                break;
            }
            count += 1;
        }
        let (part, left) = rest.split_at(count);
        rest = left;
        (!part.is_empty()).then_some(part)
    })
}

/// A parent has a part of a batch: what it says of each alert.
fn took(part: &[Item<'_>], answer: Answer, results: &mut [Option<Result<Receipt, Failure>>]) {
    let by = text::one_line(&answer.server.name).into_owned();
    let taken = Receipt::Delivered {
        reply: format!("{by} has it on its disk"),
        memo: Some(format!("{by}/{}", answer.server.journal).into_bytes()),
        unfinished: Vec::new(),
        refused: Vec::new(),
    };
    for (place, ..) in part {
        results[*place].get_or_insert_with(|| Ok(taken.clone()));
    }
    for word in answer.cut {
        // It is there already: nothing is lost.
        let said = format!("a loop was cut: {}", text::one_line(&word.detail));
        tracing::warn!(parent = %by, "{said}");
        if let Some((place, ..)) = part.get(word.index) {
            results[*place] = Some(Ok(Receipt::delivered(said)));
        }
    }
    for word in answer.refused {
        if let Some((place, ..)) = part.get(word.index) {
            let reason = format!("{by} refuses it: {}", text::one_line(&word.detail));
            results[*place] = Some(Err(Failure::permanent(reason)));
        }
    }
}

/// What a parent answers, if it makes sense for so many alerts.
fn read(body: &[u8], count: usize) -> Result<Answer, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if !trail::is_server_name(&answer.server.name) {
        return Err("its name is none".into());
    }
    let is_journal =
        answer.server.journal.len() == 16 && answer.server.journal.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_journal {
        return Err("its journal has no name".into());
    }
    let words = answer.refused.len() + answer.cut.len();
    if answer.accepted.saturating_add(words as u64) != count as u64 {
        return Err(format!("it has {} and speaks of {words}, of {count} alerts", answer.accepted));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
