//! Values: fields, methods and pipelines in minijinja's words, and how Go would print them.

use super::{
    ast::{Operand, Pipe, What},
    code::{Code, Literal},
    frame::Frame,
    types::{self, Type},
};

/// Go's own way to print a time.
const TIME_FORMAT: &str = "date(\"%Y-%m-%d %H:%M:%S%.f %z %Z\")";
/// How a Go program counts durations.
const NANOSECONDS: i64 = 1_000_000_000;

impl Frame<'_> {
    /// The value of a pipeline; setting its variables is the caller's.
    pub(super) fn value(&mut self, pipe: &Pipe) -> Code {
        let mut piped: Option<Code> = None;
        for command in &pipe.commands {
            let mut arguments: Vec<Code> =
                command[1..].iter().map(|operand| self.operand(operand, Vec::new())).collect();
            arguments.extend(piped.take());
            piped = Some(self.operand(&command[0], arguments));
        }
        piped.unwrap_or_else(|| Code::text(""))
    }

    fn operand(&mut self, operand: &Operand, arguments: Vec<Code>) -> Code {
        let chain = &operand.chain;
        let mut arguments = Some(arguments);
        let mut code = match &operand.what {
            What::Dot => self.dot().clone(),
            What::Variable(number) => self.variable(*number),
            What::Nil => Code::atom("none", Type::Nil),
            What::Bool(value) => Code::atom(value.to_string(), Type::Bool),
            What::Integer(value) => Code::integer(*value),
            What::Float(value) => Code::float(*value),
            What::Text(text) => Code::text(text),
            What::Pipe(pipe) => self.value(pipe),
            What::Function(name) => {
                let own = if chain.is_empty() { arguments.take() } else { None };
                self.call(operand.at, name, own.unwrap_or_default())
            }
        };
        for (position, name) in chain.iter().enumerate() {
            let own = if position + 1 == chain.len() { arguments.take() } else { None };
            code = self.member(operand.at, code.solid(), name, own.unwrap_or_default());
        }
        if arguments.is_some_and(|arguments| !arguments.is_empty()) {
            let what = "a value that is no function is given arguments".to_owned();
            return self.impossible(operand.at, what, "Alertmanager fails on it, too; put a function first");
        }
        code
    }

    /// `owner.name` with arguments, if it is a method.
    fn member(&mut self, at: usize, owner: Code, name: &str, arguments: Vec<Code>) -> Code {
        let arguments: Vec<Code> = arguments.into_iter().map(Code::solid).collect();
        if let Some(code) = self.method(at, &owner, name, &arguments) {
            if owner.kind == Type::Unknown {
                self.guess(at, name);
            }
            return code;
        }
        if !arguments.is_empty() {
            let what = format!("`.{name}` is no method and cannot take arguments");
            return self.impossible(at, what, "Alertmanager fails on it, too");
        }
        match (&owner.kind, types::field(&owner.kind, name)) {
            (Type::Never, _) => owner,
            (Type::Unknown, Some((ours, kind))) => {
                self.guess(at, name);
                Code { missing: true, ..owner.member(ours, kind) }
            }
            (_, Some((ours, kind))) => owner.member(ours, kind),
            (Type::Labels, None) => Code { missing: true, ..owner.member(name, Type::Text) },
            (Type::Dictionary(entries), None) => match entries.get(name) {
                Some(kind) => owner.member(name, kind.clone()),
                None => Code::atom("none", Type::Nil),
            },
            (Type::Unknown, None) => {
                self.guess(at, name);
                Code { missing: true, ..owner.member(name, Type::Unknown) }
            }
            (kind, None) => {
                let fields = types::fields(kind);
                let has = if fields.is_empty() { String::new() } else { format!("; there are {fields}") };
                let what = format!("{} has no `.{name}`{has}", kind.shown());
                self.impossible(at, what, "Alertmanager fails on it, too; correct the name")
            }
        }
    }

    fn guess(&mut self, at: usize, name: &str) {
        let what = format!("what `.{name}` belongs to is known only when the template runs");
        self.approximate(at, &what, "check the text that it gives with `ams2 action test`");
    }

    fn method(&mut self, at: usize, owner: &Code, name: &str, arguments: &[Code]) -> Option<Code> {
        let texts = Type::list(Type::Text);
        let pairs = Type::list(Type::Pair);
        let alerts = Type::list(Type::Alert);
        let unknown = owner.kind == Type::Unknown;
        let labels = owner.kind == Type::Labels || unknown;
        let code = match (name, arguments) {
            ("Firing", []) if owner.kind == alerts || unknown => owner.filter("firing", alerts),
            ("Resolved", []) if owner.kind == alerts || unknown => owner.filter("resolved", alerts),
            ("SortedPairs", []) if labels => owner.filter("sorted_pairs", pairs),
            ("Remove", [names]) if labels => {
                self.expect(at, "Remove", names, &texts);
                owner.filter(&format!("without({})", names.text), Type::Labels)
            }
            ("Names", []) if labels || owner.kind == pairs => owner.filter("names", texts),
            ("Values", []) if labels || owner.kind == pairs => owner.filter("values", texts),
            ("String", []) if owner.kind == Type::Labels || owner.kind == pairs => {
                owner.filter("show_pairs", Type::Text)
            }
            ("Join", [separator]) if owner.kind == texts || unknown => {
                owner.filter(&format!("join({})", separator.text), Type::Text)
            }
            _ if owner.kind == Type::Time => return self.time_method(at, owner, name, arguments),
            _ if owner.kind == Type::Duration => return duration_method(owner, name, arguments),
            _ => return None,
        };
        Some(code)
    }

    fn time_method(&mut self, at: usize, time: &Code, name: &str, arguments: &[Code]) -> Option<Code> {
        let number = |format: &str| time.filter(&format!("date(\"{format}\") | int"), Type::Integer);
        let code = match (name, arguments) {
            ("Format", [layout]) => self.date(time, layout),
            ("UTC", []) => time.filter("zone(\"UTC\")", Type::Time),
            ("Local", []) => {
                let what = "the local zone is that of the machine which renders";
                self.approximate(at, what, "name the zone: `tz \"Europe/Berlin\"`");
                time.filter("zone(\"Local\")", Type::Time)
            }
            ("String", []) => time.filter(TIME_FORMAT, Type::Text),
            ("IsZero", []) => Code::operator(format!("not {}", time.tight()), Type::Bool),
            ("Unix", []) => time.filter("unix", Type::Integer),
            ("Year", []) => number("%Y"),
            ("Day", []) => number("%-d"),
            ("Hour", []) => number("%-H"),
            ("Minute", []) => number("%-M"),
            ("Second", []) => number("%-S"),
            ("Month", []) => time.filter("date(\"%B\")", Type::Text),
            ("Weekday", []) => time.filter("date(\"%A\")", Type::Text),
            ("Add", [duration]) => time.filter(&format!("plus({})", seconds(duration)), Type::Time),
            // The distance of two times is what has passed since the second.
            ("Sub", [other]) => other.filter(&format!("since({})", time.text), Type::Duration),
            ("Before", [other]) => compare(time, other, ">"),
            ("After", [other]) => compare(time, other, "<"),
            ("Equal", [other]) => compare(time, other, "=="),
            _ => return None,
        };
        Some(code)
    }

    /// What Go's `print` is given: times, durations and labels as text, everything else as it is.
    pub(super) fn as_printed(&mut self, at: usize, code: &Code) -> Code {
        match &code.kind {
            Type::Time => code.filter(TIME_FORMAT, Type::Text),
            Type::Duration => code.filter("show_duration", Type::Text),
            Type::Labels => code.filter("show_pairs", Type::Text),
            Type::List(element) if **element == Type::Pair => code.filter("show_pairs", Type::Text),
            kind if is_struct(kind) => {
                let what =
                    format!("Go prints {} with all that is in it, in a form of its own", code.kind.shown());
                self.approximate(at, &what, "print the fields that are meant, or use `toJson`");
                code.clone()
            }
            _ => code.clone(),
        }
    }

    /// Puts the value where it stands.
    pub(super) fn print(&mut self, at: usize, code: Code) {
        if self.in_comment {
            return;
        }
        self.check_attribute(at);
        if let (Some(Literal::Text(text)), false) = (&code.literal, self.escapes()) {
            return self.writer.text(text);
        }
        let code = self.as_printed(at, &code.solid());
        match &code.kind {
            Type::Text | Type::Integer => self.writer.print(&code.text),
            // So does Go.
            Type::Nil => self.writer.text(if self.escapes() { "" } else { "<no value>" }),
            _ => {
                let shown = code.filter("show", Type::Text);
                self.writer.print(&shown.text);
            }
        }
    }
}

/// Whether Go prints it in braces.
fn is_struct(kind: &Type) -> bool {
    match kind {
        Type::List(element) => is_struct(element),
        kind => matches!(kind, Type::Root | Type::Alert | Type::Pair),
    }
}

fn compare(time: &Code, other: &Code, operator: &str) -> Code {
    Code::comparison(format!("{} | since({}) {operator} 0", time.tight(), other.text))
}

/// A number of nanoseconds, or a duration, in seconds.
fn seconds(duration: &Code) -> String {
    match (&duration.literal, &duration.kind) {
        (Some(Literal::Integer(value)), _) if value % NANOSECONDS == 0 => (value / NANOSECONDS).to_string(),
        #[expect(clippy::cast_precision_loss, reason = "durations need no more")]
        (Some(Literal::Float(value)), _) => format!("{:?}", value / NANOSECONDS as f64),
        (_, Type::Duration) => duration.text.clone(),
        _ => format!("{} / {NANOSECONDS}", duration.tight()),
    }
}

fn duration_method(duration: &Code, name: &str, arguments: &[Code]) -> Option<Code> {
    let divided = |by: u32| Code::operator(format!("{} / {by}", duration.tight()), Type::Float);
    let code = match (name, arguments) {
        ("Seconds", []) => Code { kind: Type::Float, ..duration.clone() },
        ("Minutes", []) => divided(60),
        ("Hours", []) => divided(3600),
        ("Milliseconds", []) => {
            let text = format!("({} * 1000) | int", duration.tight());
            Code::operator(text, Type::Integer)
        }
        ("String", []) => duration.filter("show_duration", Type::Text),
        ("Round", [step]) => duration.filter(&format!("round_duration({})", seconds(step)), Type::Duration),
        ("Truncate", [step]) => {
            duration.filter(&format!("truncate_duration({})", seconds(step)), Type::Duration)
        }
        _ => return None,
    };
    Some(code)
}
