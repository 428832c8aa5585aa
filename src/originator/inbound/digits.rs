//! Whole numbers that are longer than a computer counts: ids, mostly. As numbers they would lose their last digits, and two of them be one.

use std::borrow::Cow;

/// JSON in which whole numbers that do not fit into 64 bits are texts.
pub(super) fn with_digits(text: &[u8]) -> Cow<'_, [u8]> {
    let (mut out, mut kept, mut at) = (Vec::new(), 0, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = behind_string(text, at + 1),
            b'-' | b'0'..=b'9' => {
                let is_of_number =
                    |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
                let length = text[at..].iter().take_while(|b| is_of_number(b)).count();
                let number = &text[at..at + length];
                if is_too_long(number) {
                    out.extend_from_slice(&text[kept..at]);
                    out.push(b'"');
                    out.extend_from_slice(number);
                    out.push(b'"');
                    kept = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(&text[kept..]);
    Cow::Owned(out)
}

/// Where a string ends that begins at `at`.
fn behind_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at.min(text.len())..]) {
        at += found + 1;
        if text[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    text.len()
}

fn is_too_long(number: &[u8]) -> bool {
    let Ok(number) = std::str::from_utf8(number) else { return false };
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_whole = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    digits.len() > 18 && is_whole && number.parse::<u64>().is_err() && number.parse::<i64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_whole_numbers_keep_their_digits_and_nothing_else_changes() {
        let rows = [
            ("", ""),
            ("[1,-2,3.5,1e9,null]", "[1,-2,3.5,1e9,null]"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "\"18446744073709551616\""),
            ("[-9223372036854775809, 1]", "[\"-9223372036854775809\", 1]"),
            (
                r#"{"a":"18446744073709551616","b":18446744073709551617}"#,
                r#"{"a":"18446744073709551616","b":"18446744073709551617"}"#,
            ),
            (r#""\" 18446744073709551616""#, r#""\" 18446744073709551616""#),
            (r#""\\" 18446744073709551616"#, r#""\\" "18446744073709551616""#),
            // No numbers of JSON.
            ("018446744073709551616", "018446744073709551616"),
            ("18446744073709551616.5", "18446744073709551616.5"),
            ("\"open \\", "\"open \\"),
        ];
        for (text, expected) in rows {
            assert_eq!(String::from_utf8_lossy(&with_digits(text.as_bytes())), expected, "{text}");
        }
    }
}
