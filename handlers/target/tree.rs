//! A body as a tree of YAML or JSON: its texts are templates, and what they give is put in as a text. No value can break out
//! of its place, whatever quotes, braces or line feeds it has.
//!
//! A text that gives nothing is left out, as is a map or list that everything was left out of. Maps with one of these keys
//! are more than maps:
//!
//! | | gives |
//! |---|---|
//! | `$if: TEMPLATE, $then: A, $else: B` | `A` if the template gives anything but nothing, false, none or 0, else `B` |
//! | `$each: alerts, $max: 10, $do: A` | in a list: `A` for each alert, as `alert` |
//! | `$each: settings.x, $do: A` | in a list: `A` for each text of a setting, as `item` |
//! | `$number: TEMPLATE` | the number that the template gives, or nothing |
//! | `$flag: TEMPLATE` | `true` if the template gives `true`, else `false` |
//! | `$fixed: A` | `A` as it stands, empty or not |
//! | `$json: TEMPLATE, $else: B` | the JSON that the template gives, else `B` |
//! | `$also: settings.x, name: A` | a map: the entries of a setting, and the others |
//! | `$pairs: common_labels, $max: 20, $chars: 500` | names and values, cut to so many characters |

use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use crate::render::{Scope, Shared, Template};

/// A compiled tree.
#[derive(Debug)]
pub(crate) enum Tree {
    Fixed(Json),
    Text(Template),
    Number(Template),
    Flag(Template),
    Json { text: Template, otherwise: Option<Box<Tree>> },
    Map { also: Option<String>, entries: Vec<(String, Tree)> },
    List(Vec<Tree>),
    If { test: Template, then: Box<Tree>, otherwise: Option<Box<Tree>> },
    Each { over: String, max: usize, item: Box<Tree> },
    Pairs { of: String, max: usize, chars: usize },
}

/// Deepest tree.
const DEPTH_MAX: usize = 32;
/// Entries and characters unless a tree says otherwise.
const PAIRS_MAX: usize = 32;
const CHARS_MAX: usize = 500;

impl Tree {
    /// Compiles a tree; the error says which key is wrong and why.
    pub(crate) fn compile(tree: &Json, scope: Scope, shared: &Shared) -> Result<Tree, String> {
        compile(tree, scope, shared, DEPTH_MAX)
    }

    /// The tree with its templates rendered.
    pub(crate) fn render(&self, context: &Value) -> Result<Json, String> {
        Ok(self.give(context, None)?.unwrap_or(Json::Null))
    }

    /// The same. Where a template fails stands what `failed` makes of the reason.
    pub(super) fn render_or(&self, context: &Value, failed: &dyn Fn(&str) -> String) -> Json {
        self.give(context, Some(failed)).ok().flatten().unwrap_or(Json::Null)
    }

    /// `None`: nothing, to be left out.
    fn give(&self, context: &Value, failed: Option<&dyn Fn(&str) -> String>) -> Result<Option<Json>, String> {
        let text = |template: &Template| {
            let text = template.render_value(context.clone()).map_err(|error| error.to_string());
            text.or_else(|why| failed.map(|failed| failed(&why)).ok_or(why))
        };
        let give = |tree: &Tree| tree.give(context, failed);
        Ok(match self {
            Tree::Fixed(value) => Some(value.clone()),
            Tree::Text(template) => Some(text(template)?).filter(|text| !text.is_empty()).map(Json::String),
            Tree::Number(template) => {
                serde_json::from_str::<serde_json::Number>(text(template)?.trim()).ok().map(Json::Number)
            }
            Tree::Flag(template) => Some(Json::Bool(text(template)?.trim().eq_ignore_ascii_case("true"))),
            Tree::Json { text: template, otherwise } => match serde_json::from_str(&text(template)?) {
                Ok(value) => Some(value),
                Err(_) => otherwise.as_deref().map(give).transpose()?.flatten(),
            },
            Tree::Map { also, entries } => {
                let more = also.as_ref().and_then(|path| serde_json::to_value(at(context, path)).ok());
                let mut map = match more {
                    Some(Json::Object(map)) => map,
                    _ => Map::new(),
                };
                for (key, tree) in entries {
                    if let Some(value) = give(tree)? {
                        map.insert(key.clone(), value);
                    }
                }
                (!map.is_empty()).then_some(Json::Object(map))
            }
            Tree::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    match item {
                        Tree::Each { over, max, item } => {
                            item.give_each(over, *max, context, failed, &mut list)?;
                        }
                        item => list.extend(give(item)?),
                    }
                }
                (!list.is_empty()).then_some(Json::Array(list))
            }
            Tree::If { test, then, otherwise } => {
                if is_yes(&text(test)?) {
                    give(then)?
                } else {
                    otherwise.as_deref().map(give).transpose()?.flatten()
                }
            }
            Tree::Each { over, max, item } => {
                let mut list = Vec::new();
                item.give_each(over, *max, context, failed, &mut list)?;
                (!list.is_empty()).then_some(Json::Array(list))
            }
            Tree::Pairs { of, max, chars } => {
                let pairs = at(context, of);
                let mut map = Map::new();
                for name in pairs.try_iter().into_iter().flatten().take(*max) {
                    let value = pairs.get_item(&name).map_err(|error| error.to_string())?;
                    map.insert(
                        shortened(&name.to_string(), *chars),
                        shortened(&value.to_string(), *chars).into(),
                    );
                }
                (!map.is_empty()).then_some(Json::Object(map))
            }
        })
    }

    fn give_each(
        &self,
        over: &str,
        max: usize,
        context: &Value,
        failed: Option<&dyn Fn(&str) -> String>,
        list: &mut Vec<Json>,
    ) -> Result<(), String> {
        for one in at(context, over).try_iter().into_iter().flatten().take(max) {
            let own = match over {
                "alerts" => minijinja::context! { alert => one, ..context.clone() },
                _ => minijinja::context! { item => one, ..context.clone() },
            };
            list.extend(self.give(&own, failed)?);
        }
        Ok(())
    }
}

fn compile(tree: &Json, scope: Scope, shared: &Shared, depth: usize) -> Result<Tree, String> {
    let deeper = depth.checked_sub(1).ok_or("it is nested too deep")?;
    let template = |value: &Json| match value {
        Json::String(source) => {
            Template::compile_with(source, scope, shared).map_err(|error| error.to_string())
        }
        _ => Err("expected a template".to_owned()),
    };
    Ok(match tree {
        Json::String(source) if Template::is_template(source) => Tree::Text(template(tree)?),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Tree::Fixed(tree.clone()),
        Json::Array(items) => {
            let items = items.iter().enumerate().map(|(position, item)| {
                compile(item, scope, shared, deeper).map_err(|error| format!("[{position}]: {error}"))
            });
            Tree::List(items.collect::<Result<_, _>>()?)
        }
        Json::Object(map) => {
            let number = |key: &str, default: usize| {
                map.get(key).and_then(Json::as_u64).map_or(default, |n| n as usize)
            };
            let child = |key: &str| match map.get(key) {
                Some(tree) => compile(tree, scope, shared, deeper)
                    .map(Box::new)
                    .map_err(|error| format!("{key}: {error}")),
                None => Err(format!("`{key}` is missing")),
            };
            let name = |key: &str| {
                map[key].as_str().map(str::to_owned).ok_or_else(|| format!("{key}: expected a name"))
            };
            if let Some(test) = map.get("$if") {
                let otherwise = map.get("$else").map(|_| child("$else")).transpose()?;
                Tree::If { test: template(test)?, then: child("$then")?, otherwise }
            } else if map.contains_key("$each") {
                let scope = match scope {
                    Scope::Message(escape) => Scope::Each(escape),
                    other => other,
                };
                let item = map.get("$do").ok_or("`$do` is missing")?;
                let item = compile(item, scope, shared, deeper).map_err(|error| format!("$do: {error}"))?;
                Tree::Each { over: name("$each")?, max: number("$max", usize::MAX), item: Box::new(item) }
            } else if map.contains_key("$pairs") {
                let (max, chars) = (number("$max", PAIRS_MAX), number("$chars", CHARS_MAX));
                Tree::Pairs { of: name("$pairs")?, max, chars }
            } else if let Some(value) = map.get("$fixed") {
                Tree::Fixed(value.clone())
            } else if let Some(value) = map.get("$number") {
                Tree::Number(template(value)?)
            } else if let Some(value) = map.get("$flag") {
                Tree::Flag(template(value)?)
            } else if let Some(value) = map.get("$json") {
                let otherwise = map.get("$else").map(|_| child("$else")).transpose()?;
                Tree::Json { text: template(value)?, otherwise }
            } else if map.is_empty() {
                Tree::Fixed(tree.clone())
            } else {
                let also = map.get("$also").map(|_| name("$also")).transpose()?;
                let entries = map.iter().filter(|(key, _)| *key != "$also").map(|(key, tree)| {
                    let compiled =
                        compile(tree, scope, shared, deeper).map_err(|error| format!("{key}: {error}"))?;
                    Ok((key.clone(), compiled))
                });
                Tree::Map { also, entries: entries.collect::<Result<_, String>>()? }
            }
        }
    })
}

/// The value at a path of names, as deep as it goes.
fn at(context: &Value, path: &str) -> Value {
    path.split('.').fold(context.clone(), |value, name| value.get_attr(name).unwrap_or_default())
}

/// Whether a template's text counts as yes.
pub(super) fn is_yes(text: &str) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "false" | "0" | "none")
}

/// At most so many characters, with `…` in place of what is cut.
pub(crate) fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some(_) if chars == 0 => String::new(),
        Some(_) => text.chars().take(chars - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{sample, target::escape::Escape};

    fn render(tree: Json) -> Result<Json, String> {
        let mut delivery = sample::delivery();
        let labels = &mut delivery.groups[0].alerts[0].labels;
        labels[0].1 = "\"}],{\n\\u0022\u{202e}{{ event }}".into();
        let mut other = sample::alert();
        other.firing = false;
        delivery.groups[0].alerts.push(other);
        let tree = Tree::compile(&tree, Scope::Target(Escape::None), &Shared::default())?;
        tree.render(&crate::target::context(&delivery))
    }

    #[test]
    fn no_value_breaks_out_of_its_text() {
        let rendered =
            render(json!([{ "$each": "alerts", "$do": { "c": "x{{ alert.labels.computer }}y" } }]));
        let expected = json!([{ "c": "x\"}],{\n\\u0022\u{202e}{{ event }}y" }, { "c": "xws-042y" }]);
        assert_eq!(rendered, Ok(expected));
    }

    #[test]
    fn trees_give_what_their_table_says() {
        let rows = [
            (
                json!({ "a": "{{ event }}", "b": 1, "c": null, "d": true, "e": "plain" }),
                json!({ "a": "Virus Found", "b": 1, "c": null, "d": true, "e": "plain" }),
            ),
            (
                json!({ "a": "{{ common_labels.nosuch | default('') }}", "b": { "c": "{% if false %}x{% endif %}" } , "d": 1 }),
                json!({ "d": 1 }),
            ),
            (json!({ "$if": "{{ firing > 0 }}", "$then": "yes", "$else": "no" }), json!("yes")),
            (json!({ "a": { "$if": "{{ firing > 9 }}", "$then": "yes" }, "b": 1 }), json!({ "b": 1 })),
            (
                json!({ "a": { "$number": "{{ firing }}" }, "b": { "$number": "{{ event }}" }, "c": { "$flag": "{{ firing == 1 }}" } }),
                json!({ "a": 1, "c": true }),
            ),
            (
                json!([1, { "$each": "alerts", "$max": 1, "$do": "{{ alert.event }}" }, 2]),
                json!([1, "Virus Found", 2]),
            ),
            (json!({ "$pairs": "group_labels", "$chars": 4 }), json!({ "site": "bos…" })),
            (json!({ "$json": "[1, {{ firing }}]" }), json!([1, 1])),
            (json!({ "$json": "[1, {{ event }}]", "$else": "{{ event }}" }), json!("Virus Found")),
            (
                json!({ "$also": "group_labels", "site": "x{{ firing }}", "b": 1 }),
                json!({ "site": "x1", "b": 1 }),
            ),
            (json!({ "$also": "group_labels", "b": "" }), json!({ "site": "boston", "b": "" })),
            (json!({ "$also": "event", "b": 1 }), json!({ "b": 1 })),
            (json!({}), json!({})),
        ];
        for (tree, expected) in rows {
            assert_eq!(render(tree.clone()), Ok(expected), "{tree}");
        }
    }

    #[test]
    fn a_template_that_fails_costs_no_other() {
        let tree = json!({ "a": "{{ common_labels.nosuch }}", "b": { "$number": "{{ firing }}" } });
        let tree = Tree::compile(&tree, Scope::Message(Escape::None), &Shared::default()).expect("a tree");
        let context = crate::target::context(&sample::delivery());
        assert!(tree.render(&context).is_err());
        assert_eq!(tree.render_or(&context, &|_| "failed".into()), json!({ "a": "failed", "b": 1 }));
    }

    #[test]
    fn an_alert_is_known_where_there_is_one() {
        let each = json!([{ "$each": "alerts", "$do": "{{ alert.event }}" }]);
        assert!(Tree::compile(&each, Scope::Message(Escape::None), &Shared::default()).is_ok());
        assert!(
            Tree::compile(&json!(["{{ alert.event }}"]), Scope::Message(Escape::None), &Shared::default())
                .is_err()
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let rows = [
            (json!({ "a": ["{{ nosuch }}"] }), "a: [0]: no variable is called `nosuch`"),
            (json!({ "$each": "alerts" }), "`$do` is missing"),
            (json!({ "$if": 1, "$then": 2 }), "expected a template"),
            (json!({ "$each": 1, "$do": 2 }), "expected a name"),
        ];
        for (tree, words) in rows {
            let error =
                Tree::compile(&tree, Scope::Message(Escape::None), &Shared::default()).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
        let deep = (0..40).fold(json!("{{ event }}"), |tree, _| json!([tree]));
        assert!(Tree::compile(&deep, Scope::Message(Escape::None), &Shared::default()).is_err());
    }
}
