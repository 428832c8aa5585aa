//! Message templates: minijinja, strict, compiled once, without any way to the outside.
//!
//! A template sees one delivery, and of it only what is the same on every attempt, so that retries say the same
//! bytes:
//!
//! | variable | what |
//! |---|---|
//! | `delivery_id` | 32 hex digits |
//! | `receiver`, `external_url` | as configured |
//! | `test` | whether `ams2 action test` made it |
//! | `status` | `firing` if any alert fires, else `resolved` |
//! | `firing`, `resolved`, `hidden` | how many alerts; `hidden`: counted but not shown |
//! | `event` | what happened, if it is the same for all alerts, else `""` |
//! | `severity` | the highest rank of what fires: `info` to `critical`, or `""` |
//! | `reason`, `number`, `decided` | of the first group: why now, which notification, when (RFC 3339) |
//! | `group_labels`, `common_labels`, `common_annotations`, `route_labels` | maps; the last one always empty |
//! | `root` | all of this as one value, to hand it to a macro |
//! | `alerts` | each: `status`, `firing`, `event`, `severity` (as sent), `rank`, `labels`, `annotations`, `starts_at`, `ends_at` (or none), `generator_url`, `fingerprint`, `sequence`, `client` |
//! | `groups` | each: `key`, `labels`, `reason`, `number`, `decided`, `firing`, `resolved`, `alerts` |
//! | `digest` | none, or a list of the delivery ids that it stands for |
//! | `title`, `text` | what ams2 says by itself: one line, and all of it |
//! | `alert` | in templates for one alert only (the lines of an event log): that alert |
//!
//! Beside minijinja's own filters: `time(format, zone)` (strftime, IANA zone name), `json`, `truncate(length)`, `one_line` and
//! `safe_lines` (control characters and those that reorder text escaped, in all of it or in each line); the test `is http` for
//! links.
//! A missing label is an error unless `default` takes care of it, or an `if` only asks whether it is there.
//! `docs/templates.md` says the same to those who write templates.

mod context;
pub mod filters;
mod nesting;
mod shared;

use std::{
    fmt::{self, Write as _},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior,
    value::{Kwargs, Serde, Value},
};

use crate::{
    Alert, Delivery, SettingsError,
    target::escape::{self, Escape},
    text,
};
use context::{AlertContext, Context, Wanted};
use nesting::{Name, Named};
pub use shared::Shared;

/// Most steps that one text for a whole delivery may take: 135 ms measured without optimisation.
pub const FUEL: u64 = 500_000;
/// Most steps that the text for one alert may take: a line, of which a delivery may need thousands.
pub const FUEL_ALERT: u64 = 20_000;
/// Longest text that one rendering may give, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of blocks, macros and calls.
const DEPTH_MAX: usize = 64;
/// Longest that a template may take whose values may grow. Steps are counted, and a step takes as long as its values are
/// large: `==` of a list that holds itself twice, forty times over, takes for ever.
const TIME_MAX: Duration = Duration::from_secs(3);
/// Stack of the thread that such a one is rendered on: values may be as deep as it has steps.
const GROWING_STACK_BYTES: usize = 256 << 20;
/// Priority of a thread that has run out of time and cannot be stopped.
const STUCK_NICE: i32 = 19;
/// Longest template, in bytes: an admin's text, not a data file.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;

/// What a template is for, which decides the variables that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A whole delivery.
    Delivery,
    /// A whole delivery, as HTML: what is put in is escaped.
    Html,
    /// One alert of a delivery: also `alert`.
    Alert,
    /// A whole delivery for a chat or incident service, escaped as that needs it: also `brief`.
    Message(Escape),
    /// The same for one alert of it: also `alert`.
    Each(Escape),
    /// The parts of a service's own file: also the action's settings and what is remembered of the group.
    Target(Escape),
}

/// A compiled template.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    scope: Scope,
    wanted: Wanted,
    /// For one whose values may grow: whether it has run out of time.
    grows: Option<Arc<AtomicBool>>,
}

/// Why a template cannot be used, or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// The line in the template, counted from 1, where it is known.
    pub line: Option<usize>,
}

/// The name of the only template in its environment.
const NAME: &str = "template";

/// Every variable, and for each what can follow it after a dot; empty where anything can, or nothing.
const VARIABLES: [(&str, &[&str]); 24] = [
    ("delivery_id", &[]),
    ("receiver", &[]),
    ("external_url", &[]),
    ("test", &[]),
    ("status", &[]),
    ("firing", &[]),
    ("resolved", &[]),
    ("hidden", &[]),
    ("event", &[]),
    ("severity", &[]),
    ("reason", &[]),
    ("number", &[]),
    ("decided", &[]),
    ("group_labels", &[]),
    ("common_labels", &[]),
    ("common_annotations", &[]),
    ("route_labels", &[]),
    ("root", &[]),
    ("alerts", &[]),
    ("groups", &[]),
    ("digest", &[]),
    ("title", &[]),
    ("text", &[]),
    ("alert", &ALERT_FIELDS),
];

const ALERT_FIELDS: [&str; 14] = [
    "status",
    "firing",
    "new",
    "event",
    "severity",
    "rank",
    "labels",
    "annotations",
    "starts_at",
    "ends_at",
    "generator_url",
    "fingerprint",
    "sequence",
    "client",
];

impl Template {
    /// Whether `text` is a template at all; without these marks it is its own rendering.
    pub fn is_template(text: &str) -> bool {
        ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
    }

    /// Compiles `source`. Wrong syntax, unknown filters that the compiler sees and unknown variables are errors.
    pub fn compile(source: &str, scope: Scope) -> Result<Template, TemplateError> {
        Template::compile_with(source, scope, &Shared::default())
    }

    /// Compiles `source`, which may include or import those of `shared`.
    pub fn compile_with(source: &str, scope: Scope, shared: &Shared) -> Result<Template, TemplateError> {
        let named = check(source)?;
        let mut grows = named.grows;
        let mut environment = environment(scope);
        let mut wanted = Wanted::by(source);
        for (name, source) in shared.used_by(source) {
            environment
                .add_template_owned(name.to_owned(), source.to_owned())
                .map_err(|error| explain(&error))?;
            let within = check(source).and_then(|named| {
                look_up(&environment, &named, shared)?;
                Ok(named.grows)
            });
            grows |= within.map_err(|error| error.within(name))?;
            wanted = wanted.and(Wanted::by(source));
        }
        look_up(&environment, &named, shared)?;
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| explain(&error))?;
        let grows = grows.then(Arc::default);
        let template = Template { environment: Arc::new(environment), scope, wanted, grows };
        match &template.unknown_variables()[..] {
            [] => Ok(template),
            [first, ..] => {
                Err(TemplateError { message: unknown(first, scope), line: line_of(source, first) })
            }
        }
    }

    /// The variables that the template names and no rendering can have, sorted. What a loop variable or a label
    /// map holds is known only at run time.
    pub fn unknown_variables(&self) -> Vec<String> {
        let compiled = self.compiled();
        let mut names: Vec<String> = compiled
            .undeclared_variables(true)
            .into_iter()
            .filter(|path| !is_known(path, self.scope) && !self.is_global(path))
            .collect();
        names.sort_unstable();
        names
    }

    /// The text for a whole delivery.
    pub fn render(&self, delivery: &Delivery) -> Result<String, TemplateError> {
        self.run(Value::from(Serde(&Context::of(delivery, self.wanted))))
    }

    /// The text for a chat or incident service.
    pub(crate) fn render_message(&self, delivery: &Delivery) -> Result<String, TemplateError> {
        self.run(crate::target::context(delivery))
    }

    /// The text for what `context` has.
    pub(crate) fn render_value(&self, context: Value) -> Result<String, TemplateError> {
        self.run(context)
    }

    /// The template as it was written.
    pub(crate) fn source(&self) -> String {
        self.compiled().source().to_owned()
    }

    /// The texts for each alert of a delivery, in order.
    pub fn render_each(&self, delivery: &Delivery) -> Vec<Result<String, TemplateError>> {
        let shared = Value::from(Serde(&Context::of(delivery, self.wanted)));
        let each = |alert: &Alert| {
            let own = minijinja::context! { alert => Value::from(Serde(&AlertContext::of(alert))), ..shared.clone() };
            self.run(own)
        };
        delivery.alerts().map(each).collect()
    }

    fn run(&self, context: Value) -> Result<String, TemplateError> {
        match &self.grows {
            None => self.run_here(context),
            Some(stuck) => self.run_beside(context, stuck),
        }
    }

    /// On a thread of its own, which is left alone when it takes too long; nor is it tried again.
    fn run_beside(&self, context: Value, stuck: &AtomicBool) -> Result<String, TemplateError> {
        let failed = |message: String| TemplateError { message, line: None };
        let too_long =
            || failed(format!("it takes more than {TIME_MAX:?}: what it makes of itself grows too much"));
        if stuck.load(Ordering::Relaxed) {
            return Err(too_long());
        }
        let (sender, answer) = mpsc::channel();
        let (number, its_number) = mpsc::channel();
        let template = self.clone();
        let work = move || {
            // Whoever waits may have given up.
            let _gone = number.send(rustix::thread::gettid());
            let _gone = sender.send(template.run_here(context));
        };
        thread::Builder::new()
            .name("template".into())
            .stack_size(GROWING_STACK_BYTES)
            .spawn(work)
            .map_err(|error| failed(format!("no thread for it: {error}")))?;
        match answer.recv_timeout(TIME_MAX) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(failed("it failed: this is a fault of ams2".into())),
            Err(RecvTimeoutError::Timeout) => {
                stuck.store(true, Ordering::Relaxed);
                if let Ok(thread) = its_number.recv() {
                    // Refused or not: it is the last thing that can be done.
                    let _refused = rustix::process::setpriority_process(Some(thread), STUCK_NICE);
                }
                Err(too_long())
            }
        }
    }

    fn run_here(&self, context: Value) -> Result<String, TemplateError> {
        let context = minijinja::context! { root => context.clone(), ..context };
        let mut output = Limited::default();
        let result = self.compiled().render_captured_to(context, &mut output).map(drop);
        if output.over {
            let message = format!("it gives more than {OUTPUT_BYTES_MAX} bytes");
            return Err(TemplateError { message, line: None });
        }
        result.map_err(|error| explain(&error))?;
        Ok(String::from_utf8(output.bytes).expect("minijinja writes text"))
    }

    fn compiled(&self) -> minijinja::Template<'_, '_> {
        self.environment.get_template(NAME).expect("compile added it")
    }

    fn is_global(&self, path: &str) -> bool {
        self.environment.globals().any(|(name, _)| name == path)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.compiled().source())
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.scope == other.scope && self.compiled().source() == other.compiled().source()
    }
}

/// What a template sees of a delivery.
pub(crate) fn context(delivery: &Delivery) -> Value {
    Value::from(Serde(&Context::of(delivery, Wanted::EVERYTHING)))
}

impl TemplateError {
    /// The mistake of the setting `field` that it is.
    pub(crate) fn of_setting(self, field: impl Into<String>) -> SettingsError {
        let line = self.line.map_or(String::new(), |line| format!(" (line {line} of the template)"));
        SettingsError::new(field, format!("{self}{line}"), "correct the template")
    }

    /// The same, in a template that another includes.
    fn within(self, name: &str) -> TemplateError {
        let place = self.line.map_or(format!("in {name}"), |line| format!("line {line} of {name}"));
        TemplateError { message: format!("{} ({place})", self.message), line: None }
    }
}

/// Refuses filters, tests and templates that there are not: the compiler leaves them to the rendering.
fn look_up(environment: &Environment<'_>, named: &Named<'_>, shared: &Shared) -> Result<(), TemplateError> {
    let is_unknown = |expression: String, kind: ErrorKind| {
        let evaluated = environment.compile_expression(&expression).and_then(|compiled| compiled.eval(()));
        evaluated.is_err_and(|error| error.kind() == kind)
    };
    let unknown = |what: &str, name: &Name<'_>, mend: &str| {
        let message = format!("no {what} is called `{}`{mend}", name.text);
        Err(TemplateError { message, line: Some(name.line) })
    };
    for name in &named.filters {
        if is_unknown(format!("''|{}", name.text), ErrorKind::UnknownFilter) {
            return unknown("filter", name, "; docs/templates.md has them all");
        }
    }
    for name in &named.tests {
        if is_unknown(format!("'' is {}", name.text), ErrorKind::UnknownTest) {
            return unknown("test", name, "; docs/templates.md has them all");
        }
    }
    for name in &named.templates {
        if !shared.names().any(|known| known == name.text) {
            let names: Vec<&str> = shared.names().collect();
            let mend = match &names[..] {
                [] => ": `templates:` of the configuration names a folder of them".to_owned(),
                names => format!("; there are {}", names.join(", ")),
            };
            return unknown("shared template", name, &mend);
        }
    }
    Ok(())
}

/// Refuses what must not come before the compiler.
fn check(source: &str) -> Result<Named<'_>, TemplateError> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("a template of {} bytes; at most {SOURCE_BYTES_MAX} are allowed", source.len());
        return Err(TemplateError { message, line: None });
    }
    nesting::check(source)
}

fn environment(scope: Scope) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    let escape = if scope == Scope::Html { AutoEscape::Html } else { AutoEscape::None };
    environment.set_auto_escape_callback(move |_| escape.clone());
    environment.set_fuel(Some(match scope {
        Scope::Delivery | Scope::Html | Scope::Message(_) | Scope::Each(_) | Scope::Target(_) => FUEL,
        Scope::Alert => FUEL_ALERT,
    }));
    environment.set_recursion_limit(DEPTH_MAX);
    // It would show the whole context, which no message wants.
    environment.remove_global("debug");
    filters::add(&mut environment);
    environment.add_filter("time", time);
    environment.add_filter("json", json);
    // Theirs write whatever it is to its end.
    environment.add_filter("tojson", json);
    environment.remove_filter("pprint");
    environment.add_filter("truncate", truncate);
    environment.add_filter("one_line", |text: &str| text::one_line(text).into_owned());
    environment.add_filter("safe_lines", safe_lines);
    environment.add_test("http", is_http);
    if let Scope::Message(how) | Scope::Each(how) | Scope::Target(how) = scope {
        escape::install(&mut environment, how);
    }
    environment
}

/// `{{ alert.starts_at | time("%H:%M", zone="Europe/Berlin") }}`: strftime; without a zone UTC.
fn time(value: &str, format: Option<&str>, options: Kwargs) -> Result<String, Error> {
    let invalid = |why: String| Error::new(ErrorKind::InvalidOperation, why);
    let zone = options.get::<Option<&str>>("zone")?.unwrap_or("UTC");
    let named = options.get::<Option<&str>>("format")?;
    options.assert_all_used()?;
    let moment: jiff::Timestamp =
        value.parse().map_err(|_| invalid(format!("`{value}` is no time like 2026-11-24T10:15:00Z")))?;
    let local = moment.in_tz(zone).map_err(|_| invalid(format!("`{zone}` is no known time zone")))?;
    let format = format.or(named).unwrap_or("%Y-%m-%d %H:%M:%S %Z");
    let mut shown = String::new();
    // Not `to_string`: an unknown conversion is an error of the template, not of ours.
    write!(shown, "{}", local.strftime(format))
        .map_err(|_| invalid(format!("`{format}` is no time format")))?;
    Ok(shown)
}

/// The value as JSON on one line.
pub(crate) fn json(value: &Value) -> Result<String, Error> {
    let failed = |error| Error::new(ErrorKind::BadSerialization, "no JSON").with_source(error);
    let mut text = Limited::default();
    serde_json::to_writer(&mut text, value).map_err(failed)?;
    Ok(String::from_utf8(text.bytes).expect("JSON is text"))
}

/// `{% if alert.generator_url is http %}`: whether it is a link that does nothing but lead to a page.
fn is_http(value: &str) -> bool {
    let scheme = value.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// Each line by itself as `one_line` has it.
fn safe_lines(value: &str) -> String {
    let lines: Vec<_> = value.lines().map(text::one_line).collect();
    lines.join("\n")
}

/// The first `length` characters, with `…` in place of what is cut.
fn truncate(value: &str, length: usize) -> String {
    match value.char_indices().nth(length) {
        None => value.to_owned(),
        Some(_) if length == 0 => String::new(),
        Some(_) => value.chars().take(length - 1).chain(['…']).collect(),
    }
}

fn is_known(path: &str, scope: Scope) -> bool {
    let mut parts = path.split('.');
    let root = parts.next().unwrap_or("");
    let more: &[&str] = match scope {
        Scope::Target(_) => &["brief", "settings", "memo", "kept", "values", "place", "key", "alert", "item"],
        Scope::Message(_) => &["brief"],
        Scope::Each(_) => &["brief", "alert"],
        _ => &[],
    };
    if more.contains(&root) {
        return true;
    }
    let Some((_, fields)) = VARIABLES.iter().find(|(name, _)| *name == root) else { return false };
    if root == "alert" && scope != Scope::Alert {
        return false;
    }
    parts.next().is_none_or(|field| fields.is_empty() || fields.contains(&field))
}

fn unknown(path: &str, scope: Scope) -> String {
    let known: Vec<&str> = match path.strip_prefix("alert.") {
        Some(_) if scope == Scope::Alert => ALERT_FIELDS.to_vec(),
        _ => VARIABLES.iter().map(|(name, _)| *name).filter(|name| is_known(name, scope)).collect(),
    };
    format!("no variable is called `{path}`; there are {}", known.join(", "))
}

/// The line that first names `path`, by its last part: the compiler does not keep where a variable stood.
fn line_of(source: &str, path: &str) -> Option<usize> {
    let name = path.rsplit('.').next()?;
    source.lines().position(|line| line.contains(name)).map(|index| index + 1)
}

fn explain(error: &Error) -> TemplateError {
    // What went wrong in an included template stands behind "could not render include".
    let mut cause = error;
    while let Some(deeper) = std::error::Error::source(cause).and_then(|source| source.downcast_ref()) {
        cause = deeper;
    }
    let message = match (cause.kind(), cause.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too many steps".into(),
        (kind, None) => kind.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
    };
    let message = match (cause.name().filter(|name| *name != NAME), cause.line()) {
        (Some(name), Some(line)) => format!("{message} (line {line} of {name})"),
        _ => message,
    };
    let line = error.line().filter(|_| error.name().is_none_or(|name| name == NAME));
    TemplateError { message: text::cut(&message, 512).into_owned(), line }
}

/// Takes at most [`OUTPUT_BYTES_MAX`] bytes.
#[derive(Default)]
struct Limited {
    bytes: Vec<u8>,
    over: bool,
}

impl io::Write for Limited {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + buffer.len() > OUTPUT_BYTES_MAX {
            self.over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// A list that holds itself twice, thirty times over.
    macro_rules! doubling {
        () => {
            "{% set n = namespace(s=[1], t=0) %}{% for i in range(30) %}{% set n.t = [n.s, n.s] %}{% set n.s = n.t %}{% endfor %}{% set s = n.s %}"
        };
    }

    fn render(source: &str) -> Result<String, String> {
        let template = Template::compile(source, Scope::Delivery).map_err(|error| error.to_string())?;
        template.render(&sample::delivery()).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_say_what_they_should() {
        let rows = [
            ("{{ event }} on {{ common_labels.computer }}", "Virus Found on ws-042"),
            ("{{ severity | upper }} {{ status | title }}", "CRITICAL Firing"),
            ("{% for a in alerts %}{{ a.labels.site }};{% endfor %}", "boston;"),
            ("{{ common_labels.rack | default('none') }}", "none"),
            ("{% if common_labels.rack %}rack{% else %}no rack{% endif %}", "no rack"),
            ("{{ decided | time('%H:%M', zone='Europe/Berlin') }}", "11:15"),
            ("{{ decided | time }}", "2026-11-24 10:15:02 UTC"),
            ("{{ group_labels | json }}", r#"{"site":"boston"}"#),
            ("{{ 'äbcdef' | truncate(3) }}", "äb…"),
            ("{{ firing }}/{{ resolved }}/{{ hidden }} {{ reason }}", "1/0/0 first_time"),
            ("{{ ['a', 'b'] | join('-') }}", "a-b"),
            ("{{ '<b>' }}", "<b>"),
            ("{{ title }}", "[FIRING] Virus Found, critical: site=boston"),
            ("{{ groups[0].alerts[0].annotations.summary }}", r"EICAR in C:\tmp\a.exe"),
            ("{% if digest is none %}one{% endif %}", "one"),
            ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ];
        for (source, text) in rows {
            assert_eq!(render(source).as_deref(), Ok(text), "{source}");
        }
    }

    #[test]
    fn mistakes_are_found_at_compile_time_where_they_can_be() {
        let rows = [
            ("{{ evnt }}", "no variable is called `evnt`"),
            ("{{ alert.labels.x }}", "no variable is called `alert.labels.x`"),
            ("{{ debug() }}", "no variable is called `debug`"),
            ("{{ event", "syntax error"),
            ("{% for %}", "syntax error"),
            ("{{ event | nosuchfilter }}", "no filter is called `nosuchfilter`"),
        ];
        for (source, words) in rows {
            let message = render(source).expect_err(source);
            assert!(message.contains(words), "{source}: {message}");
        }
        let error = Template::compile("{{ event }}\n{{ alert.lables }}", Scope::Alert).expect_err("a typo");
        assert_eq!(error.line, Some(2));
        assert!(error.message.contains("status, firing, new, event"), "{}", error.message);
        assert!(Template::compile(&"x".repeat(SOURCE_BYTES_MAX + 1), Scope::Alert).is_err());
    }

    #[test]
    fn filters_tests_and_templates_that_there_are_not_are_found_at_compile_time() {
        for scope in [Scope::Delivery, Scope::Html, Scope::Alert, Scope::Message(Escape::Markdown)] {
            for (source, words) in [
                ("a\n{{ event | uper }}", "no filter is called `uper`"),
                ("a\n{% if event is blue %}{% endif %}", "no test is called `blue`"),
                ("a\n{% include 'secret' %}", "no shared template is called `secret`: `templates:`"),
            ] {
                let error = Template::compile(source, scope).expect_err(source);
                assert!(error.message.contains(words) && error.line == Some(2), "{source}: {error:?}");
            }
            for right in ["{{ event | upper }}", "{% if event is defined %}{% endif %}", "{{ 1 | round }}"] {
                assert!(Template::compile(right, scope).is_ok(), "{right}");
            }
        }
    }

    #[test]
    fn failures_at_run_time_are_errors_with_their_line() {
        let rows = [
            ("{{ common_labels.nosuch }}", "undefined value"),
            ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "steps"),
            ("{% for a in range(50000) %}0123456789{% endfor %}", "more than 262144 bytes"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
            ("{{ decided | time(zone='Mars/Base') }}", "time zone"),
            ("{{ 'noon' | time }}", "is no time"),
            (concat!(doubling!(), "{{ s | json }}"), "no JSON"),
            (concat!(doubling!(), "{{ s | tojson }}"), "no JSON"),
            (concat!(doubling!(), "{{ s }}"), "more than 262144 bytes"),
        ];
        for (source, words) in rows {
            let message = render(source).expect_err(source);
            assert!(message.contains(words), "{source}: {message}");
        }
        let template = Template::compile("a\n{{ common_labels.nosuch }}", Scope::Delivery).expect("compiles");
        assert_eq!(template.render(&sample::delivery()).expect_err("missing").line, Some(2));
    }

    #[test]
    fn what_grows_without_steps_is_given_up_and_not_tried_again() {
        let growing = "{% set n = namespace(s=[1], t=[1], u=0) %}{% for i in range(45) %}{% set n.u = [n.s, n.s] %}\
            {% set n.s = n.u %}{% set n.u = [n.t, n.t] %}{% set n.t = n.u %}{% endfor %}{{ n.s == n.t }}";
        let template = Template::compile(growing, Scope::Delivery).expect("compiles");
        for _ in 0..100 {
            let error = template.render(&sample::delivery()).expect_err("for ever");
            assert!(error.message.contains("takes more than 3s"), "{error}");
        }
        // What goes as deep as there are steps does not use up a small stack.
        let deep = "{% set n = namespace(s=[1], t=[1]) %}{% for i in range(40000) %}{% set n.s = [n.s] %}{% endfor %}{{ n.s == [n.t] }}";
        let render = || render(deep);
        let shown = thread::Builder::new().stack_size(1 << 20).spawn(render).expect("a thread").join();
        assert_eq!(shown.expect("no panic").as_deref(), Ok("False"));
    }

    #[test]
    fn a_field_that_is_set_to_itself_twice_is_refused() {
        for (value, is_right) in [
            ("[n.s, n.s]", false),
            ("n.s + n.s", false),
            ("n.s ~ ',' ~ n.s", false),
            ("{'a': n.s, 'b': [n.s]}", false),
            ("n.s + [n.s2]", true),
            ("n.s ~ (', ' if n.s else '') ~ event", true),
            ("n.s + 1 if n.s < 5 else 0", true),
            ("[n.t, n.t]", true),
        ] {
            let source = format!("a\n{{% set n = namespace(s=1, s2=2, t=3) %}}{{%- set n.s = {value} -%}}");
            let compiled = Template::compile(&source, Scope::Delivery);
            assert_eq!(compiled.is_ok(), is_right, "{value}: {compiled:?}");
            if let Err(error) = compiled {
                assert!(error.message.contains("`n.s` is set to more than one of itself"), "{error}");
                assert_eq!(error.line, Some(2));
            }
        }
    }

    #[test]
    fn every_attempt_reads_the_same() {
        let template = Template::compile("{{ text }}{{ alerts | json }}", Scope::Delivery).expect("compiles");
        let first = sample::delivery();
        let again = Delivery {
            attempt: 7,
            maybe_duplicate: true,
            unfinished: Some(vec![crate::Recipient::at(1)]),
            ..first.clone()
        };
        assert_eq!(template.render(&first), template.render(&again));
    }

    #[test]
    fn each_alert_has_its_own_text() {
        let template = Template::compile("{{ alert.labels.computer }} of {{ receiver }}", Scope::Alert);
        let mut delivery = sample::delivery();
        delivery.groups[0].alerts.push(sample::alert());
        delivery.groups[0].alerts[1].labels.remove(0);
        let texts = template.expect("compiles").render_each(&delivery);
        assert_eq!(texts[0].as_deref(), Ok("ws-042 of secops"));
        assert!(texts[1].is_err(), "{texts:?}");
    }

    #[test]
    fn the_documented_variables_are_those_that_exist() {
        let shared = Value::from(Serde(&Context::of(&sample::delivery(), Wanted::EVERYTHING)));
        for (name, _) in VARIABLES.iter().filter(|(name, _)| !["alert", "root"].contains(name)) {
            assert!(!shared.get_attr(name).expect("a map").is_undefined(), "{name}");
        }
        assert_eq!(shared.len(), Some(VARIABLES.len() - 2));
        let alert = Value::from(Serde(&AlertContext::of(&sample::alert())));
        for name in ALERT_FIELDS {
            assert!(!alert.get_attr(name).expect("a map").is_undefined(), "{name}");
        }
        assert_eq!(alert.len(), Some(ALERT_FIELDS.len()));
    }

    #[test]
    fn a_template_costs_what_it_asks_for() {
        let delivery = sample::delivery_of(1, vec![sample::alert(); 1000]);
        let bytes = |source: &str| {
            let template = Template::compile(source, Scope::Delivery).expect("compiles");
            let context = Context::of(&delivery, template.wanted);
            (
                template.render(&delivery).expect("renders"),
                serde_json::to_string(&context).expect("JSON").len(),
            )
        };
        let (title, small) = bytes("{{ title }}");
        assert!(!title.is_empty() && small < 1000, "{small} bytes for {title}");
        let (count, large) =
            bytes("{% for a in alerts %}{% if loop.last %}{{ loop.index }}{% endif %}{% endfor %}");
        assert_eq!(count, "1000");
        assert!(large > 100_000, "{large}");
        assert_eq!(bytes("{{ groups | length }}").0, "1");
        assert_eq!(bytes("{{ common_labels.site }}").0, "boston");
        assert!(
            bytes("{{ common_annotations.summary }}").0.contains("EICAR")
                && !bytes("{{ text }}").0.is_empty()
        );
    }
}
