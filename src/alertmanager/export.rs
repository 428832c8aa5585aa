//! Our configuration in Alertmanager's words: what `amtool` reads from the status, and what `ams2 export alertmanager`
//! writes. Receivers are names there: how they tell has no counterpart for most of our actions. What it cannot say is
//! shown in the nearest form, and counted.

use std::fmt::Write as _;

use ams2_core::{
    Config, Severities, Severity,
    calendar::{Span, TimeRange},
    config::{GroupBy, Notify, Route},
    matcher::{Matcher, Op},
};

/// A configuration as Alertmanager reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// YAML.
    pub text: String,
    /// Settings that it does not know, shown in the nearest form or left out: one sentence each.
    pub approximated: Vec<String>,
}

/// Writes the decision part of a configuration.
pub fn export(config: &Config) -> Exported {
    let mut out = Writer { severities: config.severities.clone(), ..Writer::default() };
    out.line(0, "global:");
    out.line(1, &format!("resolve_timeout: {}", duration(config.resolve_timeout_ms)));
    out.line(0, "route:");
    out.route(&config.route, 1, true);
    out.line(0, "receivers:");
    for receiver in &config.receivers {
        out.line(0, &format!("- name: {}", quoted(&receiver.name)));
        if !receiver.actions.is_empty() {
            out.note(format!("receiver {}: its {} actions", receiver.name, receiver.actions.len()));
        }
    }
    if !config.inhibit_rules.is_empty() {
        out.line(0, "inhibit_rules:");
    }
    for rule in &config.inhibit_rules {
        out.line(0, "-");
        out.matchers("source_matchers", &rule.source_matchers, 1);
        out.matchers("target_matchers", &rule.target_matchers, 1);
        out.names("equal", &rule.equal, 1);
    }
    if !config.time_intervals.is_empty() {
        out.line(0, "time_intervals:");
    }
    for interval in &config.time_intervals {
        out.line(0, &format!("- name: {}", quoted(&interval.name)));
        if interval.spans.is_empty() {
            out.line(1, "time_intervals: []");
            continue;
        }
        out.line(1, "time_intervals:");
        for span in &interval.spans {
            out.span(span, &interval.name);
        }
    }
    if !config.heartbeats.is_empty() {
        out.note(format!("heartbeats: {} of them", config.heartbeats.len()));
    }
    let text = match out.approximated.len() {
        0 => out.text,
        // Where `amtool` and whoever else reads the status sees it, too.
        count => format!("{}\n{}", counted(count), out.text),
    };
    Exported { text, approximated: out.approximated }
}

/// The line of the text that says how much of ours it does not say as it is.
fn counted(count: usize) -> String {
    let settings = if count == 1 { "setting" } else { "settings" };
    format!("# {count} {settings} in the nearest form, or left out: `ams2 export alertmanager` names each.")
}

#[derive(Default)]
struct Writer {
    text: String,
    approximated: Vec<String>,
    severities: Severities,
}

impl Writer {
    fn line(&mut self, depth: usize, text: &str) {
        writeln!(self.text, "{:width$}{text}", "", width = depth * 2).expect("text grows");
    }

    fn note(&mut self, what: String) {
        self.approximated.push(what);
    }

    fn route(&mut self, route: &Route, depth: usize, is_root: bool) {
        let start = self.text.len();
        if let Some(receiver) = &route.receiver {
            self.line(depth, &format!("receiver: {}", quoted(receiver)));
        }
        if !is_root {
            self.matchers("matchers", &route.matchers, depth);
            if route.goes_on {
                self.line(depth, "continue: true");
            }
        }
        match (&route.group_by, route.notify) {
            // One notification for each alert is as near as it gets.
            (_, Some(Notify::Each)) => {
                self.line(depth, "group_by: ['...']");
                self.note(format!("route {}: notify: each", shown(&route.matchers)));
            }
            (Some(GroupBy::All), _) => self.line(depth, "group_by: ['...']"),
            // Below another route no list at all would be that of the parent.
            (Some(GroupBy::Labels(names)), _) if names.is_empty() && !is_root => {
                self.line(depth, "group_by: []");
            }
            (Some(GroupBy::Labels(names)), _) => self.names("group_by", names, depth),
            (None, _) => {}
        }
        for (name, value) in [
            ("group_wait", route.group_wait_ms),
            ("group_interval", route.group_interval_ms),
            ("repeat_interval", route.repeat_interval_ms),
        ] {
            if let Some(ms) = value {
                self.line(depth, &format!("{name}: {}", duration(ms)));
            }
        }
        if route.tell_short == Some(true) {
            self.note(format!("route {}: tell_short", shown(&route.matchers)));
        }
        if route.group_wait_each == Some(true) {
            self.note(format!("route {}: group_wait_each", shown(&route.matchers)));
        }
        self.names("mute_time_intervals", &route.mute_time_intervals, depth);
        self.names("active_time_intervals", &route.active_time_intervals, depth);
        if self.text.len() == start {
            // A route that says nothing of its own is a map all the same.
            self.line(depth, "continue: false");
        }
        if !route.routes.is_empty() {
            self.line(depth, "routes:");
        }
        for child in &route.routes {
            self.line(depth, "-");
            self.route(child, depth + 1, false);
        }
    }

    fn matchers(&mut self, key: &str, matchers: &[Matcher], depth: usize) {
        if matchers.is_empty() {
            return;
        }
        self.line(depth, &format!("{key}:"));
        for matcher in matchers {
            if matcher.op.is_order() {
                self.note(format!("{key}: {matcher}"));
            }
            let nearest = nearest_with(matcher, &self.severities);
            let text = nearest.as_ref().unwrap_or(matcher).to_string();
            self.line(depth, &format!("- {}", quoted(&text)));
        }
    }

    fn names(&mut self, key: &str, names: &[smol_str::SmolStr], depth: usize) {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            self.line(depth, &format!("{key}: [{}]", names.join(", ")));
        }
    }

    /// A range of times over midnight is two there, and the second belongs to the next day: where days are given that is
    /// not the same.
    fn span(&mut self, span: &Span, name: &str) {
        self.line(1, "-");
        if !span.times.is_empty() {
            self.line(2, "times:");
        }
        for range in &span.times {
            let parts: &[TimeRange] = if range.start < range.end {
                &[*range]
            } else {
                let has_days = !(span.weekdays.is_empty() && span.days_of_month.is_empty());
                if has_days {
                    self.note(format!("time interval {name}: a range over midnight on certain days"));
                }
                &[TimeRange { start: range.start, end: 1440 }, TimeRange { start: 0, end: range.end }]
            };
            for part in parts.iter().filter(|part| part.start < part.end) {
                let minute = |m: u16| format!("'{:02}:{:02}'", m / 60, m % 60);
                self.line(
                    2,
                    &format!("- {{start_time: {}, end_time: {}}}", minute(part.start), minute(part.end)),
                );
            }
        }
        const DAYS: [&str; 7] =
            ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
        let day = |number: &u8| DAYS[usize::from(*number) % 7];
        self.ranges("weekdays", span.weekdays.iter().map(|(a, b)| format!("{}:{}", day(a), day(b))));
        self.ranges("days_of_month", span.days_of_month.iter().map(|(a, b)| format!("{a}:{b}")));
        self.ranges("months", span.months.iter().map(|(a, b)| format!("{a}:{b}")));
        self.ranges("years", span.years.iter().map(|(a, b)| format!("{a}:{b}")));
        match &span.zone {
            Some(zone) => self.line(2, &format!("location: {}", quoted(zone))),
            None => self.line(2, "location: UTC"),
        }
    }

    fn ranges(&mut self, key: &str, ranges: impl Iterator<Item = String>) {
        let ranges: Vec<String> = ranges.map(|range| quoted(&range)).collect();
        if !ranges.is_empty() {
            self.line(2, &format!("{key}: [{}]", ranges.join(", ")));
        }
    }
}

/// A matcher with an order operator in a form that Alertmanager has, with the ranks that every configuration has; `None`
/// for every other matcher.
pub(super) fn nearest_form(matcher: &Matcher) -> Option<Matcher> {
    nearest_with(matcher, &Severities::default())
}

/// Ranks become the words that have them, in lower case; numbers become any value at all.
fn nearest_with(matcher: &Matcher, severities: &Severities) -> Option<Matcher> {
    if !matcher.op.is_order() {
        return None;
    }
    let any = Matcher { value: ".+".into(), op: Op::Regex, ..matcher.clone() };
    let Ok(compiled) = matcher.compile(severities) else { return Some(any) };
    let words: Vec<&str> = Severity::ALL
        .iter()
        .map(|rank| rank.word())
        .filter(|word| compiled.matches(word, severities))
        .collect();
    if words.is_empty() {
        return Some(any);
    }
    let all = severities.words().filter(|word| compiled.matches(word, severities)).collect::<Vec<_>>();
    Some(Matcher { value: all.join("|").into(), op: Op::Regex, ..matcher.clone() })
}

fn shown(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// A YAML string in double quotes: JSON's are among them.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Milliseconds as Alertmanager's duration: the largest units first.
fn duration(ms: u64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    const UNITS: [(&str, u64); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut left = ms;
    let mut text = String::new();
    for (unit, size) in UNITS {
        if left >= size {
            write!(text, "{}{unit}", left / size).expect("text grows");
            left %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, lines, load_text};

    fn exported(text: &str) -> Exported {
        let folder = tempfile::tempdir().expect("a folder");
        let loaded = load_text("f", text, folder.path(), &Overrides::default());
        export(&loaded.map_err(|wrong| lines(&wrong.found)).expect("right").core)
    }

    #[test]
    fn what_alertmanager_knows_is_written_as_it_is() {
        let found = exported(
            "receivers: [{name: a}]\nroute: {receiver: a, group_by: [x, y], group_wait: 90s, repeat_interval: 1d, routes: [{matchers: ['a=b'], group_by: []}, {group_by: ['...'], continue: true}, {}]}\n",
        );
        let expected = "global:
  resolve_timeout: 5m
route:
  receiver: \"a\"
  group_by: [\"x\", \"y\"]
  group_wait: 1m30s
  repeat_interval: 1d
  routes:
  -
    matchers:
    - \"a=\\\"b\\\"\"
    group_by: []
  -
    continue: true
    group_by: ['...']
  -
    continue: false
receivers:
- name: \"a\"
";
        assert_eq!(found, Exported { text: expected.into(), approximated: vec![] });
    }

    #[test]
    fn what_it_does_not_know_is_in_the_nearest_form_and_counted() {
        // Each with what is written of it, and what is said.
        let rows = [
            ("routes: [{notify: each}]", "group_by: ['...']", "route {}: notify: each"),
            ("routes: [{tell_short: true}]", "continue: false", "route {}: tell_short"),
            ("routes: [{group_wait_each: true}]", "continue: false", "route {}: group_wait_each"),
            ("routes: [{matchers: ['severity >= major']}]", "severity=~", "matchers: severity>=\"major\""),
            ("routes: [{matchers: ['load > 3']}]", "load=~\\\".+\\\"", "matchers: load>\"3\""),
        ];
        for (routes, written, said) in rows {
            let found = exported(&format!("receivers: [{{name: a}}]\nroute: {{receiver: a, {routes}}}\n"));
            assert!(found.text.contains(written), "{routes}: {}", found.text);
            assert_eq!(found.approximated, [said], "{routes}");
            assert!(found.text.starts_with("# 1 setting in the nearest form, or left out"), "{}", found.text);
        }
        let nights = exported(
            "receivers: [{name: a, actions: [{event_log: {to: file, path: a}}]}]\nroute: {receiver: a, routes: [{active_time_intervals: [n]}]}\ntime_intervals: [{name: n, time_intervals: [{times: [{start_time: '22:00', end_time: '06:00'}], weekdays: [friday]}]}]\n",
        );
        for words in [
            "start_time: '22:00', end_time: '24:00'",
            "start_time: '00:00', end_time: '06:00'",
            "# 2 settings",
        ] {
            assert!(nights.text.contains(words), "{words}: {}", nights.text);
        }
        let jobs = exported(
            "receivers: [{name: a}]\nroute: {receiver: a}\nheartbeats: [{name: j, period: 1h, grace: 1m}]\n",
        );
        assert_eq!(jobs.approximated, ["heartbeats: 1 of them"]);
        let said = ["receiver a: its 1 actions", "time interval n: a range over midnight on certain days"];
        assert_eq!(nights.approximated, said);
    }
}
