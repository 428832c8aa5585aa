//! What the rules of a hook see of a request: its body's fields, and the rest below `request`.

use std::borrow::Cow;

use minijinja::{
    context,
    value::{Value, merge_maps},
};
use serde_json::Value as Node;
use smol_str::SmolStr;

use crate::originator::mapping::{Fields, Json};

/// The name below which stands what is not in the body.
pub const REQUEST: &str = "request";

/// A request.
pub(super) struct RequestFields<'r> {
    /// The body; `null` where there is none.
    pub body: &'r Node,
    /// `path`, `query`, `generated`, `client`.
    pub request: &'r Node,
}

/// What stands in the request beside its body: `path` and `query` by their names, and a random id for what has none.
pub(super) fn beside(path: &[(SmolStr, String)], query: &str, generated: &str, client: &str) -> Node {
    let pairs = |pairs: Vec<(String, String)>| {
        // The first of a name counts.
        Node::Object(pairs.into_iter().rev().map(|(name, text)| (name, Node::String(text))).collect())
    };
    let path = path.iter().map(|(name, text)| (name.to_string(), text.clone())).collect();
    // What is no pair is passed over.
    let query = serde_urlencoded::from_str(query).unwrap_or_default();
    serde_json::json!({
        "path": pairs(path), "query": pairs(query), "generated": generated, "client": client,
    })
}

/// A part of a path as it was meant: percent-decoded (RFC 3986 section 2.1), wrong UTF-8 replaced.
pub(super) fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl RequestFields<'_> {
    fn place<'p>(&self, path: &'p [SmolStr]) -> (Json<'_>, &'p [SmolStr]) {
        match path.split_first() {
            Some((first, rest)) if first == REQUEST => (Json(self.request), rest),
            _ => (Json(self.body), path),
        }
    }
}

impl Fields for RequestFields<'_> {
    fn text(&self, path: &[SmolStr]) -> Option<Cow<'_, str>> {
        let (json, path) = self.place(path);
        json.into_text(path)
    }

    fn below(&self, path: &[SmolStr]) -> Vec<(SmolStr, Cow<'_, str>)> {
        let (json, path) = self.place(path);
        json.into_below(path)
    }

    fn some_below(&self, path: &[SmolStr], most: usize) -> (Vec<(SmolStr, Cow<'_, str>)>, usize) {
        let (json, path) = self.place(path);
        json.into_some_below(path, most)
    }

    fn items(&self, path: &[SmolStr]) -> Option<usize> {
        Json(self.body).items(path)
    }

    fn item(&self, path: &[SmolStr], index: usize) -> Option<Box<dyn Fields + '_>> {
        Json(self.body).into_item(path, index).map(|item| Box::new(item) as Box<dyn Fields>)
    }

    fn whole(&self) -> Value {
        // Whoever stands last counts.
        merge_maps([Json(self.body).whole(), context! { request => Json(self.request).whole() }])
    }
}
