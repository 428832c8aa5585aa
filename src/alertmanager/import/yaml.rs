//! YAML that is written: maps in the order in which they were filled, every text in double quotes where it needs them.

use std::fmt::Write as _;

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Yaml {
    Null,
    Text(String),
    /// A number, a boolean or a duration, as it stands.
    Plain(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    pub fn text(text: impl Into<String>) -> Yaml {
        Yaml::Text(text.into())
    }

    pub fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Yaml {
        Yaml::List(texts.into_iter().map(Yaml::text).collect())
    }

    fn is_small(&self) -> bool {
        match self {
            Yaml::Null | Yaml::Plain(_) => true,
            Yaml::Text(text) => !text.contains('\n'),
            Yaml::List(items) => {
                items.iter().all(|item| matches!(item, Yaml::Text(_) | Yaml::Plain(_)) && item.is_small())
            }
            Yaml::Map(entries) => entries.is_empty(),
        }
    }

    /// On one line.
    fn inline(&self, out: &mut String) {
        match self {
            Yaml::Null => out.push_str("null"),
            Yaml::Plain(text) => out.push_str(text),
            Yaml::Text(text) => out.push_str(&scalar(text)),
            Yaml::List(items) => {
                out.push('[');
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        out.push_str(", ");
                    }
                    item.inline(out);
                }
                out.push(']');
            }
            Yaml::Map(_) => out.push_str("{}"),
        }
    }

    /// The whole, indented by `depth` steps of two.
    pub fn write(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        match self {
            Yaml::Map(entries) => {
                for (key, value) in entries {
                    write!(out, "{indent}{}:", scalar(key)).expect("text grows");
                    value.write_value(depth, out);
                }
            }
            Yaml::List(items) => {
                for item in items {
                    write!(out, "{indent}-").expect("text grows");
                    match item {
                        Yaml::Map(entries) if !entries.is_empty() => {
                            // The first key stands behind the dash.
                            let mut inner = String::new();
                            item.write(depth + 1, &mut inner);
                            out.push(' ');
                            out.push_str(inner.trim_start_matches(' '));
                        }
                        _ => item.write_value(depth, out),
                    }
                }
            }
            _ => {
                out.push_str(&indent);
                self.inline(out);
                out.push('\n');
            }
        }
    }

    /// Behind a key or a dash.
    fn write_value(&self, depth: usize, out: &mut String) {
        if self.is_small() {
            out.push(' ');
            self.inline(out);
            out.push('\n');
            return;
        }
        match self {
            Yaml::Text(text) => {
                // Quoted: a block would lose what stands at its ends.
                out.push(' ');
                out.push_str(&quoted(text));
                out.push('\n');
            }
            _ => {
                out.push('\n');
                self.write(depth + 1, out);
            }
        }
    }
}

/// A text as it stands, where that means itself, else in quotes.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./@".contains(&b))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_means_what_it_was() {
        let value = Yaml::Map(vec![
            ("plain".into(), Yaml::text("word")),
            ("quoted".into(), Yaml::texts(["yes", "12", "a: b", "- x", "", "line\nbreak", "\"q\""])),
            ("empty".into(), Yaml::Map(vec![])),
            (
                "list".into(),
                Yaml::List(vec![
                    Yaml::Map(vec![
                        ("a".into(), Yaml::Plain("1".into())),
                        ("b".into(), Yaml::List(vec![Yaml::Map(vec![("c".into(), Yaml::Null)])])),
                    ]),
                    Yaml::text("two\nlines"),
                ]),
            ),
        ]);
        let mut out = String::new();
        value.write(0, &mut out);
        let read: serde_json::Value = serde_saphyr::from_str(&out).expect("YAML");
        let expected = serde_json::json!({
            "plain": "word",
            "quoted": ["yes", "12", "a: b", "- x", "", "line\nbreak", "\"q\""],
            "empty": {},
            "list": [{ "a": 1, "b": [{ "c": null }] }, "two\nlines"],
        });
        assert_eq!(read, expected, "{out}");
    }
}
