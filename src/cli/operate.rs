//! Verbs that ask or steer a running router: query, ack, delivery, action, reload.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::Method;

use super::{
    CliError, Exit,
    args::{
        Ack, ActionDo, ActionVerb, DeliveryState, DeliveryVerb, Query, Reload, RetryOrDrop, Server, What,
    },
    client::{Client, Rows},
    say, talk,
};
use crate::console::{AcknowledgeOrder, Decision, DeliveryOrder, Done, TestAnswer, TestOrder, views};

pub(super) async fn query(query: Query) -> Result<Exit, CliError> {
    let client = Client::new(&query.server)?;
    let mut parameters = Vec::new();
    if query.what == What::Decisions {
        if let [about] = query.matchers.as_slice() {
            parameters.push(format!("about={}", percent(about)));
        } else if !query.matchers.is_empty() {
            let mend = "give one fingerprint, delivery id, group key, heartbeat or client; `ams2 query alerts --json` shows them";
            return Err(CliError::new(Exit::Usage, "decisions are about one thing", mend));
        }
    } else if !query.matchers.is_empty() {
        parameters.push(format!("filter={}", percent(&query.matchers.join(","))));
    }
    if let Some(limit) = query.limit {
        parameters.push(format!("limit={limit}"));
    }
    if query.state.is_some() && query.what != What::Deliveries {
        let mend = "write `ams2 query deliveries --state ...`";
        return Err(CliError::new(Exit::Usage, "only deliveries have a `--state`", mend));
    }
    let path = match query.what {
        What::Alerts => "alerts",
        What::Groups => "groups",
        What::Deliveries => {
            let state = match query.state.unwrap_or(DeliveryState::Pending) {
                DeliveryState::Pending => "pending",
                DeliveryState::Dead => "dead",
                DeliveryState::Done => "done",
                DeliveryState::All => "all",
            };
            parameters.push(format!("state={state}"));
            "deliveries"
        }
        What::DeadLetters => {
            parameters.push("state=dead".into());
            "deliveries"
        }
        What::Decisions => "decisions",
        What::Heartbeats => "heartbeats",
    };
    let path = format!("/api/v1/{path}?{}", parameters.join("&"));
    if query.json {
        let rows: serde_json::Value = listed(&client, &path).await?;
        say(serde_json::to_string_pretty(&rows).expect("JSON encodes"));
        return Ok(Exit::Done);
    }
    match query.what {
        What::Alerts => alerts(listed(&client, &path).await?),
        What::Groups => groups(listed(&client, &path).await?),
        What::Deliveries | What::DeadLetters => deliveries(listed(&client, &path).await?),
        What::Decisions => decisions(listed(&client, &path).await?),
        What::Heartbeats => heartbeats(listed(&client, &path).await?),
    }
    Ok(Exit::Done)
}

/// A list, with a word when it is not all there is.
pub(super) async fn listed<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
) -> Result<T, CliError> {
    let Rows { rows, truncated, known_from } = client.list(path).await?;
    if let Some(first) = known_from {
        talk(format_args!("decisions are known from sequence {first} on; the newest 10,000 are kept"));
    }
    if let Some(truncated) = truncated {
        talk(format_args!(
            "there is more: shown are {truncated}; --limit N shows more, matchers show others"
        ));
    }
    Ok(rows)
}

fn alerts(rows: Vec<views::Alert>) {
    table(
        &["SINCE", "STATE", "SEVERITY", "EVENT", "LABELS", "RECEIVERS", "ACKNOWLEDGED"],
        rows.into_iter().map(|row| {
            let label = |name: &str| row.labels.get(name).cloned().unwrap_or_default();
            let event = if label("event").is_empty() { label("alertname") } else { label("event") };
            let shown = |name: &str| !matches!(name, "event" | "alertname" | "severity");
            let labels: Vec<String> = row
                .labels
                .iter()
                .filter(|(name, _)| shown(name.as_str()))
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let by = row.acknowledged.as_ref().map(|ack| ack.by.clone()).unwrap_or_default();
            vec![
                row.starts_at.clone(),
                row.state.clone(),
                label("severity"),
                event,
                labels.join(" "),
                row.receivers.join(","),
                by,
            ]
        }),
    );
}

fn groups(rows: Vec<views::Group>) {
    table(
        &["GROUP", "RECEIVER", "ALERTS", "NEXT LOOK", "ACTION", "PENDING", "TOLD", "HELD"],
        rows.into_iter().flat_map(|row| {
            let first = vec![
                row.key.clone(),
                row.receiver.clone(),
                row.alerts.len().to_string(),
                row.next_look.clone().unwrap_or_else(|| "-".into()),
            ];
            let action = |action: &views::GroupAction| {
                vec![
                    action.action.clone(),
                    action.pending.to_string(),
                    action.told.clone().unwrap_or_else(|| "never".into()),
                    action.held.clone().unwrap_or_default(),
                ]
            };
            let mut actions: Vec<Vec<String>> = row.actions.iter().map(action).collect();
            if actions.is_empty() {
                actions.push(vec!["none".into(), "0".into(), "never".into(), "nobody_to_tell".into()]);
            }
            actions.into_iter().map(move |action| [first.clone(), action].concat())
        }),
    );
}

fn heartbeats(mut rows: Vec<views::Heartbeat>) {
    // Those with something wrong first.
    let is_well = |row: &views::Heartbeat| matches!(row.state.as_str(), "waiting" | "up");
    rows.sort_by(|a, b| (is_well(a), &a.name).cmp(&(is_well(b), &b.name)));
    table(
        &["NAME", "STATE", "HEARD", "RUNS SINCE", "DUE", "WHY"],
        rows.into_iter().map(|row| {
            let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let heard = row.heard.unwrap_or_else(|| "never".into());
            vec![row.name, row.state, heard, dash(row.started), dash(row.due), row.words]
        }),
    );
}

fn decisions(rows: Vec<Decision>) {
    table(
        &["TIME", "SEQUENCE", "DECISION", "REASON", "ALERT", "ACTION", "DELIVERY"],
        rows.into_iter().map(|row| {
            let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            vec![
                row.time,
                row.sequence.to_string(),
                row.decision,
                dash(row.reason),
                dash(row.alerts.first().cloned()),
                dash(row.action),
                dash(row.delivery),
            ]
        }),
    );
}

fn deliveries(rows: Vec<views::Delivery>) {
    table(
        &["ID", "ACTION", "STATE", "ATTEMPTS", "ALERTS", "ABOUT", "DECIDED", "NEXT", "WHY"],
        rows.into_iter().map(|row| {
            let words = row.dead_reason.or(row.reply).or(row.last_failure);
            let words = words.or_else(|| (row.state == "sent").then(|| "nobody will confirm".into()));
            vec![
                row.id,
                row.action,
                row.state,
                row.attempts.to_string(),
                row.alerts.to_string(),
                about(&row.labels),
                row.decided,
                row.next_attempt.unwrap_or_else(|| "-".into()),
                words.unwrap_or(row.reason),
            ]
        }),
    );
}

/// The first alert in a few words: its event, then its labels.
fn about(labels: &BTreeMap<String, String>) -> String {
    let event = labels.get("event").or_else(|| labels.get("alertname"));
    let rest = labels.iter().filter(|(name, _)| !matches!(name.as_str(), "event" | "alertname"));
    let rest = rest.map(|(name, value)| format!("{name}={value}"));
    let text = event.cloned().into_iter().chain(rest).collect::<Vec<_>>().join(" ");
    text.chars().take(ABOUT_CHARS_MAX).collect()
}

/// Longest shown start of an alert's labels.
const ABOUT_CHARS_MAX: usize = 60;

/// Prints rows in columns as wide as their widest cell. Control characters are shown, not obeyed.
pub(super) fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let mut widths: Vec<usize> = heads.iter().map(|head| head.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    say(line(&heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()));
    for row in &rows {
        say(line(row));
    }
    if rows.is_empty() {
        talk("nothing to show");
    }
}

/// A character as a terminal may see it: an alert's text must not move the cursor.
pub(super) fn printable(c: char) -> Vec<char> {
    let hidden = c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if hidden { c.escape_default().collect() } else { vec![c] }
}

/// Words from elsewhere: what they hold is shown, not obeyed.
pub(super) fn shown(words: &str) -> String {
    words.chars().flat_map(printable).collect()
}

/// A query's value, percent-encoded (RFC 3986 section 2.1).
pub(super) fn percent(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

pub(super) async fn acknowledge(ack: Ack) -> Result<Exit, CliError> {
    let seconds = match &ack.duration {
        None => None,
        Some(text) => {
            let duration = ams2_handlers::units::Duration::parse(text).map_err(|error| {
                CliError::new(Exit::Usage, format!("--for: {error}"), "write 30m, 2h, 1d")
            })?;
            Some(duration.ms().div_ceil(1000))
        }
    };
    let order = AcknowledgeOrder {
        matchers: ack.matchers,
        by: ack.by,
        seconds,
        comment: ack.comment,
        withdraw: ack.withdraw,
    };
    let done: Done = Client::new(&ack.server)?.post("/api/v1/acknowledgements", &order).await?;
    let verb = if order.withdraw { "given back" } else { "acknowledged" };
    talk(format_args!("{} alerts {verb} (sequence {})", done.count, done.sequence));
    Ok(Exit::Done)
}

pub(super) async fn delivery(delivery: DeliveryVerb) -> Result<Exit, CliError> {
    let order = DeliveryOrder { id: delivery.id, action: delivery.action, all_dead: delivery.all_dead };
    let (path, said) = match delivery.verb {
        RetryOrDrop::Retry => ("/api/v1/deliveries/retry", "are tried again"),
        RetryOrDrop::Drop => ("/api/v1/deliveries/drop", "are dropped"),
    };
    let done: Done = Client::new(&delivery.server)?.post(path, &order).await?;
    talk(format_args!("{} deliveries {said} (sequence {})", done.count, done.sequence));
    Ok(Exit::Done)
}

pub(super) async fn action(action: ActionVerb) -> Result<Exit, CliError> {
    match action.verb {
        ActionDo::List { json, server } => list_actions(json, &server).await,
        ActionDo::Test { action, server } => {
            let answer: TestAnswer =
                Client::new(&server)?.post("/api/v1/actions/test", &TestOrder { action }).await?;
            say(format_args!("{}: {}", answer.outcome, shown(&answer.reply)));
            Ok(if answer.outcome == "failed" { Exit::No } else { Exit::Done })
        }
    }
}

/// The kinds need no server; what a running router has is shown when one answers.
async fn list_actions(json: bool, server: &Server) -> Result<Exit, CliError> {
    let running: Result<Vec<views::Action>, CliError> = Client::new(server)?.fetch("/api/v1/actions").await;
    let kinds = ams2_handlers::TABLE.iter().map(|kind| (kind.key, kind.summary));
    if json {
        let kinds: Vec<_> =
            kinds.map(|(kind, summary)| serde_json::json!({ "kind": kind, "summary": summary })).collect();
        let running = running.ok();
        let all = serde_json::json!({ "kinds": kinds, "running": running });
        say(serde_json::to_string_pretty(&all).expect("JSON encodes"));
        return Ok(Exit::Done);
    }
    table(&["KIND", "WHAT IT DOES"], kinds.map(|(kind, summary)| vec![kind.into(), summary.into()]));
    match running {
        Ok(rows) => {
            say("");
            let state = |row: &views::Action| match (row.present, row.failing) {
                (false, _) => "gone from the config",
                (true, true) => "failing",
                (true, false) => "well",
            };
            table(
                &["ACTION", "STATE", "PENDING", "IN FLIGHT"],
                rows.into_iter().map(|row| {
                    let state = state(&row).to_owned();
                    vec![row.action, state, row.pending.to_string(), row.in_flight.to_string()]
                }),
            );
        }
        Err(error) => talk(format_args!("(no running router: {})", error.message)),
    }
    Ok(Exit::Done)
}

pub(super) async fn reload(reload: Reload) -> Result<Exit, CliError> {
    let client = Client::new(&reload.server)?;
    let path = match &reload.move_to {
        Some(receiver) => format!("/-/reload?move_to={}", percent(receiver)),
        None if reload.drop => "/-/reload?drop=true".to_owned(),
        None => "/-/reload".to_owned(),
    };
    let answer = client.call(Method::POST, &path, "application/json", Bytes::new()).await?;
    let warnings = answer.accepted()?;
    talk("the configuration was loaded again");
    let warnings = String::from_utf8_lossy(&warnings);
    warnings.lines().for_each(|warning| talk(shown(warning)));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alerts_text_cannot_move_the_cursor() {
        let shown: String = "a\u{1b}[2Jb\n\u{202e}c".chars().flat_map(printable).collect();
        assert_eq!(shown, "a\\u{1b}[2Jb\\n\\u{202e}c");
    }

    #[test]
    fn query_values_are_percent_encoded() {
        assert_eq!(percent("event=\"Virus Found\""), "event%3D%22Virus%20Found%22");
    }
}
