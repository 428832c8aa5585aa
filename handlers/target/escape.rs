//! What alert text must look like in a chat's own markup, so that nothing in it is taken for markup, a link or a mention; and
//! the filters that only web hooks need.

use std::fmt::Write as _;

use base64::{Engine, prelude::BASE64_STANDARD};
use minijinja::{AutoEscape, Environment, Error, Output, State, value::Value};
use ring::digest;

/// How the values in a template are escaped. The template's own text is not: that is the admin's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Escape {
    /// Not at all: where the text is shown as it is.
    #[default]
    None,
    /// HTML, and what chats take for it.
    Html,
    /// `&`, `<` and `>` (Slack): without them there is no link and no mention.
    Angle,
    /// `<` becomes a sign that looks like it (Google Chat): it begins links and mentions there, and nothing stands for it.
    Lookalike,
    /// The same for what also takes `[words](address)` for a link (WeCom's Markdown).
    LookalikeLink,
    /// Markdown and its cousins: Discord, Mattermost, Rocket.Chat, Webex, cards.
    Markdown,
    /// Jira's wiki markup.
    Wiki,
    /// Within a text of JSON, for templates that write JSON themselves.
    Json,
    /// A part of a path or of a query.
    Url,
}

impl Escape {
    fn name(self) -> &'static str {
        match self {
            Escape::None => "none",
            Escape::Html => "html",
            Escape::Angle => "angle",
            Escape::Lookalike => "lookalike",
            Escape::LookalikeLink => "lookalike_link",
            Escape::Markdown => "markdown",
            Escape::Wiki => "wiki",
            Escape::Json => "json",
            Escape::Url => "url",
        }
    }

    /// `text` without anything that means something.
    pub(crate) fn apply(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        match self {
            Escape::None => out.push_str(text),
            Escape::Lookalike => out = text.replace('<', "‹"),
            Escape::LookalikeLink => out = text.replace('<', "‹").replace('[', "［"),
            Escape::Url => out = crate::webhook::oauth::form(text),
            Escape::Json => {
                let quoted = serde_json::to_string(text).expect("text is JSON");
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
            Escape::Wiki => wiki(text, &mut out),
            Escape::Html | Escape::Angle => {
                for c in text.chars() {
                    match c {
                        '&' => out.push_str("&amp;"),
                        '<' => out.push_str("&lt;"),
                        '>' => out.push_str("&gt;"),
                        '"' if self == Escape::Html => out.push_str("&quot;"),
                        '\'' if self == Escape::Html => out.push_str("&#x27;"),
                        c => out.push(c),
                    }
                }
            }
            Escape::Markdown => {
                let mut before = ' ';
                for c in text.chars() {
                    if "\\`*_~[]<>#|!".contains(c) {
                        out.push('\\');
                    }
                    out.push(c);
                    // A mention begins a word; an address in the middle of one is left as it is.
                    if c == '@' && !before.is_alphanumeric() {
                        out.push('\u{200b}');
                    }
                    before = c;
                }
            }
        }
        out
    }
}

/// In Jira's wiki markup: what means something anywhere stands behind a `\`. What does so only where a word or a line begins is written
/// as a number there, so that names with a `-` and addresses stay what they are.
fn wiki(text: &str, out: &mut String) {
    /// Pictures that stand in brackets, without what is escaped anyway.
    const PICTURES: [&str; 10] = ["/)", "x)", "y)", "n)", "i)", "?)", "on)", "off)", "flag)", "flagoff)"];
    // Where the line's first word begins: the text may be put in where one does.
    let (mut line, mut before) = (0, ' ');
    for (at, c) in text.char_indices() {
        let rest = &text[at + c.len_utf8()..];
        // Jira's idea of letters is another than ours beyond these.
        let is_within_word = before.is_ascii_alphanumeric();
        let is_number = match c {
            // Two of them break the line, so one cannot stand for itself behind another.
            '\\' => true,
            '-' | '+' => !is_within_word,
            '?' => before == '?' || rest.starts_with('?'),
            '#' => at == line,
            '.' => matches!(&text.as_bytes()[line..at], b"bq" | [b'h', b'1'..=b'6']),
            '(' => PICTURES.iter().any(|picture| rest.starts_with(picture)),
            ':' | ';' => rest.starts_with(['(', ')']) || (!is_within_word && rest.starts_with(['P', 'D'])),
            _ => false,
        };
        match c {
            _ if is_number => _ = write!(out, "&#{};", u32::from(c)),
            '{' | '}' | '[' | ']' | '!' | '|' | '*' | '_' | '^' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
        if matches!(c, '\n' | '\r') || (at == line && c.is_whitespace()) {
            line = at + c.len_utf8();
        }
        before = c;
    }
}

/// Sets up an environment so that what is put in is escaped this way.
pub(crate) fn install(environment: &mut Environment<'static>, escape: Escape) {
    if escape != Escape::None {
        environment.set_auto_escape_callback(move |_| AutoEscape::Custom(escape.name().into()));
        environment.set_formatter(move |out, state, value| format(out, state, value, escape));
    }
    environment
        .add_filter("sha256", |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()));
    environment.add_filter("base64", |text: &str| BASE64_STANDARD.encode(text));
    environment.add_filter("url", |text: &str| Escape::Url.apply(text));
    environment.add_filter("html", |text: &str| Escape::Html.apply(text));
    environment.add_filter("markdown", |text: &str| Escape::Markdown.apply(text));
    environment.add_filter("wiki", |text: &str| Escape::Wiki.apply(text));
    environment.add_filter("adf", |text: &str| super::adf::document(text).to_string());
    environment.add_filter("one_line", |text: &str| crate::text::one_line(text).into_owned());
    environment.add_filter("printable", |text: &str| text.replace(|c: char| c.is_control() && c != '\n', ""));
    if escape == Escape::Json {
        // What is JSON already must not be escaped once more.
        for (name, write) in [
            ("json", crate::render::json as fn(&Value) -> _),
            ("tojson", crate::render::json),
            ("alertmanager_json", crate::render::filters::alertmanager_json),
        ] {
            environment.add_filter(name, move |value: &Value| write(value).map(Value::from_safe_string));
        }
    }
    environment.add_filter("query", query);
    environment
        .add_filter("truncate_bytes", |text: &str, bytes: usize| crate::text::cut(text, bytes).into_owned());
}

fn format(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
    escape: Escape,
) -> Result<(), Error> {
    let is_ours = matches!(state.auto_escape(), AutoEscape::Custom(name) if name == escape.name());
    if value.is_safe() || !is_ours {
        return minijinja::escape_formatter(out, state, &Value::from_safe_string(value.to_string()));
    }
    out.write_str(&escape.apply(&value.to_string())).map_err(Error::from)
}

/// `{{ url | query('wait', 'true') }}`: a URL with one more parameter.
fn query(url: &str, name: &str, value: &str) -> String {
    let before = if url.contains('?') { '&' } else { '?' };
    format!("{url}{before}{}={}", Escape::Url.apply(name), Escape::Url.apply(value))
}

/// In lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        render::{Scope, Template},
        sample,
    };

    #[test]
    fn nothing_of_a_strangers_means_something() {
        let rows = [
            (
                Escape::Angle,
                "<!channel> <@U1> & <http://x|y>",
                "&lt;!channel&gt; &lt;@U1&gt; &amp; &lt;http://x|y&gt;",
            ),
            (Escape::Lookalike, "<users/all> &", "‹users/all> &"),
            (Escape::LookalikeLink, "<@u> [a](http://x)", "‹@u> ［a](http://x)"),
            (
                Escape::Wiki,
                r"[~admin] !x.png! {code} \\ C:\t",
                r"\[\~admin\] \!x.png\! \{code\} &#92;&#92; C:&#92;t",
            ),
            (Escape::Wiki, "a -x- +y+ ??z??", "a &#45;x- &#43;y+ &#63;&#63;z&#63;&#63;"),
            (Escape::Wiki, "²-x- é+y+", "²&#45;x- é&#43;y+"),
            (Escape::Wiki, "h1. a\n bq. b\nh7. c h2. d", "h1&#46; a\n bq&#46; b\nh7. c h2. d"),
            (Escape::Wiki, "# a\r\n  # b\n- c # d", "&#35; a\r\n  &#35; b\n&#45; c # d"),
            (Escape::Wiki, "----\na -- b", "&#45;&#45;&#45;&#45;\na &#45;&#45; b"),
            (Escape::Wiki, "(/) (off) (on line) :) :D", "&#40;/) &#40;off) (on line) &#58;) &#58;D"),
            (Escape::Wiki, "db-01: https://h-1/a?b=c+d (95%)", "db-01: https://h-1/a?b=c+d (95%)"),
            (Escape::Json, "\"}\n\u{1}", "\\\"}\\n\\u0001"),
            (Escape::Html, "<b a='1'>\"&", "&lt;b a=&#x27;1&#x27;&gt;&quot;&amp;"),
            (Escape::Markdown, "*a* [b](http://c) `d`", r"\*a\* \[b\](http://c) \`d\`"),
            (Escape::Markdown, "@everyone @here a@b", "@\u{200b}everyone @\u{200b}here a@b"),
            (Escape::Url, "../a?b=c#d&e é", "..%2Fa%3Fb%3Dc%23d%26e%20%C3%A9"),
            (Escape::None, "<*>", "<*>"),
        ];
        for (escape, text, escaped) in rows {
            assert_eq!(escape.apply(text), escaped, "{escape:?}");
        }
    }

    #[test]
    fn a_template_that_writes_json_cannot_be_broken_out_of() {
        let mut delivery = sample::delivery();
        delivery.groups[0].alerts[0].labels[1].1 = "a\"}],[{\"b\":\"".into();
        for source in [
            r#"{"t": "{{ event }}"}"#,
            r#"{"t": {{ event | json }}}"#,
            r#"{"t": {{ event | alertmanager_json }}}"#,
            r#"{% macro m(x) %}{"t": "{{ x }}"}{% endmacro %}{{ m(event) }}"#,
        ] {
            let template = Template::compile(source, Scope::Message(Escape::Json)).expect(source);
            let text = template.render_message(&delivery).expect(source);
            let json: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert_eq!(json, serde_json::json!({ "t": "a\"}],[{\"b\":\"" }), "{source}");
        }
    }

    #[test]
    fn values_are_escaped_and_the_templates_own_text_is_not() {
        let mut delivery = sample::delivery();
        delivery.groups[0].alerts[0].labels[1].1 = "<!channel>".into();
        let render = |source: &str| {
            let template = Template::compile(source, Scope::Message(Escape::Angle)).expect(source);
            template.render_message(&delivery).expect(source)
        };
        assert_eq!(render("<@U1> {{ event }}"), "<@U1> &lt;!channel&gt;");
        assert_eq!(render("{{ event | safe }}"), "<!channel>");
        assert_eq!(render("{% set x %}{{ event }}{% endset %}{{ x }}"), "&lt;!channel&gt;");
        assert_eq!(render("{{ firing }} {{ test }}"), "1 False");
        assert_eq!(render("{{ 'http://h/p' | query('a b', '&') | safe }}"), "http://h/p?a%20b=%26");
        assert!(Template::compile("{{ settings.x }}", Scope::Message(Escape::None)).is_err());
    }
}
