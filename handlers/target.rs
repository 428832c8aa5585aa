//! Chat and incident services by web hook, each described by a file in `handlers/targets`: settings, request, what its answers
//! mean. No service has code of its own.

mod answer;
mod brief;
pub(crate) mod escape;
pub(crate) mod file;
mod settings;
pub(crate) mod tree;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use minijinja::value::{Serde, Value};
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::{
    Action, BuildContext, Defaults, Delivery, Failure, FileSetting, Kind, Receipt, Secret, SettingsError,
    render::{self, Scope, Shared, Template},
    units,
    webhook::{
        self,
        client::{self, Client, Options, Request},
        oauth::form,
        post::{Auth, Poster},
    },
};
use escape::Escape;
use file::{FILES, File, Format, Type};
pub use settings::Settings;
pub(crate) use settings::{Seed, schema};
use tree::Tree;

/// A service: its file, and what the rest of ams2 must know of it.
pub(crate) struct Target {
    pub(crate) file: File,
    /// Its entry in the table.
    pub(crate) kind: Kind,
    /// Every key that its settings may have.
    known: &'static [&'static str],
    parts: OnceLock<Parts>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.kind.key)
    }
}

/// A file's templates. They are the same for every action of the kind, and compiled once somebody uses it.
struct Parts {
    url: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Tree,
    method: Method,
}

/// Every service.
pub(crate) static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(|| {
    let read = |text: &&str| Target::new(serde_saphyr::from_str(text).expect("a test reads every file"));
    FILES.iter().map(read).collect()
});

/// The service with this key.
pub(crate) fn find(key: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.kind.key == key)
}

impl Target {
    fn new(file: File) -> Target {
        // They live as long as the process, once.
        let text = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let secrets = file.settings.iter().filter(|setting| setting.secret);
        let mut files: Vec<FileSetting> = secrets
            .map(|setting| FileSetting::secret(text(&format!("{}_file", setting.name)), text(&setting.name)))
            .collect();
        files.extend([
            FileSetting::public("tls.ca_file", "tls.ca"),
            FileSetting::public("tls.cert_file", "tls.cert"),
            FileSetting::secret("tls.key_file", "tls.key"),
        ]);
        let own = file.settings.iter().map(|setting| text(&setting.name));
        let known: Vec<&'static str> = own.chain(settings::SHARED).collect();
        let examples: Vec<&'static str> = file.config.iter().map(|example| text(example)).collect();
        let kind = Kind {
            key: text(&file.name),
            summary: text(&file.summary),
            examples: examples.leak(),
            files: files.leak(),
            defaults: Defaults {
                send_resolved: true,
                max_in_flight: 2,
                batch_max: 1,
                timeout: units::Duration::from_seconds(30),
                max_alerts: file.max_alerts,
            },
        };
        Target { file, kind, known: known.leak(), parts: OnceLock::new() }
    }

    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| self.compile().expect("a test compiles every file"))
    }

    fn compile(&self) -> Result<Parts, String> {
        let template = |source: &str, escape| {
            Template::compile(source, Scope::Target(escape)).map_err(|error| format!("{source}: {error}"))
        };
        let headers = self.file.headers.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().map_err(|_| format!("{name} is no header"))?;
            Ok((name, template(value, Escape::None)?))
        });
        Ok(Parts {
            url: template(&self.file.url, Escape::Url)?,
            headers: headers.collect::<Result<_, String>>()?,
            body: Tree::compile(&self.file.body, Scope::Target(Escape::None), &Shared::default())?,
            method: self.file.method.parse().map_err(|_| "no method")?,
        })
    }
}

/// What every template for a chat sees: a delivery, and `brief`.
pub(crate) fn context(delivery: &Delivery) -> Value {
    /// Enough for most chats.
    const BRIEF_CHARS: usize = 3000;
    context_of(delivery, BRIEF_CHARS)
}

fn context_of(delivery: &Delivery, brief_chars: usize) -> Value {
    minijinja::context! { brief => brief::brief(delivery, brief_chars), ..render::context(delivery) }
}

/// An action of a service that is ready.
#[derive(Debug)]
struct Ready {
    target: &'static Target,
    values: BTreeMap<&'static str, Part>,
    /// Where `probe` connects to.
    place: Option<Url>,
    poster: Poster,
}

/// A setting that is ready to be put in.
#[derive(Debug)]
enum Part {
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

impl Settings {
    /// The words of `older`, sent where these settings say.
    pub(crate) fn with_texts_of(&self, older: &Settings) -> Settings {
        let mut merged = self.clone();
        merged.shared.templates = older.shared.templates.clone();
        for setting in self.target.file.settings.iter().filter(|setting| setting.kind.is_text()) {
            merged.values.remove(setting.name.as_str());
            if let Some(value) = older.values.get(setting.name.as_str()) {
                merged.values.insert(setting.name.clone(), value.clone());
            }
        }
        merged
    }

    pub(crate) fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        let (file, mut errors) = (&self.target.file, Vec::new());
        self.check_presence(&mut errors);
        if file.one_group && self.common().max_per_minute.is_some() {
            let message = format!(
                "what is over it becomes one message about several groups, and {} knows each by a key of its own",
                file.name
            );
            let mend = "remove it: where the service is told too much it says so (429), and what is left waits; `group_by` with fewer labels makes fewer groups";
            errors.push(SettingsError::new("max_per_minute", message, mend));
        }
        let mut values = BTreeMap::new();
        let (mut named, mut urls, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        let escape = file.escape_with.iter().find(|(name, _)| self.values.contains_key(*name));
        let escape = escape.map_or(file.escape, |(_, escape)| *escape);
        for setting in &file.settings {
            let given = self.values.get(&setting.name);
            let value = match (given, &setting.default) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => default.clone(),
                (None, None) => Json::String(String::new()),
            };
            let part = match self.part(setting, &value, escape) {
                Ok(part) => part,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let text = value.as_str().unwrap_or_default();
            if setting.secret {
                hidden.push(Secret::new(text));
            }
            if setting.kind == Type::Url
                && !text.is_empty()
                && let Ok(url) = client::url(text)
            {
                named.extend(given.and(url.host_str()).map(str::to_owned));
                urls.push(url);
            }
            values.insert(setting.name.as_str(), part);
        }
        let place = urls.first().cloned();
        let options = Options {
            proxy: self.shared.proxy.as_deref(),
            tls: self.shared.tls.as_ref(),
            redirects: false,
            https: urls.iter().any(|url| url.scheme() == "https"),
            connections: self.common().limits(&self.target.kind.defaults).max_in_flight as usize,
            named,
            host: place.as_ref().and_then(Url::host_str).map(str::to_owned),
        };
        match Client::new(options, context.clock.clone()) {
            Ok(client) if errors.is_empty() => {
                let poster = Poster::new(client, Auth::None, None, context.clock.clone(), hidden);
                Ok(Box::new(Ready { target: self.target, values, place, poster }))
            }
            Ok(_) => Err(errors),
            Err(more) => {
                errors.extend(more);
                Err(errors)
            }
        }
    }

    /// What must be given is, and no more.
    fn check_presence(&self, errors: &mut Vec<SettingsError>) {
        let file = &self.target.file;
        let has = |name: &String| self.values.contains_key(name);
        let is_secret =
            |name: &str| file.settings.iter().any(|setting| setting.name == name && setting.secret);
        let mend = |name: &str| match is_secret(name) {
            true => format!("add `{name}_file:` or `{name}: ${{env:NAME}}`"),
            false => format!("add `{name}:`"),
        };
        for setting in file.settings.iter().filter(|setting| setting.required && !has(&setting.name)) {
            let name = &setting.name;
            errors.push(SettingsError::new(name, format!("`{name}` is missing"), mend(name)));
        }
        if file.one_of.is_empty() {
            return;
        }
        let ways: Vec<String> = file.one_of.iter().map(|way| format!("`{}`", way.join("` with `"))).collect();
        let begun: Vec<&Vec<String>> = file.one_of.iter().filter(|way| way.iter().any(has)).collect();
        match begun[..] {
            [] => {
                let first = &file.one_of[0][0];
                let message = format!("nothing says where to: give {}", ways.join(", or "));
                errors.push(SettingsError::new(first, message, mend(first)));
            }
            [way] => {
                for name in way.iter().filter(|name| !has(name)) {
                    errors.push(SettingsError::new(name, format!("`{name}` is missing"), mend(name)));
                }
            }
            [_, second, ..] => {
                let name = second.iter().find(|name| has(name)).expect("it was begun");
                let message = "two ways to the same place";
                errors.push(SettingsError::new(name, message, format!("give {}", ways.join(", or "))));
            }
        }
    }

    fn part(&self, setting: &file::Setting, value: &Json, escape: Escape) -> Result<Part, SettingsError> {
        let name = &setting.name;
        let wrong = |what: String, mend: &str| SettingsError::new(name, what, mend);
        let compile = |field: &str, source: &str| {
            Template::compile_with(source, Scope::Message(escape), &self.shared.templates).map_err(|error| {
                let line = error.line.map_or(String::new(), |line| format!(" (line {line} of the template)"));
                SettingsError::new(field, format!("{error}{line}"), "correct the template")
            })
        };
        match (setting.kind, value) {
            (Type::Template, Json::String(source)) => {
                let default = setting.default.as_ref().and_then(Json::as_str);
                let default =
                    default.filter(|default| default != source).map(|default| compile(name, default));
                Ok(Part::Template(compile(name, source)?, default.transpose()?))
            }
            (Type::Templates, Json::Object(map)) => {
                let one = |(key, source): (&String, &Json)| {
                    Ok((key.clone(), compile(&format!("{name}.{key}"), source.as_str().unwrap_or_default())?))
                };
                Ok(Part::Templates(map.iter().map(one).collect::<Result<_, _>>()?))
            }
            (Type::Url, Json::String(text)) if !text.is_empty() => {
                client::url(text)
                    .map_err(|what| wrong(format!("it is no URL: {what}"), "write https://host/path"))?;
                Ok(Part::Fixed(text.trim_end_matches('/').into()))
            }
            (Type::Text, Json::String(text)) => {
                if text.contains(char::is_control) {
                    return Err(wrong("control characters in it".into(), "write it in one line"));
                }
                if !setting.choices.is_empty() && !text.is_empty() && !setting.choices.contains(text) {
                    let mend = format!("use {}", setting.choices.join(", "));
                    return Err(wrong(format!("{text:?} is not one of its values"), &mend));
                }
                Ok(if setting.secret { Part::Secret(Secret::new(text)) } else { Part::Fixed(value.clone()) })
            }
            _ => Ok(Part::Fixed(value.clone())),
        }
    }
}

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
        // A digest belongs to none of its groups.
        let key = match &delivery.groups[..] {
            [_, _, ..] if !file.one_group => "",
            groups => groups.first().map_or("", |group| &group.key),
        };
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

#[cfg(test)]
mod tests;
