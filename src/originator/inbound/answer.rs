//! What a hook answers: a status, and JSON whose texts may hold fields of the request.

use axum::body::Body;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value as Node};
use smol_str::SmolStr;

use crate::originator::{
    mapping::{Fields, Json, Text},
    problem::Problem,
};

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; none when absent.
    pub body: Option<Tree>,
}

/// The answers when something is wrong: what is not given is answered as our own API does.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The request is wrong.
    pub invalid: Option<Answer>,
    /// Its sender is not known, or may not send this.
    pub denied: Option<Answer>,
    /// It could not be kept now: to be sent again.
    pub busy: Option<Answer>,
}

/// A body: JSON whose texts may hold fields.
#[derive(Clone, Debug)]
pub enum Tree {
    /// As it is.
    Leaf(Node),
    /// A text.
    Text(Text),
    /// A list.
    List(Vec<Tree>),
    /// An object.
    Map(Vec<(SmolStr, Tree)>),
}

impl Tree {
    pub(super) fn filled(&self, fields: &dyn Fields) -> Node {
        match self {
            Tree::Leaf(node) => node.clone(),
            Tree::Text(text) => Node::String(text.of(fields)),
            Tree::List(items) => items.iter().map(|item| item.filled(fields)).collect(),
            Tree::Map(entries) => Node::Object(
                entries
                    .iter()
                    .map(|(name, tree)| (name.to_string(), tree.filled(fields)))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

impl Answer {
    /// The answer to a request.
    pub(super) fn to(&self, fields: &dyn Fields) -> Response<Body> {
        let body = self.body.as_ref().map(|tree| tree.filled(fields).to_string());
        let mut response = match body {
            Some(body) => crate::console::json(body),
            None => Response::new(Body::empty()),
        };
        *response.status_mut() = self.status;
        response
    }
}

impl Answers {
    /// What is answered where there is a problem, if not what our own API answers. Its words are the field `problem`.
    pub(super) fn to(&self, problem: &Problem, fields: &dyn Fn(Node) -> Node) -> Option<Box<Response<Body>>> {
        let answer = match problem.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => &self.denied,
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => &self.busy,
            _ => &self.invalid,
        };
        let node = fields(Node::String(problem.detail.clone()));
        let mut answer = answer.as_ref()?.to(&Json(&node));
        if problem.status == StatusCode::PAYLOAD_TOO_LARGE {
            // Every sender knows that word.
            *answer.status_mut() = problem.status;
        }
        Some(Box::new(answer))
    }
}
