//! An action of a service that is ready: a delivery becomes the request that the file describes.

use std::{collections::BTreeMap, time::Duration};

use minijinja::value::{Serde, Value};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{Target, answer, context_of, file::Format, tree};
use crate::{
    Action, Delivery, Failure, Receipt, Secret,
    render::Template,
    webhook::{self, client::Request, oauth::form, post::Poster},
};

/// An action of a service that is ready.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) target: &'static Target,
    pub(super) values: BTreeMap<&'static str, Part>,
    /// Where `probe` connects to.
    pub(super) place: Option<Url>,
    pub(super) poster: Poster,
}

/// A setting that is ready to be put in.
#[derive(Debug)]
pub(super) enum Part {
    Fixed(Json),
    Secret(Secret),
    /// The admin's template, and what stands in for it when it fails.
    Template(Template, Option<Template>),
    Templates(Vec<(String, Template)>),
}

/// Longest words of a template that failed, in characters.
const FAILED_CHARS_MAX: usize = 150;
/// Most bytes of a memo that the core keeps.
const MEMO_BYTES_MAX: usize = 1024;

#[async_trait::async_trait]
impl Action for Ready {
    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let end = Instant::now() + deadline;
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            results.push(self.tell(delivery, end).await);
        }
        results
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        match &self.place {
            Some(url) => self.poster.probe(url, deadline).await,
            None => Err("no setting says where it is".into()),
        }
    }
}

impl Ready {
    async fn tell(&self, delivery: &Delivery, end: Instant) -> Result<Receipt, Failure> {
        let memo = memo_of(delivery);
        let request = self.request(delivery, &memo).map_err(Failure::permanent)?;
        let url = request.url.clone();
        let answer = self.poster.post(delivery.id, request, end).await;
        let outcome = answer.and_then(|answer| {
            let body = answer::judge(&self.target.file.answer, &url, &answer)?;
            let reply = webhook::answer::reply(&answer);
            let memo = self.memo(delivery, memo, body.as_ref());
            Ok(Receipt::Delivered { reply, memo, unfinished: Vec::new(), refused: Vec::new() })
        });
        self.poster.discreet(&url, outcome)
    }

    /// The request for a delivery. The admin's own words are left out where they make it larger than the service takes.
    fn request(&self, delivery: &Delivery, memo: &serde_json::Map<String, Json>) -> Result<Request, String> {
        let file = &self.target.file;
        let request = self.request_in(delivery, memo, false)?;
        if request.body.len() <= file.bytes_max {
            return Ok(request);
        }
        let request = self.request_in(delivery, memo, true)?;
        match request.body.len() {
            length if length > file.bytes_max => {
                Err(format!("a message of {length} bytes, and {} takes {}", file.name, file.bytes_max))
            }
            _ => Ok(request),
        }
    }

    fn request_in(
        &self,
        delivery: &Delivery,
        memo: &serde_json::Map<String, Json>,
        plainly: bool,
    ) -> Result<Request, String> {
        let (file, parts) = (&self.target.file, self.target.parts());
        let shared = context_of(delivery, file.brief_chars);
        let settings = self.rendered(&shared, plainly);
        let key = delivery.groups.first().map_or("", |group| &group.key);
        let none = || Json::String(String::new());
        let memo: BTreeMap<&String, Json> =
            file.memo.keys().map(|name| (name, memo.get(name).cloned().unwrap_or_else(none))).collect();
        let context = minijinja::context! {
            settings => Value::from(Serde(&settings)),
            memo => Value::from(Serde(&memo)),
            key => key,
            ..shared
        };
        let render = |template: &Template| {
            template.render_value(context.clone()).map_err(|error| format!("{}: {error}", file.name))
        };
        let url = webhook::checked(&render(&parts.url)?)?;
        let mut headers = HeaderMap::new();
        for (name, template) in &parts.headers {
            let text = render(template)?;
            if !text.is_empty() {
                let value = HeaderValue::from_str(&text)
                    .map_err(|_| format!("no header `{name}` can have its value"))?;
                headers.insert(name.clone(), value);
            }
        }
        let tree = parts.body.render(&context)?;
        let (content_type, body) = match file.format {
            Format::Json => ("application/json", serde_json::to_vec(&tree).expect("JSON encodes")),
            Format::Form => {
                let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let fields = tree.as_object().into_iter().flatten();
                let fields: Vec<String> =
                    fields.map(|(name, value)| format!("{}={}", form(name), form(&text(value)))).collect();
                ("application/x-www-form-urlencoded", fields.join("&").into_bytes())
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(Request { method: parts.method.clone(), url, headers, body })
    }

    /// The settings as the file's templates see them. A template of the admin's that fails is replaced by our own words, which
    /// say so: the alert matters more than its layout. So are all of them, when they were too long.
    fn rendered(&self, context: &Value, plainly: bool) -> BTreeMap<&'static str, Json> {
        let render = |template: &Template| template.render_value(context.clone());
        let failed =
            |why: String| format!(" (a template failed: {})", tree::shortened(&why, FAILED_CHARS_MAX));
        let one = |name: &'static str, part: &Part| match part {
            Part::Fixed(value) => value.clone(),
            Part::Secret(secret) => secret.expose().into(),
            Part::Templates(_) if plainly => Json::Object(serde_json::Map::new()),
            Part::Templates(map) => {
                let value = |template| render(template).unwrap_or_else(|error| failed(error.to_string()));
                map.iter().map(|(name, template)| (name.clone(), Json::String(value(template)))).collect()
            }
            Part::Template(own, default) => {
                let default = |note: String| {
                    let words = default.as_ref().map(|default| render(default).unwrap_or_default());
                    Json::String(format!("{}{note}", words.unwrap_or_default()))
                };
                match render(own) {
                    Ok(_) if plainly && self.has_default(name) => default(String::new()),
                    Ok(text) => text.into(),
                    Err(error) => default(failed(error.to_string())),
                }
            }
        };
        self.values.iter().map(|(name, part)| (*name, one(name, part))).collect()
    }

    /// Whether the admin replaced a template of the file's.
    fn has_default(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Part::Template(_, Some(_))))
    }

    /// What the group's next message gets back. When the group has ended the next one begins anew.
    fn memo(
        &self,
        delivery: &Delivery,
        mut memo: serde_json::Map<String, Json>,
        body: Option<&Json>,
    ) -> Option<Vec<u8>> {
        let pointers = &self.target.file.memo;
        if pointers.is_empty() {
            return None;
        }
        if !delivery.is_firing() {
            return Some(Vec::new());
        }
        for (name, pointer) in pointers {
            if let Some(value) = body.and_then(|body| body.pointer(pointer)).filter(|value| !value.is_null())
            {
                memo.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let bytes = serde_json::to_vec(&memo).expect("JSON encodes");
        (!memo.is_empty() && bytes.len() <= MEMO_BYTES_MAX).then_some(bytes)
    }
}

/// What was remembered of the group; nothing where it cannot be read.
fn memo_of(delivery: &Delivery) -> serde_json::Map<String, Json> {
    let memo = delivery.memo.as_deref().and_then(|memo| serde_json::from_slice(memo).ok());
    memo.unwrap_or_default()
}
