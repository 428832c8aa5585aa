//! What a query asks for: Alertmanager's parameters, and its rules for labels that are not there.

use ams2_core::{
    Severities,
    machine::AlertView,
    matcher::{Compiled, Matcher, Op},
};

use smol_str::SmolStr;

use super::matchers::{MatcherSyntaxError, parse_matcher};

/// Longest query string that is read, in bytes.
const QUERY_BYTES_MAX: usize = 64 << 10;
/// Most parameters.
const PARAMETERS_MAX: usize = 1_000;

/// The parameters of a query. What is not known is passed over, as there.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub active: bool,
    pub silenced: bool,
    pub inhibited: bool,
    pub muted: bool,
    pub pending: bool,
    pub expired: bool,
    pub filter: Vec<Matcher>,
    /// An anchored regex on the receiver's name.
    receiver: Option<Compiled>,
    /// Matchers of a receiver's labels, of which it has one: its name.
    receiver_matchers: Vec<Compiled>,
}

/// What is wrong with a query, in Alertmanager's words.
pub(super) struct BadQuery(pub String);

impl From<MatcherSyntaxError> for BadQuery {
    fn from(error: MatcherSyntaxError) -> BadQuery {
        BadQuery(error.to_string())
    }
}

impl Asked {
    /// Reads a query string.
    pub fn read(query: Option<&str>) -> Result<Asked, BadQuery> {
        let query = query.unwrap_or("");
        if query.len() > QUERY_BYTES_MAX {
            return Err(BadQuery(format!(
                "the query has {} bytes; at most {QUERY_BYTES_MAX} are read",
                query.len()
            )));
        }
        let mut asked = Asked {
            active: true,
            silenced: true,
            inhibited: true,
            muted: true,
            pending: true,
            expired: true,
            filter: Vec::new(),
            receiver: None,
            receiver_matchers: Vec::new(),
        };
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query).map_err(|error| BadQuery(error.to_string()))?;
        if pairs.len() > PARAMETERS_MAX {
            return Err(BadQuery(format!("more than {PARAMETERS_MAX} parameters")));
        }
        for (name, value) in pairs {
            match name.as_str() {
                "active" => asked.active = flag(&value),
                "silenced" => asked.silenced = flag(&value),
                "inhibited" => asked.inhibited = flag(&value),
                "muted" => asked.muted = flag(&value),
                "pending" => asked.pending = flag(&value),
                "expired" => asked.expired = flag(&value),
                "filter" => asked.filter.push(parse_matcher(&value)?),
                "receiver" if !value.is_empty() => {
                    let matcher = Matcher { name: "receiver".into(), value: value.into(), op: Op::Regex };
                    let compiled = matcher.compile(&Severities::default());
                    let wrong = |error: ams2_core::matcher::MatcherError| {
                        BadQuery(format!("failed to parse receiver param: {}", error.message))
                    };
                    asked.receiver = Some(compiled.map_err(wrong)?);
                }
                "receiver_matchers" => {
                    let wrong = |error: MatcherSyntaxError| {
                        BadQuery(format!("failed to parse receiver_matchers param: {error}"))
                    };
                    let matcher = parse_matcher(&value).map_err(wrong)?;
                    asked.receiver_matchers.extend(compiled(&[matcher]));
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    /// Whether an alert of these receivers is asked for. As there, one of them may have the name and another the labels.
    pub fn wants_one_of(&self, names: impl FnOnce() -> Vec<SmolStr>) -> bool {
        if self.receiver.is_none() && self.receiver_matchers.is_empty() {
            return true;
        }
        let names = names();
        names.iter().any(|name| self.has_name(name)) && names.iter().any(|name| self.has_labels(name))
    }

    /// Whether this receiver is asked for.
    pub fn wants_receiver(&self, name: &str) -> bool {
        self.has_name(name) && self.has_labels(name)
    }

    fn has_name(&self, name: &str) -> bool {
        self.receiver.as_ref().is_none_or(|receiver| receiver.matches(name, &Severities::default()))
    }

    /// Whether the receiver of this name has the labels that are asked for.
    pub fn has_labels(&self, name: &str) -> bool {
        self.receiver_matchers.iter().all(|m| holds(m, if m.matcher.name == "name" { name } else { "" }))
    }
}

/// Go's `strconv.ParseBool`; what it does not know reads as false (seen in 0.25).
fn flag(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// Matchers of a query, ready to compare.
pub(super) fn compiled(filter: &[Matcher]) -> Vec<Compiled> {
    let severities = Severities::default();
    filter.iter().filter_map(|matcher| matcher.compile(&severities).ok()).collect()
}

/// Whether an alert passes a query's filter.
pub(super) fn passes(alert: &AlertView<'_>, filter: &[Compiled]) -> bool {
    filter.iter().all(|m| holds(m, alert.label(&m.matcher.name)))
}

/// Whether a label's value is what a query's matcher asks for. Other than in routes, `=` and `=~` with an empty value ask
/// for the label's absence, `!=` and `!~` with one for its presence.
fn holds(m: &Compiled, value: &str) -> bool {
    match (m.matcher.value.is_empty(), m.matcher.op) {
        (true, Op::Equal | Op::Regex) => value.is_empty(),
        (true, Op::NotEqual | Op::NotRegex) => !value.is_empty(),
        _ => m.matches(value, &Severities::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_alertmanager_reads_them() {
        let asked = |query: &str| Asked::read(Some(query)).map_err(|error| error.0);
        let read = asked(
            "active=false&silenced=maybe&inhibited=1&filter=a%3Db&filter=c!%3D%22d%22&receiver=x.*&other=1",
        );
        let read = read.expect("a query");
        assert_eq!((read.active, read.silenced, read.inhibited, read.muted), (false, false, true, true));
        assert_eq!(read.filter.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a=\"b\"", "c!=\"d\""]);
        assert!(read.wants_receiver("xy") && !read.wants_receiver("yx"));
        assert_eq!(asked("filter=nonsense").expect_err("broken"), "bad matcher format: nonsense");
        assert!(asked("receiver=(").is_err_and(|error| error.contains("failed to parse receiver param")));
        let words = "failed to parse receiver_matchers param: bad matcher format: nonsense";
        assert_eq!(asked("receiver_matchers=nonsense").expect_err("broken"), words);
        assert!(asked(&format!("x={}", "y".repeat(70_000))).is_err());
    }
    /// Alertmanager's `receiversMatchLabels`: one receiver with the labels is enough, and so is another with the name.
    #[test]
    fn receivers_are_asked_for_by_name_and_by_labels() {
        let receivers = || vec![SmolStr::new("ops"), SmolStr::new("db")];
        for (query, of_alert, of_db) in [
            ("", true, true),
            ("receiver=ops", true, false),
            ("receiver_matchers=name%3Dops", true, false),
            ("receiver_matchers=name!%3Dops", true, true),
            ("receiver_matchers=name%3D~d.*&receiver_matchers=name!%3Dops", true, true),
            ("receiver_matchers=name%3Dweb", false, false),
            ("receiver_matchers=name%3D~.*s&receiver_matchers=name%3Ddb", false, false),
            ("receiver_matchers=name%3Dops&receiver=db", true, false),
            ("receiver_matchers=team%3Da", false, false),
            ("receiver_matchers=team%3D%22%22", true, true),
            ("receiver_matchers=team!%3D%22%22", false, false),
            ("receiver_matchers=team!%3Da", true, true),
        ] {
            let asked = Asked::read(Some(query)).map_err(|error| error.0).expect("a query");
            assert_eq!(
                (asked.wants_one_of(receivers), asked.wants_receiver("db")),
                (of_alert, of_db),
                "{query}"
            );
        }
    }
}
