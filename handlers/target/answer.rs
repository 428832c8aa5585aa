//! What an answer means for a delivery by the rules of a service's file.

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

/// The answer as JSON, if it is done. Statuses count as for any web hook; what a service says in a 2xx answer counts besides.
pub(super) fn judge(rules: &Rules, url: &Url, answer: &Answer) -> Result<Option<Json>, Failure> {
    let body: Option<Json> = serde_json::from_slice(&answer.body).ok();
    let words = words(url, answer);
    let at = |pointer: &Option<String>| body.as_ref()?.pointer(pointer.as_deref()?);
    let text = String::from_utf8_lossy(&answer.body);
    let error = at(&rules.error).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let is_retry = error.as_ref().is_some_and(|error| rules.retry.contains(error));
    let again = |words: String| {
        let ms = |pointer, factor: f64| at(pointer).and_then(Json::as_f64).map(|number| number * factor);
        let asked = ms(&rules.retry_after, 1000.0).or_else(|| ms(&rules.retry_after_ms, 1.0));
        // A number of JSON is finite, and what is below 0 becomes 0.
        let asked = asked.map(|ms| bounded(ms as u64));
        Failure { retry_after_ms: asked.or(answer.retry_after_ms), ..Failure::transient(words) }
    };
    if !(200..=299).contains(&answer.status) {
        let passes = may_pass(answer.status) || rules.retry_status.contains(&answer.status) || is_retry;
        return Err(if passes { again(words) } else { Failure::permanent(words) });
    }
    let says = |list: &[String]| list.iter().any(|part| text.contains(part.as_str()));
    if says(&rules.retry_words) {
        return Err(again(words));
    }
    if says(&rules.refused_words) {
        return Err(Failure::permanent(words));
    }
    let Some(ok) = &rules.ok else { return Ok(body) };
    if rules.plain.as_deref() == Some(text.trim()) {
        return Ok(None);
    }
    let Some(json) = body.as_ref().filter(|_| answer.is_whole) else {
        // A page of somebody in between, or half an answer.
        return Err(Failure::uncertain(format!("{words} (that is no answer of this service)")));
    };
    if json.pointer(&ok.pointer) == Some(&ok.is) {
        return Ok(body);
    }
    let code = at(&rules.code).and_then(Json::as_u64).and_then(|code| u16::try_from(code).ok());
    Err(if is_retry || code.is_some_and(may_pass) { again(words) } else { Failure::permanent(words) })
}
