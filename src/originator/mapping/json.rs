//! Fields of a JSON value.

use std::borrow::Cow;

use minijinja::value::{Serde, Value};
use serde_json::Value as Node;
use smol_str::SmolStr;

use super::Fields;

/// A JSON value whose objects are fields.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a>(pub &'a Node);

impl<'a> Json<'a> {
    fn find(self, path: &[SmolStr]) -> Option<&'a Node> {
        path.iter().try_fold(self.0, |node, step| match node {
            Node::Object(entries) => entries.get(step.as_str()),
            Node::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

/// A text as it is, `null` as nothing, anything else as it is written.
fn text(node: &Node) -> Option<Cow<'_, str>> {
    match node {
        Node::Null => None,
        Node::String(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

impl<'a> Json<'a> {
    /// The text of one field, which lives as long as the value.
    pub fn into_text(self, path: &[SmolStr]) -> Option<Cow<'a, str>> {
        self.find(path).and_then(text)
    }

    /// The fields below a path, likewise.
    pub fn into_below(self, path: &[SmolStr]) -> Vec<(SmolStr, Cow<'a, str>)> {
        let Some(Node::Object(entries)) = self.find(path) else { return Vec::new() };
        entries.iter().filter_map(|(name, node)| Some((name.into(), text(node)?))).collect()
    }

    /// Item `index` of the list at a path, likewise.
    pub fn into_item(self, path: &[SmolStr], index: usize) -> Option<Json<'a>> {
        self.find(path)?.as_array()?.get(index).map(Json)
    }
}

impl Fields for Json<'_> {
    fn text(&self, path: &[SmolStr]) -> Option<Cow<'_, str>> {
        self.into_text(path)
    }

    fn below(&self, path: &[SmolStr]) -> Vec<(SmolStr, Cow<'_, str>)> {
        self.into_below(path)
    }

    fn items(&self, path: &[SmolStr]) -> Option<usize> {
        self.find(path).and_then(Node::as_array).map(Vec::len)
    }

    fn item(&self, path: &[SmolStr], index: usize) -> Option<Box<dyn Fields + '_>> {
        self.into_item(path, index).map(|item| Box::new(item) as Box<dyn Fields>)
    }

    fn whole(&self) -> Value {
        Value::from(Serde(self.0))
    }
}
