//! Fields of a JSON value.

use std::{borrow::Cow, io};

use minijinja::value::{Serde, Value};
use serde_json::Value as Node;
use smol_str::SmolStr;

use super::Fields;

/// Most bytes of a list or an object that stand for its text: more than an alert holds, and little enough to be written for each of
/// many items.
const WRITTEN_BYTES_MAX: usize = 256 << 10;

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
        other => Some(Cow::Owned(written(other))),
    }
}

/// A value as it is written, as far as there is room.
fn written(node: &Node) -> String {
    /// Takes so much and no more.
    struct Bounded(Vec<u8>);
    impl io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = WRITTEN_BYTES_MAX - self.0.len();
            self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if bytes.len() > room { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut bounded = Bounded(Vec::new());
    match serde_json::to_writer(&mut bounded, node) {
        Ok(()) => String::from_utf8_lossy(&bounded.0).into_owned(),
        Err(_) => {
            format!("{}…", String::from_utf8_lossy(&bounded.0).trim_end_matches(char::REPLACEMENT_CHARACTER))
        }
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

    /// At most so many of them, and how many more there are.
    pub fn into_some_below(self, path: &[SmolStr], most: usize) -> (Vec<(SmolStr, Cow<'a, str>)>, usize) {
        let Some(Node::Object(entries)) = self.find(path) else { return Default::default() };
        let some = entries.iter().take(most).filter_map(|(name, node)| Some((name.into(), text(node)?)));
        (some.collect(), entries.len().saturating_sub(most))
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

    fn some_below(&self, path: &[SmolStr], most: usize) -> (Vec<(SmolStr, Cow<'_, str>)>, usize) {
        self.into_some_below(path, most)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_list_is_written_as_far_as_there_is_room() {
        let rows =
            [(serde_json::json!([1, "a"]), 7), (vec!["é"; 200_000].into(), WRITTEN_BYTES_MAX + "…".len())];
        for (node, bytes) in rows {
            let found = text(&node).expect("there is one").len();
            assert!((bytes - 1..=bytes).contains(&found), "{found}");
        }
        let many = (0..1000).map(|n| (format!("{n:04}"), n.into())).collect::<serde_json::Map<_, _>>().into();
        let (some, more) = Json(&many).into_some_below(&[], 3);
        assert_eq!((some.len(), more, &*some[2].0), (3, 997, "0002"));
    }
}
