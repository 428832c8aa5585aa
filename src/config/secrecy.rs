//! What of a configuration is never shown, wherever its admin put it: words before `@` in an address, and lines with a key
//! whose name says that a secret stands there, known or not.

/// Parts of names whose values nobody else may see.
const WORDS: [&str; 11] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "api_key",
    "routing_key",
    "credential",
    "private_key",
    "authorization",
];

/// Whether a key's name says that a secret stands there: one that is misspelt, or known elsewhere, does so, too. Addresses of
/// web hooks are such: whoever has one may post there.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    if key.ends_with("_file") || key == "external_url" {
        return false;
    }
    let ends = ["_url", "_key"];
    WORDS.iter().any(|word| key.contains(word)) || key == "url" || ends.iter().any(|end| key.ends_with(end))
}

/// Whether line `line` (from 1) of a file may show a secret: its key stands in it, or alone in the line before; or a login does.
pub(super) fn is_hidden(text: &str, line: usize) -> bool {
    let mut lines = text.lines().skip(line.saturating_sub(2));
    let before = if line >= 2 { lines.next().unwrap_or_default() } else { "" };
    let line = lines.next().unwrap_or_default();
    let ends_there =
        before.trim_end().strip_suffix([':', '|', '>']).map(|rest| rest.trim_end_matches([':', ' ']));
    ends_there.is_some_and(|rest| is_secret(last_word(rest))) || has_secret(line) || masked(line) != line
}

/// Whether a line has such a key with a value that is no reference to the environment.
fn has_secret(line: &str) -> bool {
    line.match_indices(':').any(|(at, _)| {
        let value = line[at + 1..].trim_start().trim_start_matches(['"', '\'']);
        let is_separate = line[at + 1..].starts_with([' ', '\t']) || value.is_empty();
        is_separate && !value.starts_with("${env:") && is_secret(last_word(&line[..at]))
    })
}

/// The word at the end of a text, without its quotes.
fn last_word(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '"', '\'']);
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    &text[text.trim_end_matches(is_part).len()..]
}

/// A message with `…` in place of whatever stands before `@` in an address: a login with its password.
pub(super) fn masked(message: &str) -> String {
    message.split_inclusive('\n').map(masked_line).collect()
}

fn masked_line(line: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        out.push_str(&masked_words(before));
        // A password may have spaces in it, and `@`: the last one ends the login.
        let login = address[..address_end(before, address)].rfind('@').filter(|at| *at > 0);
        rest = &address[login.unwrap_or(0)..];
        out.push_str(if login.is_some() { "…" } else { "" });
    }
    out.push_str(&masked_words(rest));
    out
}

/// Where an address ends at the latest: at the quote that ends its text, else with the line. `before` is what stands before it.
fn address_end(before: &str, address: &str) -> usize {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.:/".contains(c);
    let quote = before.trim_end_matches(is_of_scheme).chars().next_back();
    let Some(quote) = quote.filter(|quote| matches!(quote, '"' | '\'')) else { return address.len() };
    let mut chars = address.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let is_escaped = match quote {
            '"' => c == '\\',
            _ => c == quote && chars.peek().is_some_and(|(_, next)| *next == quote),
        };
        if is_escaped {
            chars.next();
        } else if c == quote {
            return at;
        }
    }
    address.len()
}

/// The same for words that no scheme stands before. A mail address has no colon.
fn masked_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let login = word.rfind('@').filter(|at| word[..*at].contains(':')).and_then(|at| {
            let start = word[..at].find(|c: char| c.is_alphanumeric())?;
            (start < at).then_some((start, at))
        });
        match login {
            Some((start, at)) => {
                out.push_str(&word[..start]);
                out.push('…');
                out.push_str(&word[at..]);
            }
            None => out.push_str(word),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_an_address_is_masked_and_a_mail_address_is_not() {
        for (message, shown) in [
            ("\"smtp://me:canary@h\" is no mail server", "\"smtp://…@h\" is no mail server"),
            ("\"me:ca/na:ry@h:25\" is no host", "\"…@h:25\" is no host"),
            ("\"smtp://canary@h\" is", "\"smtp://…@h\" is"),
            ("\"x y@example.com\" is no mail address", "\"x y@example.com\" is no mail address"),
            ("from: \"a@b.c\"", "from: \"a@b.c\""),
            ("https://h/path is no URL", "https://h/path is no URL"),
            ("\"smtp://me:canary three@h\" is no", "\"smtp://…@h\" is no"),
            ("\"smtp://me:ca\\\"na ry@x@h\" is no", "\"smtp://…@h\" is no"),
            ("smtp: 'smtp://me:ca''na ry@h:25', to: [a@b.c]", "smtp: 'smtp://…@h:25', to: [a@b.c]"),
            ("smtp: 'smtp://h:25', to: [a@example.com]", "smtp: 'smtp://h:25', to: [a@example.com]"),
            ("smtp: smtp://me:can ary@h:25", "smtp: smtp://…@h:25"),
            ("no ldap://me:canary@h\nhttp://h and a@b.c\na@b.c", "no ldap://…@h\nhttp://…@b.c\na@b.c"),
        ] {
            assert_eq!(masked(message), shown);
        }
    }

    #[test]
    fn a_line_with_the_name_of_a_secret_is_hidden() {
        for (text, line, hidden) in [
            ("bot_token: canary", 1, true),
            ("- slack: {url: 'https://canary'}", 1, true),
            ("- pagerduty: {service_key: canary, x: y}", 1, true),
            ("user-key: canary", 1, true),
            ("user_key_file: secrets/key", 1, false),
            ("group_keys: [a, b]", 1, false),
            ("- telegram: {\"Bot-Token\": canary, x: y}", 1, true),
            ("smtp_password:\n  canary", 2, true),
            ("smtp_password: |\n  canary", 2, true),
            ("token_file: secrets/t\n", 1, false),
            ("token: ${env:TOKEN}", 1, false),
            ("external_url: https://ams2.example.com", 1, false),
            ("smtp: smtp://mail.example.com:25", 1, false),
            ("smtp: smtp://me:canary@mail.example.com:25", 1, true),
            ("smtp: 'smtp://me:canary three@mail.example.com:25'", 1, true),
            ("{smtp: 'smtp://mail.example.com:25', to: [a@example.com]}", 1, false),
            ("{to: [a@example.com], from: b@example.com}", 1, false),
            ("a: b\nreceiver: x", 2, false),
        ] {
            assert_eq!(is_hidden(text, line), hidden, "{text}");
        }
    }
}
