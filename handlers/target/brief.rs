//! A notification in the few lines that a chat has room for.

use std::fmt::Write as _;

use super::tree::shortened;
use crate::{Alert, Delivery, delivery::state_word, text};

/// Longest value that is shown, in characters.
const VALUE_CHARS_MAX: usize = 300;
/// Most labels that are shown of one alert.
const LABELS_MAX: usize = 10;
/// Annotations that say what is the matter, the best first.
const SUMMARIES: [&str; 4] = ["summary", "description", "message", "text"];

/// What is the matter with each alert, in at most `chars_max` characters. It begins where the title ends: what that says of a
/// lone alert is not said again.
pub(crate) fn brief(delivery: &Delivery, chars_max: usize) -> String {
    let is_lone = delivery.alerts().nth(1).is_none() && delivery.hidden() == 0;
    let (mut out, mut used, mut shown) = (String::new(), 0, 0);
    // Room for the last line.
    let room = chars_max.saturating_sub(24);
    for alert in delivery.alerts() {
        let lines = lines(alert, delivery, is_lone);
        let length = lines.chars().count();
        if used + length > room {
            if shown == 0 {
                out.push_str(&shortened(&lines, room));
                out.push('\n');
                shown += 1;
            }
            break;
        }
        out.push_str(&lines);
        (used, shown) = (used + length, shown + 1);
    }
    let hidden = (delivery.firing() + delivery.resolved()).saturating_sub(shown);
    if hidden > 0 {
        _ = writeln!(out, "... and {hidden} more.");
    }
    out.truncate(out.trim_end().len());
    shortened(&out, chars_max)
}

fn lines(alert: &Alert, delivery: &Delivery, is_lone: bool) -> String {
    let line = |text: &str| text::one_line(&shortened(text, VALUE_CHARS_MAX)).into_owned();
    let mut out = String::new();
    let summary = SUMMARIES.iter().map(|name| alert.annotation(name)).find(|text| !text.trim().is_empty());
    let summary = summary.map(|text| line(text.trim()));
    if !is_lone {
        let event = if alert.event().is_empty() { "an alert" } else { alert.event() };
        _ = write!(out, "{} {}", state_word(alert.firing).to_uppercase(), line(event));
        if !alert.label("severity").is_empty() {
            _ = write!(out, " ({})", line(alert.label("severity")));
        }
        out.push_str(if summary.is_some() { ": " } else { "" });
    }
    out.push_str(summary.as_deref().unwrap_or_default());
    out.push_str(if out.is_empty() { "" } else { "\n" });
    let in_title = delivery.group_labels();
    let is_new = |name: &str| {
        !matches!(name, "event" | "alertname" | "severity")
            && !in_title.iter().any(|(known, _)| *known == name)
    };
    let labels: Vec<String> = alert
        .labels
        .iter()
        .filter(|(name, _)| is_new(name))
        .take(LABELS_MAX)
        .map(|(name, value)| format!("{}={}", line(name), line(value)))
        .collect();
    if !labels.is_empty() {
        _ = writeln!(out, "{}", labels.join(", "));
    }
    if alert.generator_url.starts_with("http") {
        _ = writeln!(out, "{}", line(&alert.generator_url));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_lone_alert_and_several_read_well() {
        let mut delivery = sample::delivery();
        insta::assert_snapshot!(brief(&delivery, 1000), @r"
        EICAR in C:\tmp\a.exe
        computer=ws-042
        http://192.0.2.7/graph
        ");
        let mut other = sample::alert_of(&[("event", "Disk Full"), ("site", "boston"), ("x", "1")], &[]);
        (other.firing, other.ends_at) = (false, Some(other.starts_at));
        delivery.groups[0].alerts.push(other);
        (delivery.groups[0].firing, delivery.groups[0].resolved) = (1, 4);
        insta::assert_snapshot!(brief(&delivery, 1000), @r"
        FIRING Virus Found (critical): EICAR in C:\tmp\a.exe
        computer=ws-042
        http://192.0.2.7/graph
        RESOLVED Disk Full
        x=1
        ... and 3 more.
        ");
    }

    #[test]
    fn it_is_never_longer_than_it_may_be() {
        for delivery in sample::hostile() {
            for chars in [0, 1, 30, 200, 3000] {
                let text = brief(&delivery, chars);
                assert!(text.chars().count() <= chars, "{chars}: {text:?}");
            }
        }
        let delivery = sample::delivery_of(1, vec![sample::alert(); 50]);
        assert!(brief(&delivery, 400).ends_with(" more."), "{}", brief(&delivery, 400));
    }
}
