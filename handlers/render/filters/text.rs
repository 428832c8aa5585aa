//! Texts: capitals, parts, and the ways to write them where only some characters may stand.

use std::fmt::Write as _;

use minijinja::{Environment, Error, value::Value};

use super::{bounded, invalid};

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("title", title);
    environment.add_filter("string_slice", string_slice);
    environment.add_filter("byte_length", |text: &str| text.len());
    environment.add_filter("url_escape", url_escape);
    environment.add_filter("url_unescape", url_unescape);
    environment.add_filter("html_escape", html_escape);
    environment.add_filter("js_escape", js_escape);
    environment.add_filter("base64_encode", base64_encode);
    environment.add_filter("base64_decode", base64_decode);
}

/// `text | title`: each word with a capital first and small letters after it. Apostrophes, points and colons between
/// letters do not end a word, nor does an underscore (UAX 29).
fn title(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut result = String::with_capacity(text.len());
    let mut inside = false;
    for (position, &character) in characters.iter().enumerate() {
        let next = characters.get(position + 1).copied();
        if character.is_alphabetic() {
            match inside {
                true => result.extend(character.to_lowercase()),
                false => result.extend(character.to_uppercase()),
            }
            inside = true;
            continue;
        }
        result.push(character);
        let joins = ".':\u{2019}\u{b7}".contains(character);
        let letter = next.is_some_and(char::is_alphanumeric);
        inside = inside && (character.is_numeric() || character == '_' || (joins && letter));
    }
    result
}

/// `text | string_slice(from, to)`: bytes `from` up to `to`, as Go counts; both must be between characters.
fn string_slice(text: &str, from: Option<usize>, to: Option<usize>) -> Result<String, Error> {
    let (from, to) = (from.unwrap_or(0), to.unwrap_or(text.len()));
    match text.get(from..to) {
        Some(part) => Ok(part.to_owned()),
        None if from > to || to > text.len() => Err(invalid(format!("the text has no bytes {from} to {to}"))),
        // Half a character would be no text; Go would put a replacement mark.
        None => Ok(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

/// `text | url_escape`: for the query of a URL, with `+` for a space.
fn url_escape(text: &str) -> Result<String, Error> {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            _ if is_unreserved(byte) => escaped.push(char::from(byte)),
            _ => write!(escaped, "%{byte:02X}").expect("a string takes it"),
        }
    }
    bounded(escaped)
}

/// `text | url_unescape`: the other way.
fn url_unescape(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .ok_or_else(|| invalid("`%` without two hexadecimal digits"))?;
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => bytes.push(first),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `text | html_escape`: for HTML, and marked as such.
fn html_escape(text: &str) -> Result<Value, Error> {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\0' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    bounded(escaped).map(Value::from_safe_string)
}

/// `text | js_escape`: for a string in JavaScript.
fn js_escape(text: &str) -> Result<String, Error> {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\'' => escaped.push_str("\\'"),
            '"' => escaped.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\x1f' => {
                write!(escaped, "\\u{:04X}", u32::from(character)).expect("a string takes it");
            }
            _ => escaped.push(character),
        }
    }
    bounded(escaped)
}

/// RFC 4648 section 5: the alphabet that can stand in a URL.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `text | base64_encode`: with padding.
fn base64_encode(text: &str) -> Result<String, Error> {
    let mut encoded = String::with_capacity(text.len().div_ceil(3) * 4);
    for chunk in text.as_bytes().chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for position in 0..4 {
            let digit = bits >> (18 - 6 * position) & 63;
            let shown = position <= chunk.len();
            encoded.push(if shown { char::from(BASE64[digit as usize]) } else { '=' });
        }
    }
    bounded(encoded)
}

/// `text | base64_decode`: the other way; line breaks do not count.
fn base64_decode(text: &str) -> Result<String, Error> {
    let wrong = || invalid("this is no base64 with the alphabet for URLs");
    let bytes: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let mut decoded = Vec::with_capacity(bytes.len());
    let last = bytes.len() / 4;
    for (number, chunk) in bytes.chunks(4).enumerate() {
        let padding = chunk.iter().rev().take_while(|byte| **byte == b'=').count();
        if chunk.len() < 4 || padding > 2 || (padding > 0 && number + 1 < last) {
            return Err(wrong());
        }
        let mut bits = 0;
        for byte in &chunk[..4 - padding] {
            let digit = BASE64.iter().position(|known| known == byte).ok_or_else(wrong)?;
            bits = bits << 6 | u32::try_from(digit).map_err(|_| wrong())?;
        }
        bits <<= 6 * padding;
        decoded.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Ok(String::from_utf8_lossy(&decoded).into_owned())
}
