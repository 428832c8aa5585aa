//! What an answer of HTTP means for a delivery.

use reqwest::{StatusCode, Url};

use super::client::{Answer, WORDS_BYTES_MAX, place_of};
use crate::{Failure, Receipt, text};

/// Most bytes of an answer that a receipt keeps.
const REPLY_BYTES_MAX: usize = 4 * 1024 - 256;

/// Statuses after which the same request may succeed later (RFC 9110, RFC 8470, RFC 6585).
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// 2xx is done, what [`may_pass`] is tried again when the far end says, anything else is for good.
pub(crate) fn classify(url: &Url, answer: &Answer) -> Result<Receipt, Failure> {
    let words = words(url, answer);
    match answer.status {
        200..=299 => Ok(Receipt::delivered(reply(answer))),
        status if may_pass(status) => {
            Err(Failure { retry_after_ms: answer.retry_after_ms, ..Failure::transient(words) })
        }
        300..=399 => Err(Failure::permanent(format!("{words} (redirects are not followed)"))),
        _ => Err(Failure::permanent(words)),
    }
}

/// `200 OK: what it says`, in one line.
pub(crate) fn reply(answer: &Answer) -> String {
    let said = said(answer, REPLY_BYTES_MAX);
    let status = status(answer.status);
    if said.is_empty() { status } else { format!("{status}: {said}") }
}

/// `hooks.example.com: 503 Service Unavailable: what it says`.
pub(crate) fn words(url: &Url, answer: &Answer) -> String {
    let said = said(answer, WORDS_BYTES_MAX);
    let before = if said.is_empty() { "" } else { ": " };
    format!("{}: {}{before}{said}", place_of(url), status(answer.status))
}

fn status(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}

/// Its first words, in one line of at most `bytes_max` bytes.
fn said(answer: &Answer, bytes_max: usize) -> String {
    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(2 * bytes_max)]);
    let line = text::one_line(text.trim_matches(char::from(0)).trim());
    text::cut(&line, bytes_max).into_owned()
}
