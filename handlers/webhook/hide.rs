//! What far ends repeat of a secret is hidden, whole or in part: a path of a URL, a value of its query, the token behind `Bearer`.

use std::{borrow::Cow, collections::BTreeSet};

use reqwest::Url;

/// Shorter texts are part of too much else to be hidden in what far ends say.
const HIDDEN_BYTES_MIN: usize = 8;
/// What stands for a secret.
pub(super) const HIDDEN: &str = "[hidden]";

/// `words` without any of these secrets in it, nor a part of one that may be a secret itself.
pub(super) fn hide<'a>(words: String, secrets: impl Iterator<Item = &'a str>) -> String {
    let mut forms = BTreeSet::new();
    for secret in secrets {
        add(&mut forms, secret);
    }
    // The longest first: what is part of another would leave the rest of it standing.
    let mut forms: Vec<String> = forms.into_iter().filter(|form| words.contains(form)).collect();
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.iter().fold(words, |words, form| words.replace(form, HIDDEN))
}

fn add(forms: &mut BTreeSet<String>, secret: &str) {
    let mut one = |text: &str| {
        let plain = percent_decoded(text);
        forms.extend(
            [text, &plain].into_iter().filter(|text| text.len() >= HIDDEN_BYTES_MIN).map(str::to_owned),
        );
    };
    one(secret);
    secret.split_whitespace().for_each(&mut one);
    let Ok(url) = Url::parse(secret) else { return };
    if url.has_host() {
        for part in [url.as_str(), url.path(), url.query().unwrap_or_default(), url.username()] {
            one(part);
        }
        one(url.password().unwrap_or_default());
        url.path().split('/').for_each(&mut one);
        for pair in url.query().unwrap_or_default().split('&') {
            one(pair.split_once('=').map_or(pair, |(_, value)| value));
        }
    }
}

/// The text that a far end reads where `%41` stands; the text itself where that is none.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let hex = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let coded = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let byte = coded.and_then(|two| Some(hex(two[0])? << 4 | hex(two[1])?));
        plain.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_whole_and_in_parts() {
        let url = "https://hooks.example.com/services/T0001/XyZsecretXyZ?key=a%2Fsecret-key&n=1#f";
        let rows = [
            (
                url,
                "go to https://hooks.example.com/services/T0001/XyZsecretXyZ?key=a%2Fsecret-key&n=1#f",
                "go to [hidden]",
            ),
            (url, "no /services/T0001/XyZsecretXyZ here", "no [hidden] here"),
            (url, "no XyZsecretXyZ at T0001", "no [hidden] at T0001"),
            (url, "wrong key a/secret-key or a%2Fsecret-key", "wrong key [hidden] or [hidden]"),
            ("Basic YW5uOnBhc3M6IHdvcmQ=", "bad YW5uOnBhc3M6IHdvcmQ=", "bad [hidden]"),
            ("Bearer token-of-ours", "Bearer token-of-ours and token-of-ours", "[hidden] and [hidden]"),
            ("short", "a short answer", "a short answer"),
            ("100%-sure!", "100%-sure!", "[hidden]"),
        ];
        for (secret, words, expected) in rows {
            assert_eq!(hide(words.to_owned(), [secret].into_iter()), expected, "{words}");
        }
        let nested = ["secret-a", "secret-a-and-more"];
        assert_eq!(hide("secret-a-and-more".into(), nested.into_iter()), "[hidden]");
    }
}
