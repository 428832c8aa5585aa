//! One attempt of an action of a service: its requests, one after the other, and what their answers give to the next.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use reqwest::{
    Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::{Map, Value as Json};
use tokio::time::{Instant, timeout_at};

use super::{
    answer::Heard,
    context_of,
    file::{File, Format},
    parts::{Asking, Parts},
    ready::{Held, Ready},
    tree,
};
use crate::{
    Delivery, Failure, FailureKind, Receipt, Secret,
    render::Template,
    text,
    webhook::{
        self,
        client::{Answer, Request, place_of},
        oauth::{form, good_until},
        post::secret_parts,
        sigv4,
    },
};

/// Most bytes of a memo that the core keeps.
const MEMO_BYTES_MAX: usize = 1024;

/// What an attempt knows so far.
pub(super) struct Round<'a> {
    ready: &'a Ready,
    file: &'static File,
    parts: &'static Parts,
    delivery: &'a Delivery,
    /// What every template sees of the delivery.
    told: Value,
    /// The settings in words.
    words: Value,
    memo: Map<String, Json>,
    kept: BTreeMap<&'static str, Json>,
    /// Which login `kept` is from; 0 for none.
    login: u64,
    /// What nobody should read in the outcome.
    secrets: Vec<Secret>,
    end: Instant,
}

impl<'a> Round<'a> {
    /// Makes the attempt.
    pub(super) async fn run(
        ready: &'a Ready,
        delivery: &'a Delivery,
        end: Instant,
    ) -> Result<Receipt, Failure> {
        let mut round = Round::new(ready, delivery, end).map_err(Failure::permanent)?;
        let outcome = round.go().await;
        ready.poster.discreet(&round.secrets, outcome)
    }

    fn new(ready: &'a Ready, delivery: &'a Delivery, end: Instant) -> Result<Round<'a>, String> {
        let (file, parts) = (&ready.target.file, ready.target.parts());
        let told = context_of(delivery, file.brief_chars);
        let words = ready.words(&told, false)?;
        Ok(Round {
            ready,
            file,
            parts,
            delivery,
            words: Value::from(Serde(&words)),
            told,
            memo: memo_of(delivery),
            kept: parts.kept().map(|name| (name, nothing())).collect(),
            login: 0,
            secrets: Vec::new(),
            end,
        })
    }

    async fn go(&mut self) -> Result<Receipt, Failure> {
        self.log_in(false).await?;
        let mut reply = "there was nothing to tell".to_owned();
        for asking in &self.parts.requests {
            if !self.applies(asking)? {
                continue;
            }
            if let Some(template) = &asking.refuse {
                let why = self.line(template)?;
                if !why.is_empty() {
                    return Err(asking.explain(Failure::permanent(why)));
                }
            }
            reply = self.answered(asking).await?;
        }
        if let Some(template) = &self.parts.reply {
            reply = self.line(template)?;
        }
        let memo = self.memo_after();
        Ok(Receipt::Delivered { reply, memo, unfinished: Vec::new(), refused: Vec::new() })
    }

    /// Makes a request until it is answered by one that is done, and keeps what that gives.
    async fn answered(&mut self, asking: &'static Asking) -> Result<String, Failure> {
        let rules = asking.rules(self.file);
        let (mut url, mut answer) = self.ask(asking).await?;
        let renew: &[String] = self.file.login.as_ref().map_or(&[], |login| &login.renew);
        let is_logged_out = Heard::of(&answer).error(rules).is_some_and(|error| renew.contains(&error));
        if self.login > 0 && is_logged_out {
            self.log_in(true).await?;
            (url, answer) = self.ask(asking).await?;
        }
        let heard = Heard::of(&answer);
        heard.judge(rules, &url).map_err(|failure| asking.explain(failure))?;
        for (name, place) in &asking.ask.keep {
            self.kept.insert(name, heard.at(place).unwrap_or_else(nothing));
        }
        for (name, place) in &self.file.memo {
            if let Some(value) = heard.at(place)
                && (self.file.memo_latest || !self.memo.contains_key(name))
            {
                self.memo.insert(name.clone(), value);
            }
        }
        Ok(webhook::answer::reply(&answer))
    }

    /// Sends a request once.
    async fn ask(&mut self, asking: &'static Asking) -> Result<(Url, Answer), Failure> {
        let request = self.request(asking).map_err(Failure::permanent)?;
        let url = request.url.clone();
        self.secrets.extend(secret_parts(&url));
        let login = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.secrets.extend(login.and_then(|login| login.split(' ').nth(1)).map(Secret::new));
        let id = match asking.ask.name.as_str() {
            "" => self.delivery.id.to_string(),
            // A far end that knows requests by it must not take one for another.
            name => format!("{}-{name}", self.delivery.id),
        };
        let sent = self.ready.poster.post(&id, request, self.end).await;
        Ok((url, sent.map_err(|failure| asking.explain(failure))?))
    }

    /// Sees to it that there is a login where one is needed: the one that is held, or a new one. `anew`: ours was refused. Whoever
    /// asks meanwhile waits for the same.
    async fn log_in(&mut self, anew: bool) -> Result<(), Failure> {
        let (Some(login), Some(rules)) = (&self.parts.login, &self.file.login) else { return Ok(()) };
        if !self.applies(login)? {
            return Ok(());
        }
        // What is wrong with the login is not the message's fault, and the message was not sent: it waits.
        let waits = |failure: Failure| Failure { kind: FailureKind::Transient, ..failure };
        let late =
            |_| login.explain(Failure::transient("another is asking for it, and has no answer in time"));
        let mut held = timeout_at(self.end, self.ready.session.0.lock()).await.map_err(late)?;
        let is_good = |held: &&Held| {
            held.until.is_none_or(|until| until > Instant::now()) && !(anew && held.number == self.login)
        };
        let number = held.as_ref().map_or(0, |held| held.number);
        if held.as_ref().filter(is_good).is_none() {
            for name in login.ask.keep.keys() {
                self.kept.insert(name, nothing());
            }
            let asked = Instant::now();
            let (url, answer) = self.ask(login).await.map_err(waits)?;
            let heard = Heard::of(&answer);
            heard.judge(login.rules(self.file), &url).map_err(|failure| waits(login.explain(failure)))?;
            let mut kept = BTreeMap::new();
            for (name, place) in &login.ask.keep {
                let text = heard.at(place).and_then(|value| value.as_str().map(str::to_owned));
                let text = text.filter(|text| !text.is_empty()).ok_or_else(|| {
                    let words = format!("{}: there is no {name} in the answer", place_of(&url));
                    login.explain(Failure::transient(words))
                })?;
                kept.insert(name.clone(), Secret::new(text));
            }
            let says = rules.expires_in.as_deref().and_then(|place| heard.at(place)?.as_u64());
            let until = says.or(rules.lasts).map(|seconds| good_until(asked, seconds));
            *held = Some(Held { kept, until, number: number + 1 });
        }
        let held = held.as_ref().expect("there is one now");
        self.login = held.number;
        for (name, secret) in &held.kept {
            self.secrets.push(secret.clone());
            let name = login.ask.keep.get_key_value(name).expect("it was kept by this name").0;
            self.kept.insert(name, secret.expose().into());
        }
        Ok(())
    }

    /// The request. The admin's own words are left out where they make it larger than the service takes.
    fn request(&self, asking: &Asking) -> Result<Request, String> {
        let request = self.request_in(asking, &self.words)?;
        if request.body.len() <= self.file.bytes_max {
            return Ok(request);
        }
        let words = self.ready.words(&self.told, true)?;
        let request = self.request_in(asking, &Value::from(Serde(&words)))?;
        match request.body.len() {
            length if length > self.file.bytes_max => {
                let File { name, bytes_max, .. } = self.file;
                Err(format!("a message of {length} bytes, and {name} takes {bytes_max}"))
            }
            _ => Ok(request),
        }
    }

    fn request_in(&self, asking: &Asking, words: &Value) -> Result<Request, String> {
        let context = self.context(words);
        let render = |template: &Template| {
            let text = template.render_value(context.clone());
            text.map_err(|error| format!("{}: {error}", self.file.name))
        };
        let url = webhook::checked(&render(&asking.url)?)?;
        let mut headers = HeaderMap::new();
        for (name, template) in &self.parts.headers {
            let text = render(template)?;
            if !text.is_empty() {
                let value = HeaderValue::from_str(&text)
                    .map_err(|_| format!("no header `{name}` can have its value"))?;
                headers.insert(name.clone(), value);
            }
        }
        let mut body = Vec::new();
        if let Some(tree) = &asking.body {
            let (content_type, bytes) = written(&tree.render(&context)?, self.file.format);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            body = bytes;
        }
        let mut request = Request { method: asking.method.clone(), url, headers, body };
        if let (Some(signing), Some(rules)) = (&self.parts.sigv4, &self.file.sigv4) {
            let keys = sigv4::Keys {
                access_key: &render(&signing.access_key)?,
                secret_key: &Secret::new(render(&signing.secret_key)?),
                session_token: &Secret::new(render(&signing.session_token)?),
                region: &render(&signing.region)?,
                service: asking.ask.service.as_ref().unwrap_or(&rules.service),
            };
            sigv4::sign(&mut request, &keys, self.ready.poster.now())?;
        }
        Ok(request)
    }

    fn applies(&self, asking: &Asking) -> Result<bool, Failure> {
        let Some(template) = &asking.condition else { return Ok(true) };
        Ok(tree::is_yes(&self.render(template)?))
    }

    fn render(&self, template: &Template) -> Result<String, Failure> {
        let text = template.render_value(self.context(&self.words));
        text.map_err(|error| Failure::permanent(format!("{}: {error}", self.file.name)))
    }

    /// A text of one line, for people: the far end may have a part in it.
    fn line(&self, template: &Template) -> Result<String, Failure> {
        Ok(text::one_line(self.render(template)?.trim()).into_owned())
    }

    /// What the file's templates see.
    fn context(&self, words: &Value) -> Value {
        let memo =
            self.file.memo.keys().map(|name| (name, self.memo.get(name).cloned().unwrap_or_else(nothing)));
        let memo: BTreeMap<&String, Json> = memo.collect();
        // A digest belongs to none of its groups.
        let key = match &self.delivery.groups[..] {
            [_, _, ..] if !self.file.one_group => "",
            groups => groups.first().map_or("", |group| &group.key),
        };
        let follows = &self.ready.follows;
        minijinja::context! {
            settings => words,
            memo => Value::from(Serde(&memo)),
            kept => Value::from(Serde(&self.kept)),
            values => Value::from(Serde(&follows.values)),
            place => follows.place.as_ref().map_or("", |(_, text)| text),
            key => key,
            ..self.told.clone()
        }
    }

    /// What the group's next message gets back. When the group has ended the next one begins anew.
    fn memo_after(&self) -> Option<Vec<u8>> {
        if self.file.memo.is_empty() {
            return None;
        }
        if !self.delivery.is_firing() {
            return Some(Vec::new());
        }
        let bytes = serde_json::to_vec(&self.memo).expect("JSON encodes");
        (!self.memo.is_empty() && bytes.len() <= MEMO_BYTES_MAX).then_some(bytes)
    }
}

fn nothing() -> Json {
    Json::String(String::new())
}

/// What was remembered of the group; nothing where it cannot be read.
fn memo_of(delivery: &Delivery) -> Map<String, Json> {
    let memo = delivery.memo.as_deref().and_then(|memo| serde_json::from_slice(memo).ok());
    memo.unwrap_or_default()
}

/// A tree as it is sent, and what it is then.
fn written(tree: &Json, format: Format) -> (&'static str, Vec<u8>) {
    match format {
        Format::Json => ("application/json", serde_json::to_vec(tree).expect("JSON encodes")),
        Format::Form => {
            let mut fields = Vec::new();
            flatten(String::new(), tree, &mut fields);
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}={}", form(name), form(value))).collect();
            ("application/x-www-form-urlencoded", fields.join("&").into_bytes())
        }
    }
}

/// `map.name` and `list.1`: how forms name what is within something else.
fn flatten(name: String, tree: &Json, fields: &mut Vec<(String, String)>) {
    let within = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match tree {
        Json::Object(map) => map.iter().for_each(|(part, value)| flatten(within(part), value, fields)),
        Json::Array(list) => list
            .iter()
            .zip(1..)
            .for_each(|(value, number)| flatten(within(&number.to_string()), value, fields)),
        Json::String(text) => fields.push((name, text.clone())),
        Json::Null => {}
        other => fields.push((name, other.to_string())),
    }
}
