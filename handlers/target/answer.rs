//! What an answer means for a delivery by the rules of a service's file.

use std::borrow::Cow;

use reqwest::Url;
use serde_json::Value as Json;

use super::file::Rules;
use crate::{
    Failure,
    webhook::{
        answer::{may_pass, words},
        client::{Answer, bounded},
    },
};

/// An answer that was read.
pub(super) struct Heard<'a> {
    answer: &'a Answer,
    text: Cow<'a, str>,
    json: Option<Json>,
}

impl<'a> Heard<'a> {
    pub(super) fn of(answer: &'a Answer) -> Heard<'a> {
        let text = String::from_utf8_lossy(&answer.body);
        Heard { answer, text, json: serde_json::from_slice(&answer.body).ok() }
    }

    /// What stands at a place; null counts as nothing.
    pub(super) fn at(&self, place: &str) -> Option<Json> {
        match place.strip_prefix('<') {
            Some(name) => element(&self.text, name.trim_end_matches('>')).map(Json::from),
            None => self.json.as_ref()?.pointer(place).filter(|value| !value.is_null()).cloned(),
        }
    }

    /// What the service says is wrong, as text.
    pub(super) fn error(&self, rules: &Rules) -> Option<String> {
        let value = self.at(rules.error.as_deref()?)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Whether it is done. Statuses count as for any web hook; what a service says in a 2xx answer counts besides.
    pub(super) fn judge(&self, rules: &Rules, url: &Url) -> Result<(), Failure> {
        let answer = self.answer;
        let words = words(url, answer);
        let is_retry = self.error(rules).is_some_and(|error| rules.retry.contains(&error));
        if !(200..=299).contains(&answer.status) {
            let passes = may_pass(answer.status) || rules.retry_status.contains(&answer.status) || is_retry;
            return Err(if passes { self.again(rules, words) } else { Failure::permanent(words) });
        }
        let says = |list: &[String]| list.iter().any(|part| self.text.contains(part.as_str()));
        if says(&rules.retry_words) {
            return Err(self.again(rules, words));
        }
        if says(&rules.refused_words) {
            return Err(Failure::permanent(words));
        }
        let Some(ok) = &rules.ok else { return Ok(()) };
        if rules.plain.as_deref() == Some(self.text.trim()) {
            return Ok(());
        }
        let found = self.at(&ok.pointer);
        let is_its_own = self.json.is_some() || found.is_some() || self.error(rules).is_some();
        if !is_its_own || !answer.is_whole {
            // A page of somebody in between, or half an answer.
            return Err(Failure::uncertain(format!("{words} (that is no answer of this service)")));
        }
        if found.is_some_and(|value| ok.is.as_ref().is_none_or(|is| *is == value)) {
            return Ok(());
        }
        let code = rules.code.as_deref().and_then(|place| self.at(place)?.as_u64());
        let code = code.and_then(|code| u16::try_from(code).ok());
        let passes = is_retry || code.is_some_and(may_pass);
        Err(if passes { self.again(rules, words) } else { Failure::permanent(words) })
    }

    fn again(&self, rules: &Rules, words: String) -> Failure {
        let ms = |place: &Option<String>, factor: f64| Some(self.at(place.as_deref()?)?.as_f64()? * factor);
        let asked = ms(&rules.retry_after, 1000.0).or_else(|| ms(&rules.retry_after_ms, 1.0));
        // A number of JSON is finite, and what is below 0 becomes 0.
        let asked = asked.map(|ms| bounded(ms as u64));
        Failure { retry_after_ms: asked.or(self.answer.retry_after_ms), ..Failure::transient(words) }
    }
}

/// The text of the first element of this name. Services answer with a few elements without attributes, and the texts that we
/// ask for are codes, ids and keys, which no entity stands in.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    (!value.contains('<')).then(|| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_found_in_json_and_in_xml() {
        let at = |body: &str, place: &str| {
            let answer =
                Answer { status: 200, retry_after_ms: None, body: body.as_bytes().to_vec(), is_whole: true };
            Heard::of(&answer).at(place)
        };
        let rows = [
            (r#"{"a":[{"b":1}]}"#, "/a/0/b", Some(json!(1))),
            (r#"{"a":null}"#, "/a", None),
            ("<html>", "/a", None),
            ("<E><Error><Code>Throttling</Code></Error></E>", "<Code>", Some(json!("Throttling"))),
            ("<Code><b>x</b></Code>", "<Code>", None),
            ("<Code>x", "<Code>", None),
            ("<Codes>x</Codes>", "<Code>", None),
        ];
        for (body, place, expected) in rows {
            assert_eq!(at(body, place), expected, "{body} {place}");
        }
    }
}
