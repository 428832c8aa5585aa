//! `ams2 send`: one alert from the command line, or JSON lines from standard input, with a spool for bad days.

use std::io::{IsTerminal, Read};

use bytes::Bytes;
use hyper::Method;
use serde_json::value::RawValue;

use super::{CliError, Exit, args::Send, client::Client, spool::Spool, talk};

/// Largest standard input that is sent in one request, in bytes: the server's limit.
const INPUT_BYTES_MAX: u64 = 8 << 20;

/// How long ago `--resolve` says that it ended.
const RESOLVED_AGO: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

pub(super) async fn send(send: Send) -> Result<Exit, CliError> {
    let client = Client::new(&send.server)?;
    let spool = send.spool.as_deref().map(Spool::open).transpose().map_err(|error| {
        CliError::new(
            Exit::Usage,
            format!("cannot use the spool folder: {error}"),
            "name one that you may write to",
        )
    })?;
    if send.flush {
        let spool = spool.expect("--flush requires --spool");
        return Ok(if flush(&client, &spool).await? == Flushed::Whole { Exit::Done } else { Exit::No });
    }
    let body = body(&send)?;
    if let Some(spool) = &spool {
        // What waited goes first, so that the order of one machine's alerts stands.
        match flush(&client, spool).await {
            Ok(Flushed::Whole | Flushed::SomeRefused) => {}
            Ok(Flushed::ByAnother) => {
                let why = "another sender empties the spool just now, and what waits goes first";
                return keep(spool, &body, &CliError::new(Exit::Unavailable, why, ""));
            }
            Err(error) => return keep(spool, &body, &error),
        }
    }
    match post(&client, body.clone()).await {
        Ok(()) => Ok(Exit::Done),
        Err(NotTaken::ForGood(error)) => Err(error),
        Err(NotTaken::ForNow(error)) => match &spool {
            // What is wrong on our side is mended by who calls, who has the alert still.
            Some(spool) if error.exit != Exit::Usage => keep(spool, &body, &error),
            _ => Err(error),
        },
    }
}

/// Why no server keeps an alert.
enum NotTaken {
    /// It was found wrong itself.
    ForGood(CliError),
    /// Nobody answers, or it was not looked at.
    ForNow(CliError),
}

async fn post(client: &Client, body: Bytes) -> Result<(), NotTaken> {
    let answer = client.call(Method::POST, "/api/v1/alerts", "application/x-ndjson", body).await;
    let answer = answer.map_err(NotTaken::ForNow)?;
    if answer.keeps_alerts() {
        return Ok(());
    }
    let why = if answer.judges_alerts() { NotTaken::ForGood } else { NotTaken::ForNow };
    Err(why(match answer.accepted() {
        Err(error) => error,
        Ok(_) => CliError::new(
            Exit::No,
            format!("{} answered something else than ams2 does", client.name()),
            "see that --to leads to an ams2, and what stands between",
        ),
    }))
}

fn keep(spool: &Spool, body: &[u8], why: &CliError) -> Result<Exit, CliError> {
    spool.keep(body).map_err(|error| {
        CliError::new(Exit::Unavailable, format!("{}; and it cannot be kept: {error}", why.message), "")
    })?;
    talk(format_args!(
        "kept in the spool, to be sent by the next call or `ams2 send --flush --spool {}`: {}",
        spool.dir().display(),
        why.message
    ));
    Ok(Exit::Done)
}

/// What became of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flushed {
    /// All of it is sent.
    Whole,
    /// All is sent but what the server refused for good, which is set aside.
    SomeRefused,
    /// Another sender is at it.
    ByAnother,
}

/// Sends what the spool keeps, oldest first.
async fn flush(client: &Client, spool: &Spool) -> Result<Flushed, CliError> {
    let broken = |error: std::io::Error| {
        CliError::new(Exit::Unavailable, format!("the spool cannot be read: {error}"), "see its permissions")
    };
    let Some(_lock) = spool.lock().map_err(broken)? else { return Ok(Flushed::ByAnother) };
    let mut flushed = Flushed::Whole;
    for path in spool.waiting().map_err(broken)? {
        let body = std::fs::read(&path).map_err(broken)?;
        match post(client, body.into()).await {
            Ok(()) => spool.done(&path).map_err(broken)?,
            Err(NotTaken::ForGood(error)) => {
                let aside = spool.refused(&path, &error.message).map_err(broken)?;
                talk(format_args!("set aside as {}: {}", aside.display(), error.message));
                flushed = Flushed::SomeRefused;
            }
            Err(NotTaken::ForNow(error)) => return Err(error),
        }
    }
    Ok(flushed)
}

/// The request: one alert from the arguments, or standard input as it is.
fn body(send: &Send) -> Result<Bytes, CliError> {
    let Some(event) = &send.event else {
        return from_input(send);
    };
    if event.is_empty() {
        let mend = "say what happened: ams2 send \"Virus Found\" -l computer=ws-042";
        return Err(CliError::new(Exit::Usage, "EVENT is empty", mend));
    }
    let mut labels = pairs(&send.labels, "--label")?;
    insert(&mut labels, "event", event, "EVENT")?;
    if let Some(severity) = &send.severity {
        hint_at_rank(severity);
        insert(&mut labels, "severity", severity, "--severity")?;
    }
    let mut alert = serde_json::json!({ "labels": labels });
    let annotations = pairs(&send.annotations, "--annotation")?;
    if !annotations.is_empty() {
        alert["annotations"] = annotations.into();
    }
    if let Some(key) = &send.key {
        alert["key"] = key.as_str().into();
    }
    let now = jiff::Timestamp::now();
    if send.resolve {
        // A clock there that is a little behind ours shall not take the end for one that is still to come.
        alert["ends_at"] = format!("{:.3}", now - RESOLVED_AGO).into();
    } else {
        // The start is told, so that what waits in a spool keeps its true time.
        alert["starts_at"] = format!("{now:.3}").into();
        alert["id"] = send.id.clone().map_or_else(random_id, Ok)?.into();
    }
    Ok(alert.to_string().into())
}

/// Any word is accepted, but one without a rank is passed over by routes such as `severity >= major`.
fn hint_at_rank(word: &str) {
    let known = ams2_core::Severities::default();
    if known.rank(word).is_some() {
        return;
    }
    let ranks = ams2_core::Severity::ALL.iter().map(|severity| severity.word());
    let near = crate::config::nearest(&word.to_lowercase(), ranks);
    let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    talk(format_args!(
        "note: `{word}` has no rank unless the server's `severities:` give it one{near}; it is sent as it is"
    ));
}

fn from_input(send: &Send) -> Result<Bytes, CliError> {
    let usage = |message: &str, mend: &str| CliError::new(Exit::Usage, message, mend);
    let alone =
        send.labels.is_empty() && send.annotations.is_empty() && send.severity.is_none() && !send.resolve;
    if !alone {
        return Err(usage(
            "labels, severity and --resolve need an EVENT",
            "ams2 send \"Virus Found\" -l computer=ws-042",
        ));
    }
    if std::io::stdin().is_terminal() {
        return Err(usage(
            "what happened? EVENT is missing",
            "ams2 send \"Virus Found\" -l computer=ws-042 --severity critical; or pipe JSON lines in",
        ));
    }
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut input);
    read.map_err(|error| usage(&format!("standard input cannot be read: {error}"), ""))?;
    if input.len() as u64 > INPUT_BYTES_MAX {
        return Err(usage("standard input is over 8 MiB", "send it in several calls"));
    }
    if input.iter().all(u8::is_ascii_whitespace) {
        return Err(usage(
            "standard input is empty",
            "each line is an alert: {\"labels\":{\"event\":\"Virus Found\"}}",
        ));
    }
    with_ids(&input)
}

/// Gives every alert of the input an `id` that has none, so that a repeated call after a lost answer is one occurrence
/// of each. Else its bytes stay as they are, and so does what is no JSON: the server says best what is wrong with it.
fn with_ids(input: &[u8]) -> Result<Bytes, CliError> {
    let parsed: Result<Vec<&RawValue>, _> = serde_json::Deserializer::from_slice(input).into_iter().collect();
    let Ok(values) = parsed else { return Ok(Bytes::copy_from_slice(input)) };
    let mut lines = String::with_capacity(input.len() * 2);
    for value in values {
        match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(alerts) => alerts.iter().try_for_each(|alert| push_line(&mut lines, alert.get()))?,
            Err(_) => push_line(&mut lines, value.get())?,
        }
    }
    if lines.len() as u64 > INPUT_BYTES_MAX {
        // Said before anything is sent or kept: in several requests some could be accepted and others not.
        let message =
            format!("standard input is over 8 MiB once each alert has an id ({} bytes)", lines.len());
        return Err(CliError::new(Exit::Usage, message, "send it in several calls"));
    }
    Ok(lines.into())
}

fn push_line(lines: &mut String, alert: &str) -> Result<(), CliError> {
    // JSON's own line breaks stand between values; within text they are escaped.
    let alert = alert.replace(['\r', '\n'], " ");
    match (serde_json::from_str::<Keys>(&alert), alert.strip_prefix('{')) {
        (Ok(keys), Some(rest)) if !keys.has("id") && !keys.has("ends_at") => {
            let comma = if keys.0.is_empty() { "" } else { "," };
            lines.push_str(&format!("{{\"id\":\"{}\"{comma}{rest}", random_id()?));
        }
        _ => lines.push_str(&alert),
    }
    lines.push('\n');
    Ok(())
}

/// The keys of an object, each as often as it stands there.
struct Keys(Vec<String>);

impl Keys {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|key| key == name)
    }
}

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, serde::de::IgnoredAny)) = map.next_entry::<String, _>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

pub(super) type Pairs = serde_json::Map<String, serde_json::Value>;

pub(super) fn pairs(texts: &[String], what: &str) -> Result<Pairs, CliError> {
    let mut pairs = Pairs::new();
    for text in texts {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            CliError::new(
                Exit::Usage,
                format!("{what} `{text}` has no `=`"),
                format!("write {what} name=value"),
            )
        })?;
        if name.is_empty() {
            let message = format!("{what} `{text}` has no name before the `=`");
            return Err(CliError::new(Exit::Usage, message, format!("write {what} name=value")));
        }
        insert(&mut pairs, name, value, what)?;
    }
    Ok(pairs)
}

fn insert(pairs: &mut Pairs, name: &str, value: &str, what: &str) -> Result<(), CliError> {
    match pairs.insert(name.to_owned(), value.into()) {
        None => Ok(()),
        Some(_) => {
            Err(CliError::new(Exit::Usage, format!("`{name}` is given twice, the second time by {what}"), ""))
        }
    }
}

fn random_id() -> Result<String, CliError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        CliError::new(Exit::Failed, format!("the system gives no random bytes: {error}"), "")
    })?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alert_of_the_input_gets_an_id_and_stays_as_it_is_otherwise() {
        let rows = [
            // What the server refuses must reach it: a name that is given twice.
            (
                r#"{"labels":{"event":"A","event":"B"}}"#,
                r#"{"id":"#,
                r#"","labels":{"event":"A","event":"B"}}"#,
            ),
            ("{\n \"labels\": {} }", r#"{"id":"#, r#"",  "labels": {} }"#),
            ("{}", r#"{"id":"#, r#""}"#),
            (r#"{"id":"7","labels":{}}"#, r#"{"id":"7","#, r#""labels":{}}"#),
            (r#"{"labels":{},"ends_at":"x"}"#, r#"{"labels"#, r#":{},"ends_at":"x"}"#),
            ("7", "7", ""),
        ];
        for (input, start, end) in rows {
            let line = with_ids(input.as_bytes()).expect("random bytes");
            let line =
                std::str::from_utf8(&line).expect("text").strip_suffix('\n').expect("a line").to_owned();
            assert!(line.starts_with(start) && line.ends_with(end), "{input}: {line}");
        }
        let array = with_ids(br#"[{"a":1},{"a":1}] {"a":1}"#).expect("random bytes");
        let text = std::str::from_utf8(&array).expect("text");
        let ids: std::collections::BTreeSet<&str> = text.lines().map(|line| &line[..40]).collect();
        assert_eq!((text.lines().count(), ids.len()), (3, 3), "{text}");
        assert_eq!(with_ids(b"{\"a\":").expect("as it is"), "{\"a\":");
    }

    #[test]
    fn what_grows_over_the_limit_by_its_ids_is_refused_at_once() {
        let alert = r#"{"labels":{"event":"A"}}"#;
        let most = INPUT_BYTES_MAX as usize;
        let grown = with_ids(alert.as_bytes()).expect("random bytes").len();
        assert!(with_ids(alert.repeat(most / grown).as_bytes()).is_ok());
        let over = with_ids(alert.repeat(most / grown + 1).as_bytes()).expect_err("over the limit");
        assert_eq!(over.exit, Exit::Usage);
        assert!(over.message.contains("once each alert has an id"), "{over}");
    }
}
