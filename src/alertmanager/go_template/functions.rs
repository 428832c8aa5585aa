//! The functions of Alertmanager's templates and of Go's, in minijinja's words.

use std::collections::BTreeMap;

use super::{
    code::{Code, Level, quoted},
    frame::Frame,
    types::Type,
};
use ams2_handlers::render::filters;

/// As many arguments as one likes.
const ANY: usize = usize::MAX;

/// Every function, with the least and the most arguments.
const FUNCTIONS: [(&str, usize, usize); 44] = [
    ("and", 1, ANY),
    ("append", 1, ANY),
    ("base64decode", 1, 1),
    ("base64encode", 1, 1),
    ("call", 1, ANY),
    ("date", 2, 2),
    ("dict", 0, ANY),
    ("eq", 2, ANY),
    ("ge", 2, 2),
    ("gt", 2, 2),
    ("html", 0, ANY),
    ("humanizeDuration", 1, 1),
    ("index", 1, ANY),
    ("join", 2, 2),
    ("js", 0, ANY),
    ("le", 2, 2),
    ("len", 1, 1),
    ("list", 0, ANY),
    ("lt", 2, 2),
    ("match", 2, 2),
    ("mustToDate", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("now", 0, 0),
    ("or", 1, ANY),
    ("print", 0, ANY),
    ("printf", 1, ANY),
    ("println", 0, ANY),
    ("reReplaceAll", 3, 3),
    ("routeLabels", 1, 1),
    ("safeHtml", 1, 1),
    ("safeUrl", 1, 1),
    ("since", 1, 1),
    ("slice", 1, 4),
    ("stringSlice", 0, ANY),
    ("title", 1, 1),
    ("toDate", 2, 2),
    ("toJson", 1, 1),
    ("toLower", 1, 1),
    ("toUpper", 1, 1),
    ("trimSpace", 1, 1),
    ("tz", 2, 2),
    ("urlUnescape", 1, 1),
    ("urlquery", 0, ANY),
];

/// Whether Alertmanager or Go has a function of that name.
pub(super) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, _, _)| *known == name)
}

fn texts(codes: &[Code]) -> String {
    let texts: Vec<&str> = codes.iter().map(|code| &code.text[..]).collect();
    texts.join(", ")
}

impl Frame<'_> {
    /// What `name` gives for `arguments`.
    pub(super) fn call(&mut self, at: usize, name: &str, arguments: Vec<Code>) -> Code {
        let count = arguments.len();
        match FUNCTIONS.iter().find(|(known, _, _)| *known == name) {
            Some((_, least, most)) if (*least..=*most).contains(&count) => {}
            Some(_) => {
                let what = format!("`{name}` cannot take {count} arguments");
                return self.impossible(at, what, "Alertmanager fails on it, too; give it what it needs");
            }
            None => return self.impossible(at, format!("no function is called `{name}`"), "leave it out"),
        }
        if matches!(name, "and" | "or") {
            return logical(name, arguments);
        }
        if name == "not" {
            let condition = &arguments[0];
            let text = if condition.kind.is_always_true() { "true".into() } else { condition.tight() };
            return Code::operator(format!("not {text}"), Type::Bool);
        }
        let arguments: Vec<Code> = arguments.into_iter().map(Code::solid).collect();
        match name {
            "eq" | "ne" | "lt" | "le" | "gt" | "ge" => self.comparison(at, name, &arguments),
            "len" | "index" | "slice" | "list" | "append" | "dict" | "stringSlice" => {
                self.collection(at, name, arguments)
            }
            "print" | "println" | "printf" | "html" | "js" | "urlquery" => {
                self.printing(at, name, &arguments)
            }
            "date" | "tz" | "now" | "since" | "humanizeDuration" | "toDate" | "mustToDate" => {
                self.clock(at, name, &arguments)
            }
            "call" => {
                let what = "`call` needs a function as a value, and a notification has none".to_owned();
                self.impossible(at, what, "leave it out")
            }
            _ => self.wording(at, name, &arguments),
        }
    }

    /// Whether `code` can be a `wanted`; a note if it cannot.
    pub(super) fn expect(&mut self, at: usize, name: &str, code: &Code, wanted: &Type) -> bool {
        let fits = match (&code.kind, wanted) {
            (Type::Unknown | Type::Never, _) => true,
            (Type::List(_), Type::List(_)) => true,
            (Type::Integer | Type::Float, Type::Integer | Type::Float | Type::Duration) => true,
            (kind, wanted) => kind == wanted,
        };
        if !fits {
            let what = format!("`{name}` takes {}, not {}", wanted.shown(), code.kind.shown());
            self.impossible(at, what, "Alertmanager fails on it, too; convert the value first");
        }
        fits
    }

    fn comparison(&mut self, at: usize, name: &str, arguments: &[Code]) -> Code {
        let (left, right) = (&arguments[0], &arguments[1]);
        if matches!((&left.kind, &right.kind), (Type::Time | Type::Duration, Type::Time | Type::Duration)) {
            self.approximate(
                at,
                "times and durations are compared as they are written",
                "compare seconds instead",
            );
        }
        let operator = match name {
            "eq" if arguments.len() > 2 => {
                return Code::comparison(format!("{} in [{}]", left.tight(), texts(&arguments[1..])));
            }
            "eq" => "==",
            "ne" => "!=",
            "lt" => "<",
            "le" => "<=",
            "gt" => ">",
            _ => ">=",
        };
        Code::comparison(format!("{} {operator} {}", left.tight(), right.tight()))
    }

    fn collection(&mut self, at: usize, name: &str, arguments: Vec<Code>) -> Code {
        match name {
            "len" if !has_length(&arguments[0].kind) => {
                let what = format!("`len` cannot count {}", arguments[0].kind.shown());
                self.impossible(at, what, "Alertmanager fails on it, too")
            }
            "len" if arguments[0].kind == Type::Text => arguments[0].filter("byte_length", Type::Integer),
            "len" => arguments[0].filter("length", Type::Integer),
            "index" => {
                let mut arguments = arguments.into_iter();
                let first = arguments.next().unwrap_or_else(|| Code::text(""));
                arguments.fold(first, |owner, key| self.index(at, owner.solid(), &key))
            }
            "slice" if arguments[0].kind == Type::Text => {
                arguments[0].filter(&format!("string_slice({})", texts(&arguments[1..])), Type::Text)
            }
            "slice" => {
                let from = arguments.get(1).map_or("", |code| &code.text);
                let to = arguments.get(2).map_or("", |code| &code.text);
                Code::atom(format!("({})[{from}:{to}]", arguments[0].text), arguments[0].kind.clone())
            }
            "append" => {
                let items = arguments[1..].iter().map(|code| code.kind.clone());
                let kind = arguments[0].kind.clone().join(Type::list(items.fold(Type::Never, Type::join)));
                arguments[0].filter(&format!("append({})", texts(&arguments[1..])), kind)
            }
            "dict" => self.dictionary(at, &arguments),
            _ => {
                let kinds = arguments.iter().map(|code| code.kind.clone());
                let element = if name == "list" { kinds.fold(Type::Never, Type::join) } else { Type::Text };
                Code::atom(format!("[{}]", texts(&arguments)), Type::list(element))
            }
        }
    }

    fn index(&mut self, at: usize, owner: Code, key: &Code) -> Code {
        match &owner.kind {
            Type::Labels => Code { missing: true, ..owner.index(key, Type::Text) },
            Type::Dictionary(entries) => match key.literal_text() {
                Some(name) if entries.contains_key(name) => owner.member(name, entries[name].clone()),
                Some(_) => Code::atom("none", Type::Nil),
                None => Code { missing: true, ..owner.index(key, Type::Unknown) },
            },
            Type::List(_) => {
                let element = owner.kind.element().unwrap_or(Type::Unknown);
                owner.index(key, element)
            }
            Type::Unknown | Type::Never => Code { missing: true, ..owner.index(key, Type::Unknown) },
            Type::Text => {
                let what = "`index` of a text is the number of a byte, which ams2 does not count";
                self.impossible(at, what.into(), "take a part of the text with `slice`")
            }
            kind => {
                let what = format!("`index` has nothing to look up in {}", kind.shown());
                self.impossible(at, what, "Alertmanager fails on it, too")
            }
        }
    }

    fn dictionary(&mut self, at: usize, arguments: &[Code]) -> Code {
        if !arguments.len().is_multiple_of(2) {
            let what = "`dict` takes keys and values in turn, and the last value is missing".to_owned();
            return self.impossible(at, what, "Alertmanager fails on it, too; add the value");
        }
        let mut kinds = Some(BTreeMap::new());
        let mut entries = Vec::new();
        for pair in arguments.chunks(2) {
            if !self.expect(at, "dict", &pair[0], &Type::Text) {
                return Code::atom("{}", Type::Unknown);
            }
            match (pair[0].literal_text(), &mut kinds) {
                (Some(name), Some(kinds)) => {
                    kinds.insert(name.to_owned(), pair[1].kind.clone());
                }
                _ => kinds = None,
            }
            entries.push(format!("{}: {}", pair[0].text, pair[1].text));
        }
        let kind = kinds.map_or(Type::Unknown, Type::dictionary);
        Code::atom(format!("{{{}}}", entries.join(", ")), kind)
    }

    fn printing(&mut self, at: usize, name: &str, arguments: &[Code]) -> Code {
        let shown: Vec<Code> = arguments.iter().map(|code| self.as_printed(at, code)).collect();
        if name == "printf" {
            let format = shown[0].literal_text();
            if let (Some("%s" | "%v"), [_, only], Type::Text) =
                (format, &shown[..], &shown[shown.len() - 1].kind)
            {
                return only.clone();
            }
            return Code::atom(format!("printf({})", texts(&shown)), Type::Text);
        }
        let function = if name == "println" { "println" } else { "print" };
        let whole = match &shown[..] {
            [only] if name != "println" && only.kind == Type::Text => only.clone(),
            _ => Code::atom(format!("{function}({})", texts(&shown)), Type::Text),
        };
        match name {
            "html" => whole.filter("html_escape", Type::Text),
            "js" => whole.filter("js_escape", Type::Text),
            "urlquery" => whole.filter("url_escape", Type::Text),
            _ => whole,
        }
    }

    fn clock(&mut self, at: usize, name: &str, arguments: &[Code]) -> Code {
        let now = Code::path("decided", Type::Time);
        let last = arguments.last().unwrap_or(&now);
        let (wanted, first) = match name {
            "date" | "tz" | "since" => (Type::Time, Type::Text),
            "toDate" | "mustToDate" => (Type::Text, Type::Text),
            _ => return if name == "now" { now } else { last.filter("humanize_duration", Type::Text) },
        };
        if !self.expect(at, name, last, &wanted)
            || (arguments.len() == 2 && !self.expect(at, name, &arguments[0], &first))
        {
            return Code::text("");
        }
        match name {
            "date" => self.date(last, &arguments[0]),
            "tz" => last.filter(&format!("zone({})", arguments[0].text), Type::Time),
            "since" => last.filter("since(decided)", Type::Duration),
            "toDate" => last.filter(&format!("parse_date({})", arguments[0].text), Type::Time),
            _ => last.filter(&format!("parse_date({}, strict=true)", arguments[0].text), Type::Time),
        }
    }

    /// `moment` by a layout of Go's, as strftime where that can say it.
    pub(super) fn date(&mut self, moment: &Code, layout: &Code) -> Code {
        let filter = match layout.literal_text().and_then(filters::layout::strftime) {
            Some(format) => format!("date({})", quoted(&format)),
            None => format!("date_layout({})", layout.text),
        };
        moment.filter(&filter, Type::Text)
    }

    fn wording(&mut self, at: usize, name: &str, arguments: &[Code]) -> Code {
        let last = &arguments[arguments.len() - 1];
        if name == "toJson" {
            return self.json(at, last);
        }
        let wanted = if name == "join" { Type::list(Type::Text) } else { Type::Text };
        let firsts = &arguments[..arguments.len() - 1];
        if !self.expect(at, name, last, &wanted)
            || !firsts.iter().all(|argument| self.expect(at, name, argument, &Type::Text))
        {
            return Code::text("");
        }
        if matches!(name, "match" | "reReplaceAll") {
            self.check_pattern(at, &arguments[0]);
        }
        let filter = match name {
            "toUpper" => "upper".into(),
            "toLower" => "lower".into(),
            "title" => "title".into(),
            "trimSpace" => "trim".into(),
            "urlUnescape" => "url_unescape".into(),
            "base64encode" => "base64_encode".into(),
            "base64decode" => "base64_decode".into(),
            "safeHtml" if self.escapes() => "safe".into(),
            "safeHtml" | "safeUrl" => return last.clone(),
            "join" => format!("join({})", arguments[0].text),
            "match" => {
                let filter = format!("regex_match({})", arguments[0].text);
                return last.filter(&filter, Type::Bool);
            }
            "reReplaceAll" => format!("regex_replace({})", texts(firsts)),
            "routeLabels" => {
                let labels = Code::path("route_labels", Type::Labels);
                return Code { missing: true, ..labels.index(last, Type::Text) };
            }
            _ => return self.impossible(at, format!("`{name}` is not known"), "leave it out"),
        };
        last.filter(&filter, Type::Text)
    }

    fn json(&mut self, at: usize, value: &Code) -> Code {
        match &value.kind {
            Type::Time => {
                let text = format!("({} or \"0001-01-01T00:00:00Z\") | alertmanager_json", value.tight());
                return Code { level: Level::Filtered, ..Code::atom(text, Type::Text) };
            }
            Type::Duration => {
                let text = format!("({} * 1000000000) | int | alertmanager_json", value.tight());
                return Code { level: Level::Filtered, ..Code::atom(text, Type::Text) };
            }
            Type::Pair | Type::List(_)
                if value.kind == Type::Pair || value.kind == Type::list(Type::Pair) =>
            {
                let what = "the JSON of a label has `name` and `value`, where Go has `Name` and `Value`";
                self.approximate(at, what, "give `toJson` the map itself");
            }
            _ => {}
        }
        value.filter("alertmanager_json", Type::Text)
    }

    fn check_pattern(&mut self, at: usize, pattern: &Code) {
        let Some(text) = pattern.literal_text() else { return };
        if let Err(why) = filters::pattern::compile(text) {
            let what = format!("the pattern {} cannot be used: {why}", quoted(text));
            self.impossible(at, what, "write it in RE2's syntax");
        }
    }
}

fn has_length(kind: &Type) -> bool {
    let counted = matches!(kind, Type::Text | Type::Labels | Type::List(_) | Type::Dictionary(_));
    counted || matches!(kind, Type::Unknown | Type::Never)
}

/// `and` and `or` give one of their values, not a truth value.
fn logical(name: &str, mut arguments: Vec<Code>) -> Code {
    let always = arguments.iter().position(|code| code.kind.is_always_true());
    match (name, always) {
        // Nothing after it counts.
        ("or", Some(position)) => arguments.truncate(position + 1),
        // It counts only at the end.
        ("and", Some(_)) => {
            let last = arguments.len() - 1;
            let mut position = 0;
            arguments.retain(|code| {
                position += 1;
                position > last || !code.kind.is_always_true()
            });
        }
        _ => {}
    }
    if arguments.len() == 1 {
        return arguments.swap_remove(0);
    }
    let missing = match name {
        "or" => arguments.last().is_some_and(|code| code.missing),
        _ => arguments.iter().any(|code| code.missing),
    };
    let kind = arguments.iter().map(|code| code.kind.clone()).fold(Type::Never, Type::join);
    let texts: Vec<String> = arguments
        .iter()
        .map(|code| if code.level == Level::Operator { code.tight() } else { code.text.clone() })
        .collect();
    Code { missing, ..Code::operator(texts.join(&format!(" {name} ")), kind) }
}
