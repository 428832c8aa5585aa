//! Maps whose names the admin chose: a template for each name, or YAML whose texts are templates.

use super::{templates::Templates, walk::Import, yaml::Yaml};
use crate::{
    alertmanager::go_template::{Target, is_template},
    config::{
        Place,
        tree::{self, Key, Node, Value},
    },
};

/// The map at `key`: names, and a template for each. `None` where nothing of it is left.
pub(super) fn template_map(
    import: &mut Import,
    node: &Node,
    key: &str,
    templates: &mut Templates,
) -> Option<Yaml> {
    entries(import, node, key, |import, _, value| {
        let text = import.text(value);
        templates.translate(import, &text, value.place, Target::Text).map(Yaml::text)
    })
}

/// The map at `key`: names, and YAML whose texts are templates for each. `own`: names that have settings of their own. `None`
/// where nothing of it is left.
pub(super) fn template_tree(
    import: &mut Import,
    node: &Node,
    key: &str,
    own: &[&str],
    templates: &mut Templates,
) -> Option<Yaml> {
    entries(import, node, key, |import, name, value| {
        if own.contains(&name.text.as_str()) {
            import.impossible(name.place, "it has a setting of its own: use that");
            return None;
        }
        if is_ours(&name.text) {
            import.impossible(name.place, OURS);
            return None;
        }
        Some(tree_field(import, value, templates)).filter(|value| *value != Yaml::Null)
    })
}

/// What `each` makes of the entries whose names are fixed.
fn entries(
    import: &mut Import,
    node: &Node,
    key: &str,
    mut each: impl FnMut(&mut Import, &Key, &Node) -> Option<Yaml>,
) -> Option<Yaml> {
    let Value::Map(entries) = &node.value else {
        // Says that it is none.
        import.fields(node);
        return None;
    };
    let mut out = Vec::new();
    import.below(key, |import| {
        for (name, value) in entries {
            import.below(name.text.clone(), |import| {
                if is_template(&name.text) {
                    return import.impossible(name.place, MADE);
                }
                out.extend(each(import, name, value).map(|value| (name.text.clone(), value)));
            });
        }
    });
    (!out.is_empty()).then_some(Yaml::Map(out))
}

/// Why a name is left out.
const MADE: &str = "names are not made from alerts";
const OURS: &str = "names that begin with `$` mean something of their own here";

/// Whether a tree of ours takes the name of an entry for more than one.
fn is_ours(name: &str) -> bool {
    name.starts_with('$')
}

/// A value of a tree. A text that is YAML of another kind is taken for that there, after its templates have run. Here the text is
/// read before, so that no alert breaks out of its place.
pub(super) fn tree_field(import: &mut Import, node: &Node, templates: &mut Templates) -> Yaml {
    let Value::Text(text) = &node.value else { return tree_value(import, node, node.place, templates) };
    let inner = match is_template(text) {
        // In JSON templates stand in texts; anywhere else YAML takes their braces for its own.
        true => serde_json::from_str::<serde_json::Value>(text).ok().and_then(|_| tree::parse(text, 0).ok()),
        false => tree::parse(text, 0).ok(),
    };
    match inner {
        Some(inner) if !matches!(inner.value, Value::Text(_) | Value::Null) => {
            tree_value(import, &inner, node.place, templates)
        }
        _ => tree_value(import, node, node.place, templates),
    }
}

/// A value as it stands, its texts translated. `place`: where it is in the file.
fn tree_value(import: &mut Import, node: &Node, place: Place, templates: &mut Templates) -> Yaml {
    let plain = match &node.value {
        Value::Null => return Yaml::Null,
        Value::Text(text) => {
            let text = templates.translate(import, text, place, Target::Text);
            return text.map_or(Yaml::Null, Yaml::text);
        }
        Value::List(items) => {
            return Yaml::List(items.iter().map(|item| tree_value(import, item, place, templates)).collect());
        }
        Value::Map(entries) => {
            let mut out = Vec::new();
            for (name, value) in entries {
                let why = if is_template(&name.text) { Some(MADE) } else { None };
                match why.or_else(|| is_ours(&name.text).then_some(OURS)) {
                    Some(why) => import.below(name.text.clone(), |import| import.impossible(place, why)),
                    None => out.push((name.text.clone(), tree_value(import, value, place, templates))),
                }
            }
            return Yaml::Map(out);
        }
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => text.clone(),
    };
    import.translated(place);
    Yaml::Plain(plain)
}
