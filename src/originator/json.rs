//! Alerts as JSON: one object, an array, or objects one after the other (NDJSON), or an array as Prometheus sends it to
//! Alertmanager. Names and values go from the body straight into the batch; every alert that is wrong is named with its
//! place.

use std::{borrow::Cow, fmt};

use ams2_core::{
    AlertBatch, AlertError, BatchBuilder, Wall,
    batch::AlertTimes,
    machine::{OWN_CLIENT, OWN_LABEL},
};
use ams2_handlers::text::cut;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most mistakes that one answer lists; the rest is counted.
const PROBLEMS_MAX: usize = 100;
/// The fields of an alert, and how Alertmanager's API v2 spells them.
const FIELDS: [&str; 7] = ["id", "labels", "annotations", "starts_at", "ends_at", "generator_url", "key"];
const FIELDS_V2: [&str; 7] = ["", "labels", "annotations", "startsAt", "endsAt", "generatorURL", ""];
/// Where `labels` stand in them.
const LABELS: usize = 1;
/// Sender's times must lie in the years 1970 to 9998: others are mistakes, and overflow somewhere.
pub(super) const TIMES_MS: std::ops::Range<i64> = 0..253_370_764_800_000;

/// Limits of one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most labels.
    pub labels: usize,
    /// Most annotations.
    pub annotations: usize,
    /// Longest name, in bytes.
    pub name_bytes: usize,
    /// Largest sum of names and values, in bytes.
    pub alert_bytes: usize,
    /// Longest `id` and `key`, in bytes.
    pub id_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { labels: 64, annotations: 64, name_bytes: 1024, alert_bytes: 64 << 10, id_bytes: 256 }
    }
}

/// What is wrong with one alert of a request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AlertProblem {
    /// Which alert, counted from 0.
    pub index: usize,
    /// Where in it, as a JSON pointer (RFC 6901); empty for the alert as a whole.
    pub pointer: String,
    /// What is wrong and how to mend it.
    pub detail: String,
}

/// What is wrong with the alerts of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// The first of them, at most 100.
    pub listed: Vec<AlertProblem>,
    /// How many alerts are wrong, listed or not.
    pub alerts: usize,
}

impl Mistakes {
    /// Alerts that are each wrong in one way.
    pub fn one_each(all: impl Iterator<Item = AlertProblem>) -> Mistakes {
        let mut mistakes = Mistakes::default();
        for mistake in all {
            mistakes.alerts += 1;
            if mistakes.listed.len() < PROBLEMS_MAX {
                mistakes.listed.push(mistake);
            }
        }
        mistakes
    }

    /// How many wrong alerts are not listed.
    pub fn unlisted(&self) -> usize {
        let mut listed: Vec<usize> = self.listed.iter().map(|mistake| mistake.index).collect();
        listed.dedup();
        self.alerts - listed.len()
    }
}

/// Reads a body. Either every alert is right, or those that are not are named and counted.
pub fn parse(body: &str, limits: &Limits) -> Result<AlertBatch, Mistakes> {
    let mut sink = Sink::new(body, limits, Dialect::Native);
    let mut json = serde_json::Deserializer::from_str(body);
    let read = match body.trim_start().as_bytes().first() {
        Some(b'[') => Alerts(&mut sink).deserialize(&mut json).and_then(|()| json.end()),
        Some(b'{') => one_a_line(body, &mut sink),
        _ => Err(serde_json::Error::custom(
            "expected an alert, an array of alerts, or one alert a line: {\"labels\": {\"event\": \"Virus Found\"}}",
        )),
    };
    if let Err(error) = read {
        let detail = format!("not valid JSON for an alert: {error}");
        sink.problem(String::new(), detail);
    }
    sink.end_alert();
    if sink.mistakes.alerts == 0 { Ok(sink.builder.finish()) } else { Err(sink.mistakes) }
}

/// What is wrong with a body as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadBody {
    /// There is nothing in it.
    Empty,
    /// It is no JSON, or holds something of the wrong kind.
    Malformed(String),
    /// An alert has no labels at all: its index.
    NoLabels(usize),
}

/// Reads a body of Alertmanager's API v2: an array. An alert that is not valid keeps no other from being taken: it is
/// named or counted. Fields that are not known are passed over. `null` is how Go writes a list that nobody filled.
pub fn parse_v2(body: &str, limits: &Limits) -> Result<(AlertBatch, Mistakes), BadBody> {
    match body.trim() {
        "" => return Err(BadBody::Empty),
        "null" => return Ok((AlertBatch::default(), Mistakes::default())),
        _ => {}
    }
    let mut sink = Sink::new(body, limits, Dialect::Alertmanager);
    let mut json = serde_json::Deserializer::from_str(body);
    let read = Alerts(&mut sink).deserialize(&mut json).and_then(|()| json.end());
    match (read, sink.without_labels) {
        (Err(error), _) => Err(BadBody::Malformed(error.to_string())),
        (Ok(()), Some(index)) => Err(BadBody::NoLabels(index)),
        (Ok(()), None) => Ok((sink.builder.finish(), sink.mistakes)),
    }
}

/// Whose words the body uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Native,
    Alertmanager,
}

/// Alerts one after the other, each an object. Whether there is another is not asked of the reader that reads them: its
/// answer is an error that counts the lines from the start, each time.
fn one_a_line(body: &str, sink: &mut Sink<'_>) -> Result<(), serde_json::Error> {
    let alerts = serde_json::Deserializer::from_str(body).into_iter::<&RawValue>();
    for alert in alerts {
        let alert = alert?.get();
        One(sink).deserialize(&mut serde_json::Deserializer::from_str(alert)).map_err(|error| {
            // It counted from the alert's own start.
            let before = alert.as_ptr() as usize - body.as_ptr() as usize;
            let line = body[..before].matches('\n').count() + error.line();
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            serde_json::Error::custom(format_args!("{words} at line {line} column {}", error.column()))
        })?;
    }
    Ok(())
}

/// Longest `generator_url`, in bytes: what browsers take.
pub(super) const GENERATOR_URL_BYTES_MAX: usize = 8 << 10;

struct Sink<'l> {
    builder: BatchBuilder,
    limits: &'l Limits,
    index: usize,
    /// Whether the alert that is read is wrong, whether or not that is listed.
    is_wrong: bool,
    mistakes: Mistakes,
    dialect: Dialect,
    /// The first alert that has no labels at all.
    without_labels: Option<usize>,
}

impl<'l> Sink<'l> {
    fn new(body: &str, limits: &'l Limits, dialect: Dialect) -> Sink<'l> {
        let builder = BatchBuilder::with_capacity(body.len());
        let mistakes = Mistakes::default();
        Sink { builder, limits, index: 0, is_wrong: false, mistakes, dialect, without_labels: None }
    }

    fn fields(&self) -> &'static [&'static str; FIELDS.len()] {
        match self.dialect {
            Dialect::Native => &FIELDS,
            Dialect::Alertmanager => &FIELDS_V2,
        }
    }

    /// Something that must be a string is none. Alertmanager refuses the whole body for it.
    fn not_a_string<E: serde::de::Error>(&mut self, place: &[&str], found: &Scalar<'_>) -> Result<(), E> {
        let detail = format!("expected a string, found {found}; quote it");
        if self.dialect == Dialect::Alertmanager {
            return Err(E::custom(format_args!("alert {}{}: {detail}", self.index, pointer(place))));
        }
        self.problem(pointer(place), detail);
        Ok(())
    }

    fn problem(&mut self, pointer: String, detail: String) {
        self.is_wrong = true;
        if self.mistakes.listed.len() < PROBLEMS_MAX {
            self.mistakes.listed.push(AlertProblem { index: self.index, pointer, detail });
        }
    }

    /// The next alert begins.
    fn end_alert(&mut self) {
        self.mistakes.alerts += usize::from(std::mem::take(&mut self.is_wrong));
        self.index += 1;
    }
}

/// An array of alerts.
struct Alerts<'s, 'l>(&'s mut Sink<'l>);

impl<'de> DeserializeSeed<'de> for Alerts<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Alerts<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of alerts")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut alerts: A) -> Result<(), A::Error> {
        while alerts.next_element_seed(One(self.0))?.is_some() {}
        Ok(())
    }
}

/// One alert.
struct One<'s, 'l>(&'s mut Sink<'l>);

impl<'de> DeserializeSeed<'de> for One<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an alert: an object with `labels`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let sink = self.0;
        let mut seen = [false; FIELDS.len()];
        let mut plain = Plain::default();
        let mut size = PairsSize::default();
        let names = sink.fields();
        while let Some(Text(field)) = fields.next_key::<Text<'de>>()? {
            let Some(number) = names.iter().position(|known| *known == field && !known.is_empty()) else {
                sink.unknown_field(&field);
                fields.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut seen[number], true) {
                sink.problem(pointer(&[&field]), format!("the field `{field}` is given twice"));
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            match FIELDS[number] {
                "labels" => fields.next_value_seed(Pairs { sink, size: &mut size, labels: true })?,
                "annotations" => fields.next_value_seed(Pairs { sink, size: &mut size, labels: false })?,
                _ => match fields.next_value::<Scalar<'de>>()? {
                    Scalar::Text(value) => sink.plain_field(number, value, &mut plain),
                    Scalar::Null => {}
                    other => sink.not_a_string(&[names[number]], &other)?,
                },
            }
        }
        sink.alert_read(plain, &size, seen[LABELS]);
        Ok(())
    }
}

/// Bytes of a name that a mistake shows.
const NAME_SHOWN: usize = 40;

/// Fields of an alert that are one string each.
#[derive(Default)]
struct Plain<'a> {
    times: AlertTimes,
    id: Option<Cow<'a, str>>,
    generator_url: Option<Cow<'a, str>>,
}

impl Sink<'_> {
    /// Alertmanager's API passes such fields over.
    fn unknown_field(&mut self, field: &str) {
        if self.dialect == Dialect::Native {
            let field = &*cut(field, NAME_SHOWN);
            let near = crate::config::nearest(field, FIELDS.iter().copied());
            let hint = near.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
            self.problem(pointer(&[field]), format!("unknown field `{field}`{hint}"));
        }
    }

    /// Takes a field that is one string, if it is right.
    fn plain_field<'a>(&mut self, number: usize, value: Cow<'a, str>, plain: &mut Plain<'a>) {
        let (name, limit) = (self.fields()[number], self.limits.id_bytes);
        match FIELDS[number] {
            "starts_at" => plain.times.starts_at = time(self, name, &value),
            "ends_at" => plain.times.ends_at = time(self, name, &value),
            "id" | "key" if value.is_empty() || value.len() > limit => {
                let article = if name == "id" { "an" } else { "a" };
                let detail = format!("{article} {name} has 1 to {limit} bytes, this one {}", value.len());
                self.problem(pointer(&[name]), detail);
            }
            "id" => plain.id = Some(value),
            "key" => self.builder.key(&value),
            _ if value.len() > GENERATOR_URL_BYTES_MAX => {
                let detail = format!(
                    "the URL has {} bytes; at most {GENERATOR_URL_BYTES_MAX} are allowed",
                    value.len()
                );
                self.problem(pointer(&[name]), detail);
            }
            _ => plain.generator_url = Some(value).filter(|url| !url.is_empty()),
        }
    }

    /// All of an alert is read: it goes into the batch, or what is wrong with it is noted.
    fn alert_read(&mut self, mut plain: Plain<'_>, size: &PairsSize, has_labels: bool) {
        if size.bytes > self.limits.alert_bytes {
            let detail = format!(
                "labels and annotations have {} bytes; at most {} are allowed (originator.limits.alert_bytes)",
                size.bytes, self.limits.alert_bytes
            );
            self.problem(String::new(), detail);
        }
        if self.dialect == Dialect::Alertmanager {
            if !has_labels {
                self.without_labels.get_or_insert(self.index);
            }
            if self.is_wrong {
                // The others are taken without it.
                self.builder.discard_alert();
                self.end_alert();
                return;
            }
            // Alertmanager's rule, whether that is past or to come.
            plain.times.starts_at = plain.times.starts_at.or(plain.times.ends_at);
        }
        let Plain { times, id, generator_url } = plain;
        let finished = self.builder.finish_alert(times, id.as_deref(), generator_url.as_deref());
        if !self.is_wrong
            && let Err(error) = finished
        {
            let (place, mend) = match error {
                AlertError::NoLabels => {
                    ("/labels", "; give at least one, such as {\"event\": \"Virus Found\"}")
                }
                AlertError::EndsBeforeStart => ("/ends_at", "; an alert ends after it began"),
                AlertError::DuplicateName(_) | AlertError::EmptyName => {
                    ("/labels", "; each name once, none empty")
                }
                AlertError::TooLarge => ("", ""),
            };
            self.problem(place.into(), format!("{error}{mend}"));
        }
        self.end_alert();
    }
}

#[derive(Default)]
struct PairsSize {
    labels: usize,
    annotations: usize,
    bytes: usize,
}

/// Labels or annotations.
struct Pairs<'s, 'l> {
    sink: &'s mut Sink<'l>,
    size: &'s mut PairsSize,
    labels: bool,
}

impl<'de> DeserializeSeed<'de> for Pairs<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pairs<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of names and strings")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<(), A::Error> {
        let Pairs { sink, size, labels } = self;
        let what = if labels { "labels" } else { "annotations" };
        while let Some(Text(name)) = pairs.next_key::<Text<'de>>()? {
            let value = pairs.next_value::<Scalar<'de>>()?;
            let Scalar::Text(value) = value else {
                sink.not_a_string(&[what, &name], &value)?;
                continue;
            };
            if labels && name == OWN_LABEL && value == OWN_CLIENT {
                let detail = format!(
                    "only the router itself says `{OWN_LABEL}=\"{OWN_CLIENT}\"`; give the label another value"
                );
                sink.problem(pointer(&[what, &name]), detail);
                continue;
            }
            let (count, most) = match labels {
                true => (&mut size.labels, sink.limits.labels),
                false => (&mut size.annotations, sink.limits.annotations),
            };
            *count += 1;
            size.bytes += name.len() + value.len();
            if *count == most + 1 {
                sink.problem(
                    format!("/{what}"),
                    format!("more than {most} {what} (originator.limits.{what})"),
                );
            }
            if name.len() > sink.limits.name_bytes {
                let (start, limit) = (cut(&name, NAME_SHOWN), sink.limits.name_bytes);
                let detail =
                    format!("the name `{start}` has {} bytes; at most {limit} are allowed", name.len());
                sink.problem(format!("/{what}"), detail);
            } else if *count <= most && size.bytes <= sink.limits.alert_bytes {
                if labels {
                    sink.builder.label(&name, &value)
                } else {
                    sink.builder.annotation(&name, &value)
                }
            }
        }
        Ok(())
    }
}

/// A moment by RFC 3339. Go's zero time counts as absent: its clients send it for "none".
fn time(sink: &mut Sink<'_>, field: &str, text: &str) -> Option<Wall> {
    if text.starts_with("0001-01-01T00:00:00") {
        return None;
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) if TIMES_MS.contains(&moment.as_millisecond()) => Some(Wall(moment.as_millisecond())),
        Ok(_) => {
            sink.problem(pointer(&[field]), format!("the year of `{text}` is not from 1970 to 9998"));
            None
        }
        Err(_) => {
            let shown: String = text.chars().take(60).collect();
            let detail = format!("`{shown}` is no time by RFC 3339; write it like 2026-11-24T02:10:00Z");
            sink.problem(pointer(&[field]), detail);
            None
        }
    }
}

/// A JSON pointer (RFC 6901).
fn pointer(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

/// A string, borrowed from the body where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
        match deserializer.deserialize_any(ScalarVisitor)? {
            Scalar::Text(text) => Ok(Text(text)),
            other => Err(D::Error::custom(format!("expected a string, found {other}"))),
        }
    }
}

/// A string, or what was found instead.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Null,
    Other(&'static str),
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scalar::Text(_) => "a string",
            Scalar::Null => "null",
            Scalar::Other(what) => what,
        })
    }
}

impl<'de> serde::Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar<'de>, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other("a boolean"))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other("a number"))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other("a number"))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other("a number"))
    }
    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an array"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Scalar<'de>, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(body: &str) -> AlertProblem {
        parse(body, &Limits::default()).expect_err("wrong").listed.remove(0)
    }

    #[test]
    fn alerts_one_after_the_other_are_read_to_the_end_and_mistakes_have_their_line() {
        let one = r#"{"labels":{"event":"E"}}"#;
        for between in ["\n", " ", "", "\r\n\r\n"] {
            let body = format!("{one}{between}{one}{between}");
            assert_eq!(parse(&body, &Limits::default()).expect("right").len(), 2, "{between:?}");
        }
        let found = mistake(&format!("{one}\n{one}\n{{\"labels\": 7}}\n"));
        assert_eq!(found.index, 2);
        assert!(found.detail.contains("line 3 column 12"), "{found:?}");
        let found = mistake(&format!("{one}\n{one}\n{{\"labels\": }}\n"));
        assert!(found.detail.contains("line 3"), "{found:?}");
        assert!(mistake(&format!("{one}\nnonsense")).detail.contains("line 2"));
    }

    #[test]
    fn an_alert_may_have_a_key() {
        let batch = parse(r#"[{"labels":{"a":"b"},"key":"k"},{"labels":{"a":"c"}}]"#, &Limits::default())
            .expect("right");
        let keys: Vec<_> = batch.iter().map(|alert| alert.key().map(str::to_owned)).collect();
        assert_eq!((keys, batch.has_keys()), (vec![Some("k".into()), None], true));
        for key in ["", &"k".repeat(257)] {
            let found = mistake(&format!("{{\"labels\":{{\"a\":\"b\"}},\"key\":\"{key}\"}}"));
            assert_eq!((found.pointer.as_str(), &found.detail[..21]), ("/key", "a key has 1 to 256 by"));
        }
        // Alertmanager has none.
        let (batch, _) =
            parse_v2(r#"[{"labels":{"a":"b"},"key":"k"}]"#, &Limits::default()).expect("an array");
        assert!(!batch.has_keys());
    }

    #[test]
    fn every_wrong_alert_is_counted_and_none_is_taken_however_many_there_are() {
        let wrong = [
            "\"labels\":{\"a\":\"b\"},\"startsAt\":\"garbage\"".to_owned(),
            format!("\"labels\":{{\"a\":\"b\",\"{}\":\"c\"}}", "n".repeat(2000)),
            "\"labels\":{\"a\":\"b\",\"source\":\"ams2\"}".to_owned(),
            "\"labels\":{}".to_owned(),
        ];
        for wrong in wrong {
            let one = format!("{{{wrong}}},");
            let body = format!("[{}{{\"labels\":{{\"a\":\"right\"}}}}]", one.repeat(150));
            let (batch, mistakes) = parse_v2(&body, &Limits::default()).expect("an array");
            assert_eq!((batch.len(), mistakes.alerts), (1, 150), "{one}");
            assert_eq!((mistakes.listed.len(), mistakes.unlisted()), (PROBLEMS_MAX, 50));
            let native = body.replace("startsAt", "starts_at");
            assert_eq!(parse(&native, &Limits::default()).expect_err("wrong").alerts, 150, "{one}");
        }
    }

    /// Were the lines before it counted anew for each line, as for the place of an error, these would be as many minutes.
    #[test]
    fn three_hundred_thousand_lines_are_read_within_a_minute() {
        const LINES: usize = 300_000;
        const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
        let (sender, read) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let body = "{\"labels\":{\"a\":\"b\"}}\n".repeat(LINES);
            // Nobody listens any more if it is too late.
            let _ = sender.send(parse(&body, &Limits::default()).map(|batch| batch.len()));
        });
        assert_eq!(read.recv_timeout(DEADLINE), Ok(Ok(LINES)));
    }
}
