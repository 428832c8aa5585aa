//! What a query asks for: Alertmanager's parameters, and its rules for labels that are not there.

use ams2_core::{
    Severities,
    machine::AlertView,
    matcher::{Compiled, Matcher, Op},
};

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
    pub receiver: Option<Compiled>,
}

/// What is wrong with a query, in Alertmanager's words.
pub(super) struct BadQuery(pub String);

impl From<MatcherSyntaxError> for BadQuery {
    fn from(error: MatcherSyntaxError) -> BadQuery {
        BadQuery(format!("bad matcher format: {error}"))
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
                _ => {}
            }
        }
        Ok(asked)
    }

    /// Whether this receiver is asked for.
    pub fn wants_receiver(&self, name: &str) -> bool {
        self.receiver.as_ref().is_none_or(|receiver| receiver.matches(name, &Severities::default()))
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

/// Whether an alert passes a query's filter. Other than in routes, `=` and `=~` with an empty value ask for the label's
/// absence, `!=` and `!~` with one for its presence.
pub(super) fn passes(alert: &AlertView<'_>, filter: &[Compiled]) -> bool {
    let severities = Severities::default();
    filter.iter().all(|m| {
        let value = alert.label(&m.matcher.name);
        match (m.matcher.value.is_empty(), m.matcher.op) {
            (true, Op::Equal | Op::Regex) => value.is_empty(),
            (true, Op::NotEqual | Op::NotRegex) => !value.is_empty(),
            _ => m.matches(value, &severities),
        }
    })
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
        assert!(asked("filter=nonsense").is_err_and(|error| error.contains("bad matcher format")));
        assert!(asked("receiver=(").is_err_and(|error| error.contains("failed to parse receiver param")));
        assert!(asked(&format!("x={}", "y".repeat(70_000))).is_err());
    }
}
