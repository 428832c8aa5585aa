//! Filters and functions that translated Alertmanager templates use and minijinja lacks.
//!
//! Filters: `names`, `values`, `sorted_pairs`, `show_pairs`, `without(names)` for labels; `firing`, `resolved` for
//! alerts; `entries`, `append(...)` for lists; `title`, `string_slice(from, to)`, `byte_length`, `regex_match(pattern)`,
//! `regex_replace(pattern, replacement)`, `url_escape`, `url_unescape`, `html_escape`, `js_escape`, `base64_encode`,
//! `base64_decode`, `show`, `alertmanager_json` for texts and values; `date(strftime)`, `date_layout(layout)`,
//! `zone(name)`, `parse_date(layout, strict)`, `unix`, `plus(seconds)`, `since(moment)` for times, which are RFC 3339
//! text (with the zone in brackets after `zone`) or none; `humanize_duration`, `show_duration`, `round_duration(step)`,
//! `truncate_duration(step)` for numbers of seconds. Functions: `print`, `println`, `printf`.
//!
//! What they give is what Go gives. None gives a text longer than [`OUTPUT_BYTES_MAX`].

mod duration;
mod json;
mod labels;
pub mod layout;
mod number;
pub mod pattern;
mod print;
mod printf;
#[cfg(test)]
mod tests;
mod text;
mod time;

pub(crate) use json::json as alertmanager_json;
use minijinja::{Environment, Error, ErrorKind};

/// Longest text that a filter gives, in bytes: doubling a text in a loop takes few steps.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Adds them all. minijinja's own `title` is replaced: it takes other characters for the ends of words.
pub fn add(environment: &mut Environment<'static>) {
    labels::add(environment);
    text::add(environment);
    pattern::add(environment);
    print::add(environment);
    time::add(environment);
    duration::add(environment);
    environment.add_filter("alertmanager_json", alertmanager_json);
    environment.add_function("printf", printf::printf);
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

/// The text, unless it is too long.
fn bounded(text: String) -> Result<String, Error> {
    if text.len() > OUTPUT_BYTES_MAX {
        return Err(invalid(format!("a filter gives more than {OUTPUT_BYTES_MAX} bytes")));
    }
    Ok(text)
}
