//! What single services have that is not one setting for another: Slack's two logins, PagerDuty's older key, Telegram's markup, the web hook's
//! body, and times in Go's words.

use super::{
    global::Global,
    maps,
    setting::{Entries, Kind::Secret, file_key, has, secret},
    templates::Templates,
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::{alertmanager::go_template::Target, config::tree::Value};

/// How long an attempt may take: Go's words for it are not ours.
pub(super) fn timeout(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries) {
    /// Longest that ours may take.
    const MS_MAX: u64 = 3_600_000;
    let Some(node) = fields.take("timeout") else { return };
    let text = import.text(node);
    import.below("timeout", |import| match go_milliseconds(&text) {
        None => import.impossible(node.place, format!("`{text}` is no duration: write it like 30s")),
        Some(0) => import
            .approximated(node.place, "an attempt ends sometime here: after 30s unless it says otherwise"),
        Some(ms) => {
            out.push(("timeout".into(), Yaml::Plain(format!("{}ms", ms.min(MS_MAX)))));
            match ms {
                ..=MS_MAX => import.translated(node.place),
                _ => import.approximated(node.place, "an attempt takes an hour at most"),
            }
        }
    });
}

/// Go's durations (`1m30s`, `0.5s`, `500ms`) in milliseconds, rounded up; `None` if it is none.
fn go_milliseconds(text: &str) -> Option<u64> {
    /// Longest first where one begins another; each in nanoseconds.
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("μs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
    ];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut nanoseconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, size) = UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit))?;
        nanoseconds += number * size;
        rest = &rest[end + unit.len()..];
    }
    (!text.is_empty()).then_some((nanoseconds / 1e6).ceil() as u64)
}

/// What the web hook sends instead of the body that all send.
pub(super) fn payload(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    templates: &mut Templates,
) {
    let Some(node) = fields.take("payload") else { return };
    let body = match node.value {
        Value::Map(_) => maps::template_tree(import, node, "payload", &[], templates),
        Value::List(_) | Value::Text(_) => {
            Some(import.below("payload", |import| maps::tree_field(import, node, templates)))
        }
        _ => {
            import.below("payload", |import| import.impossible(node.place, "expected text, a list or a map"));
            None
        }
    };
    out.extend(body.map(|body| ("body".to_owned(), body)));
}

/// Which of Slack's two logins does not count: an integration's own comes before those of `global`, and there a token before a URL.
pub(super) fn superseded(fields: &Fields<'_>, global: &Global) -> Option<&'static str> {
    let own = |key: &str| fields.peek(key).or(fields.peek(file_key(key))).is_some();
    let of_all = |key: &str| global.text(key).or(global.text(file_key(key))).is_some();
    match (own("api_url"), own("app_token")) {
        (true, false) => Some("token"),
        (false, true) => Some("webhook_url"),
        (false, false) if of_all("slack_app_token") => Some("webhook_url"),
        _ => None,
    }
}

/// How a URL of Slack's API is written there.
pub(super) const SLACK_METHOD: &str =
    "only a URL that ends in /chat.postMessage is known: it is that of a bot's messages";

/// Where Slack's API is, by the URL of the method that is called there.
pub(super) fn slack_api(url: &str) -> Option<&str> {
    url.trim_end_matches('/').strip_suffix("/chat.postMessage")
}

/// Where a bot's messages go.
pub(super) fn slack_app(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries, global: &Global) {
    let own = fields.take("app_url").map(|node| (node, import.text(node)));
    let base = match &own {
        Some((node, url)) => import.below("app_url", |import| match slack_api(url) {
            Some(base) => {
                import.translated(node.place);
                Some(base)
            }
            None => {
                import.impossible(node.place, SLACK_METHOD);
                None
            }
        }),
        None => global.text("slack_app_url").and_then(slack_api),
    };
    out.extend(base.map(|base| ("api_url".to_owned(), Yaml::text(base))));
}

/// PagerDuty's older API has a key of another name; ours speaks the newer one.
pub(super) fn service_key(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    receiver: &str,
    global: &Global,
) {
    let place = fields.peek("service_key").or(fields.peek("service_key_file")).map(|node| node.place);
    let before = import.report.len();
    let key = secret(import, fields, ("service_key", "routing_key", Secret), receiver, global);
    let (Some(place), Some(key)) = (place, key) else { return };
    import.report.truncate(before);
    import.below("service_key", |import| {
        if has(out, "routing_key") {
            return import.impossible(place, "`routing_key` counts: there is one key here");
        }
        let words =
            "its events are those of the Events API v2: see that the integration of this key takes them";
        import.approximated(place, words);
        out.push(key);
    });
    let is_older = |(key, value): &(String, Yaml)| {
        key == "api_url" && matches!(value, Yaml::Text(url) if url.ends_with("create_event.json"))
    };
    if out.iter().any(is_older) {
        out.retain(|entry| !is_older(entry));
        let place = fields.peek("url").map_or(place, |node| node.place);
        let words = "it is that of the older API: events go to https://events.pagerduty.com/v2/enqueue";
        import.below("url", |import| import.approximated(place, words));
    }
}

/// Telegram's markup: HTML unless the setting says otherwise.
pub(super) fn telegram_text(
    import: &mut Import,
    fields: &mut Fields<'_>,
    out: &mut Entries,
    templates: &mut Templates,
) {
    let mode = fields.take("parse_mode").map(|node| (node, import.text(node)));
    if let Some((node, mode)) = &mode {
        import.below("parse_mode", |import| match mode.as_str() {
            "" | "HTML" => import.translated(node.place),
            _ => import.impossible(
                node.place,
                "only HTML and plain text are known: write the message in one of them",
            ),
        });
    }
    let is_html = mode.is_none_or(|(_, mode)| mode == "HTML");
    let Some(node) = fields.take("message") else { return };
    let text = import.text(node);
    let (ours, target) = if is_html { ("html", Target::Html) } else { ("text", Target::Text) };
    let translated = import.below("message", |import| templates.translate(import, &text, node.place, target));
    out.extend(translated.map(|text| (ours.to_owned(), Yaml::text(text))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_are_rounded_up_to_milliseconds() {
        let rows = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1.5s", Some(1_500)),
            ("1m30s", Some(90_000)),
            ("1h0m0s", Some(3_600_000)),
            ("1ns", Some(1)),
            ("250µs", Some(1)),
            ("", None),
            ("5", None),
            ("1d", None),
            ("-1s", None),
            ("1..5s", None),
            ("soon", None),
        ];
        for (text, expected) in rows {
            assert_eq!(go_milliseconds(text), expected, "{text}");
        }
    }
}
