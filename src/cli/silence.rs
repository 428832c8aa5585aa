//! `ams2 silence`: who matches is not told for a while.

use std::io::Read as _;

use serde::Deserialize;

use super::{
    CliError, Exit,
    args::{SilenceAdd, SilenceDo, SilenceTerms, SilenceUpdate, SilenceVerb},
    client::Client,
    operate::{percent, table},
    say, talk,
};
use crate::console::{ExpireOrder, Preview, PreviewOrder, SetDone, SetOrder, views};

/// Largest file that is imported, in bytes.
const IMPORT_BYTES_MAX: u64 = 64 << 20;

pub(super) async fn silence(silence: SilenceVerb) -> Result<Exit, CliError> {
    match silence.verb {
        SilenceDo::Add(add) => self::add(add).await,
        SilenceDo::Update(update) => self::update(update).await,
        SilenceDo::Query { matchers, state, json, server } => {
            let mut parameters = Vec::new();
            if let Some(state) = state {
                parameters.push(format!("state={}", percent(&state)));
            }
            if !matchers.is_empty() {
                parameters.push(format!("filter={}", percent(&matchers.join(","))));
            }
            let path = format!("/api/v1/silences?{}", parameters.join("&"));
            let client = Client::new(&server)?;
            if json {
                let rows: serde_json::Value = client.fetch(&path).await?;
                say(serde_json::to_string_pretty(&rows).expect("JSON encodes"));
            } else {
                show(client.fetch(&path).await?);
            }
            Ok(Exit::Done)
        }
        SilenceDo::Expire { ids, server } => {
            let client = Client::new(&server)?;
            for id in ids {
                let done: SetDone = client.post("/api/v1/silences/expire", &ExpireOrder { id }).await?;
                talk(format_args!("{} is over (sequence {})", done.id, done.sequence));
            }
            Ok(Exit::Done)
        }
        SilenceDo::Import { file, server } => import(file, &Client::new(&server)?).await,
        SilenceDo::Preview { matchers, json, server } => {
            let order = PreviewOrder { matchers };
            let preview: Preview = Client::new(&server)?.post("/api/v1/silences/preview", &order).await?;
            if json {
                say(serde_json::to_string_pretty(&preview).expect("plain data encodes"));
            } else {
                show_preview(&preview);
            }
            Ok(if preview.current_count == 0 && preview.recent.is_empty() { Exit::No } else { Exit::Done })
        }
    }
}

async fn add(add: SilenceAdd) -> Result<Exit, CliError> {
    let default = add.terms.end.is_none().then_some("1h");
    let order = SetOrder { matchers: add.matchers, ..order(add.terms, default)? };
    let done: SetDone = Client::new(&add.server)?.post("/api/v1/silences", &order).await?;
    say(done.id);
    Ok(Exit::Done)
}

async fn update(update: SilenceUpdate) -> Result<Exit, CliError> {
    let id = Some(update.id.clone());
    let order = SetOrder { id, matchers: update.matchers, ..order(update.terms, None)? };
    let done: SetDone = Client::new(&update.server)?.post("/api/v1/silences", &order).await?;
    if done.id != update.id {
        talk(format_args!("{} is over; a new one takes its place", update.id));
    }
    say(done.id);
    Ok(Exit::Done)
}

/// What both have in common. `default` is the duration of one that gives none.
fn order(terms: SilenceTerms, default: Option<&str>) -> Result<SetOrder, CliError> {
    Ok(SetOrder {
        seconds: seconds(terms.duration.as_deref(), default)?,
        starts_at: terms.start,
        ends_at: terms.end,
        by: terms.by,
        comment: terms.comment,
        ..SetOrder::default()
    })
}

fn seconds(duration: Option<&str>, default: Option<&str>) -> Result<Option<u64>, CliError> {
    let Some(text) = duration.or(default) else { return Ok(None) };
    let duration = ams2_handlers::units::Duration::parse(text)
        .map_err(|error| CliError::new(Exit::Usage, format!("--for: {error}"), "write 30m, 2h, 1d"))?;
    Ok(Some(duration.ms().div_ceil(1000)))
}

fn show(rows: Vec<views::Silence>) {
    table(
        &["ID", "STATE", "MATCHERS", "FROM", "UNTIL", "BY", "COMMENT"],
        rows.into_iter().map(|row| {
            let matchers = row.matchers.join(" ");
            let by = if row.client.is_empty() { row.by } else { format!("{} (by {})", row.by, row.client) };
            vec![row.id, row.state, matchers, row.starts_at, row.ends_at, by, row.comment]
        }),
    );
}

fn show_preview(preview: &Preview) {
    talk(format_args!("{} alerts that fire now would be held back", preview.current_count));
    let labels = |labels: &std::collections::BTreeMap<String, String>| {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.join(" ")
    };
    let current = preview
        .current
        .iter()
        .map(|alert| vec!["fires".into(), labels(&alert.labels), alert.receivers.join(",")]);
    let recent = preview.recent.iter().map(|of| vec!["is over".into(), labels(of), String::new()]);
    table(&["ALERT", "LABELS", "RECEIVERS"], current.chain(recent));
}

/// A silence of another server: ours, or Alertmanager's as `amtool silence query -o json` writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Imported {
    Ours {
        matchers: Vec<String>,
        starts_at: String,
        ends_at: String,
        by: String,
        comment: String,
    },
    Theirs {
        matchers: Vec<TheirMatcher>,
        #[serde(rename = "startsAt")]
        starts_at: String,
        #[serde(rename = "endsAt")]
        ends_at: String,
        #[serde(rename = "createdBy")]
        by: String,
        comment: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TheirMatcher {
    name: String,
    value: String,
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

impl Imported {
    fn order(self) -> SetOrder {
        let (matchers, starts_at, ends_at, by, comment) = match self {
            Imported::Ours { matchers, starts_at, ends_at, by, comment } => {
                (matchers, starts_at, ends_at, by, comment)
            }
            Imported::Theirs { matchers, starts_at, ends_at, by, comment } => {
                let text = |m: TheirMatcher| {
                    let op = match (m.is_regex, m.is_equal) {
                        (false, true) => "=",
                        (false, false) => "!=",
                        (true, true) => "=~",
                        (true, false) => "!~",
                    };
                    let quoted = |text: &str| serde_json::to_string(text).expect("text is JSON");
                    format!("{}{op}{}", quoted(&m.name), quoted(&m.value))
                };
                (matchers.into_iter().map(text).collect(), starts_at, ends_at, by, comment)
            }
        };
        SetOrder {
            matchers,
            starts_at: Some(starts_at),
            ends_at: Some(ends_at),
            by: Some(by),
            comment: Some(comment),
            ..SetOrder::default()
        }
    }
}

/// Each as a new one. What is refused is said, and the others are made all the same.
async fn import(file: Option<std::path::PathBuf>, client: &Client) -> Result<Exit, CliError> {
    let mut text = String::new();
    let unreadable = |error: std::io::Error| {
        CliError::new(
            Exit::Usage,
            format!("the silences cannot be read: {error}"),
            "name a file of JSON, or write it to standard input",
        )
    };
    match &file {
        Some(path) => {
            std::fs::File::open(path).and_then(|file| file.take(IMPORT_BYTES_MAX).read_to_string(&mut text))
        }
        None => std::io::stdin().take(IMPORT_BYTES_MAX).read_to_string(&mut text),
    }
    .map_err(unreadable)?;
    let silences: Vec<Imported> = serde_json::from_str(&text).map_err(|error| {
        let mend = "write what `ams2 silence query --json` or `amtool silence query -o json` prints";
        CliError::new(Exit::Usage, format!("these are no silences: {error}"), mend)
    })?;
    let (all, mut refused) = (silences.len(), 0);
    for (silence, number) in silences.into_iter().zip(1..) {
        let made: Result<SetDone, CliError> = client.post("/api/v1/silences", &silence.order()).await;
        match made {
            Ok(done) => say(done.id),
            Err(error) if error.exit == Exit::No => {
                refused += 1;
                talk(format_args!("silence {number}: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    talk(format_args!("{} of {all} silences are made", all - refused));
    Ok(if refused == 0 { Exit::Done } else { Exit::No })
}
