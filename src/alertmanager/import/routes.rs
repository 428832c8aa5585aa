//! Routes, inhibition rules and time intervals: ours have the same words, and older ones are brought up to them.

use ams2_core::matcher::{Matcher, Op};

use super::{
    walk::{Fields, Import},
    yaml::Yaml,
};
use crate::{
    alertmanager::matchers::{MatcherSyntaxError, parse_both},
    config::{
        Diagnostic,
        tree::{Node, Value},
    },
};

type Entries = Vec<(String, Yaml)>;

/// One route with its children.
pub(super) fn route(import: &mut Import, node: &Node) -> Yaml {
    let mut fields = import.fields(node);
    let mut out: Entries = Vec::new();
    same_text(import, &mut fields, &mut out, "receiver", "receiver");
    let matchers = matchers(import, &mut fields, ["match", "match_re", "matchers"]);
    if !matchers.is_empty() {
        out.push(("matchers".into(), Yaml::texts(matchers)));
    }
    if let Some(node) = fields.take("group_by") {
        let names: Vec<String> = import.list(node).iter().map(|item| import.text(item)).collect();
        import.below("group_by", |import| import.translated(node.place));
        out.push(("group_by".into(), Yaml::texts(names)));
    }
    for key in ["group_wait", "group_interval", "repeat_interval"] {
        if let Some(node) = fields.take(key) {
            let duration = import.text(node);
            import.below(key, |import| import.translated(node.place));
            out.push((key.into(), Yaml::Plain(duration)));
        }
    }
    if let Some(node) = fields.take("continue") {
        let value = import.flag(node);
        import.below("continue", |import| import.translated(node.place));
        if value {
            out.push(("continue".into(), Yaml::Plain("true".into())));
        }
    }
    for key in ["mute_time_intervals", "active_time_intervals"] {
        if let Some(node) = fields.take(key) {
            let names: Vec<String> = import.list(node).iter().map(|item| import.text(item)).collect();
            import.below(key, |import| import.translated(node.place));
            out.push((key.into(), Yaml::texts(names)));
        }
    }
    if let Some(node) = fields.take("labels") {
        let words = "route labels are not known here: put what they say into the receiver's texts";
        import.below("labels", |import| import.impossible(node.place, words));
    }
    if let Some(node) = fields.take("routes") {
        let children = import.list(node);
        let children: Vec<Yaml> = children
            .iter()
            .enumerate()
            .map(|(number, child)| import.below(format!("routes[{number}]"), |import| route(import, child)))
            .collect();
        if !children.is_empty() {
            out.push(("routes".into(), Yaml::List(children)));
        }
    }
    import.end(fields);
    Yaml::Map(out)
}

fn same_text(import: &mut Import, fields: &mut Fields<'_>, out: &mut Entries, key: &'static str, ours: &str) {
    if let Some(node) = fields.take(key) {
        let text = import.text(node);
        import.below(key, |import| import.translated(node.place));
        out.push((ours.into(), Yaml::text(text)));
    }
}

/// Matchers of three kinds in ours: equal values, regexes, and lists.
fn matchers(import: &mut Import, fields: &mut Fields<'_>, keys: [&'static str; 3]) -> Vec<String> {
    let mut found: Vec<Matcher> = Vec::new();
    for (key, op) in [(keys[0], Op::Equal), (keys[1], Op::Regex)] {
        let Some(node) = fields.take(key) else { continue };
        let Value::Map(entries) = &node.value else {
            import.fields(node);
            continue;
        };
        for (name, value) in entries {
            let value = import.text(value);
            // It is anchored when it is read, and once more as a matcher: the key of a group shows it.
            let value = if op == Op::Regex { format!("^(?:{value})$") } else { value };
            found.push(Matcher { name: name.text.as_str().into(), value: value.into(), op });
        }
        import.below(key, |import| import.translated(node.place));
    }
    if let Some(node) = fields.take(keys[2]) {
        for item in import.list(node) {
            let text = import.text(item);
            match parse_both(&text) {
                Ok(read) => {
                    if let Some(otherwise) = read.otherwise {
                        let list = |matchers: &[Matcher]| {
                            matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
                        };
                        let words = format!(
                            "Alertmanager's two grammars differ on it: {} counts, as in its default mode, not {}: write the \
                             value in double quotes so that both read the same",
                            list(&read.matchers),
                            list(&otherwise)
                        );
                        import.below(keys[2], |import| import.approximated(item.place, words));
                    }
                    found.extend(read.matchers);
                }
                Err(MatcherSyntaxError(why)) => {
                    let message = format!("the matcher `{text}` is wrong: {why}");
                    import.mistakes.push(Diagnostic::error(item.place, message, ""));
                }
            }
        }
        import.below(keys[2], |import| import.translated(node.place));
    }
    found.iter().map(ToString::to_string).collect()
}

/// Inhibition rules.
pub(super) fn inhibit_rules(import: &mut Import, node: &Node) -> Vec<Yaml> {
    let items = import.list(node).iter().enumerate();
    let rule = |(number, item): (usize, &Node)| {
        import.below(format!("inhibit_rules[{number}]"), |import| {
            let mut fields = import.fields(item);
            let mut out: Entries = Vec::new();
            same_text(import, &mut fields, &mut out, "name", "name");
            for (ours, keys) in [
                ("source_matchers", ["source_match", "source_match_re", "source_matchers"]),
                ("target_matchers", ["target_match", "target_match_re", "target_matchers"]),
            ] {
                let matchers = matchers(import, &mut fields, keys);
                if !matchers.is_empty() {
                    out.push((ours.into(), Yaml::texts(matchers)));
                }
            }
            if let Some(node) = fields.take("equal") {
                let names: Vec<String> = import.list(node).iter().map(|item| import.text(item)).collect();
                import.below("equal", |import| import.translated(node.place));
                out.push(("equal".into(), Yaml::texts(names)));
            }
            import.end(fields);
            Yaml::Map(out)
        })
    };
    items.map(rule).collect()
}

/// Time intervals: the same words.
pub(super) fn time_intervals(import: &mut Import, node: &Node) -> Vec<Yaml> {
    let items = import.list(node).iter().enumerate();
    let interval = |(number, item): (usize, &Node)| {
        import.below(format!("time_intervals[{number}]"), |import| {
            let mut fields = import.fields(item);
            let mut out: Entries = Vec::new();
            same_text(import, &mut fields, &mut out, "name", "name");
            if let Some(node) = fields.take("time_intervals") {
                let spans: Vec<Yaml> = import.list(node).iter().map(|item| same(import, item)).collect();
                import.below("time_intervals", |import| import.translated(node.place));
                out.push(("time_intervals".into(), Yaml::List(spans)));
            }
            import.end(fields);
            Yaml::Map(out)
        })
    };
    items.map(interval).collect()
}

/// A value as it stands; its reader says what is wrong with it.
#[allow(clippy::only_used_in_recursion)]
fn same(import: &mut Import, node: &Node) -> Yaml {
    match &node.value {
        Value::Null => Yaml::Null,
        Value::Bool(value) => Yaml::Plain(value.to_string()),
        Value::Number(text) => Yaml::Plain(text.clone()),
        Value::Text(text) => Yaml::text(text.clone()),
        Value::List(items) => Yaml::List(items.iter().map(|item| same(import, item)).collect()),
        Value::Map(entries) => {
            Yaml::Map(entries.iter().map(|(key, value)| (key.text.clone(), same(import, value))).collect())
        }
    }
}
