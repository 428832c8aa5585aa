//! Web hooks of other tools: `originator.inbound`, and the files of `config/inbound`.

use std::{ops::RangeInclusive, sync::Arc};

use hyper::{Method, StatusCode};

use super::Reader;
use crate::{
    config::{
        nearest,
        tree::{Node, Value},
    },
    originator::{
        Clients,
        inbound::{Answer, Answers, Hook, HookRequest, Hooks, NAMES, Pattern, Token, Tree, builtin},
        mapping::Path,
    },
};

/// First words of paths that are ours.
const OURS: [&str; 5] = ["/api", "/-", "/metrics", "/ping", "/console"];
const METHODS: [Method; 5] = [Method::POST, Method::PUT, Method::PATCH, Method::GET, Method::DELETE];
const PATH_MEND: &str = "write it like `/in/zabbix` or `/v2/alerts/{alias}/close`";

impl Reader<'_> {
    /// All that are switched on.
    pub(super) fn inbound(&mut self, node: &Node, clients: &Clients) -> Hooks {
        let mut hooks: Vec<Hook> = Vec::new();
        for (key, value) in self.found.fields(node).entries {
            let name = key.text.as_str();
            let is_theirs = matches!(&value.value, Value::Map(entries) if !entries.is_empty());
            let hook = match builtin(name) {
                Some(hook) if !is_theirs => {
                    // `pagerduty: {}`; anything else is a mistake.
                    self.found.fields(value).end(&mut self.found);
                    hook
                }
                None if !is_theirs => {
                    let mend = match nearest(name, NAMES.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add `requests:`, or use one of {}", NAMES.join(", ")),
                    };
                    self.found.error(key.place, format!("no web hook `{name}` comes with ams2"), mend);
                    continue;
                }
                _ => self.hook(name, value),
            };
            self.rules_of_hook(value, &hook, clients);
            let requests = |hook: &Hook| {
                hook.requests.iter().map(|one| (one.methods.clone(), one.path.clone())).collect::<Vec<_>>()
            };
            for (methods, path) in requests(&hook) {
                let same = hooks.iter().find(|other| {
                    let mut all = requests(other).into_iter();
                    all.any(|(theirs, other)| {
                        other.meets(&path) && theirs.iter().any(|one| methods.contains(one))
                    })
                });
                if let Some(other) = same {
                    let message =
                        format!("the web hooks `{}` and `{name}` take the same requests", other.name);
                    self.found.error(key.place, message, "give one of them another path");
                    break;
                }
            }
            hooks.push(hook);
        }
        Hooks(hooks)
    }

    /// One as its file, or the configuration, describes it.
    pub(super) fn hook(&mut self, name: &str, node: &Node) -> Hook {
        let mut fields = self.found.fields(node);
        // For people, and for tests of the files that come with ams2.
        for known in ["summary", "docs", "examples"] {
            fields.take(known);
        }
        let token = fields.take("token").and_then(|node| self.token_place(node)).unwrap_or_default();
        let mut requests = Vec::new();
        if let Some(node) = fields.demand("requests", &mut self.found) {
            if self.found.list(node).is_empty() {
                self.found.error(node.place, "there is no request in it", "add one: `- path: /in/…`");
            }
            requests.extend(
                self.found.list(node).iter().filter_map(|node| self.hook_request(name, node).map(Arc::new)),
            );
        }
        self.same_requests(node, &requests);
        let answers = fields.take("answers").map(|node| self.answers(node)).unwrap_or_default();
        fields.end(&mut self.found);
        Hook { name: name.into(), token, requests, answers }
    }

    /// Requests of which one hides the other.
    fn same_requests(&mut self, node: &Node, requests: &[Arc<HookRequest>]) {
        for (at, request) in requests.iter().enumerate() {
            let is_same = |other: &&Arc<HookRequest>| {
                let methods = &request.methods;
                other.path.is_like(&request.path) && other.methods.iter().any(|one| methods.contains(one))
            };
            if requests[..at].iter().find(is_same).is_some() {
                let message = format!("request {} is the same as one before it: nothing comes there", at + 1);
                self.found.error(node.place, message, "put their rules into one, or give it another path");
            }
        }
    }

    fn token_place(&mut self, node: &Node) -> Option<Token> {
        let mut fields = self.found.fields(node);
        let header = fields.take("header").and_then(|node| self.found.plain(node).map(str::to_lowercase));
        let before = fields.take("before").and_then(|node| self.found.plain(node)).unwrap_or_default();
        let body = fields.take("body");
        fields.end(&mut self.found);
        match (header, body) {
            (Some(name), None) => {
                if hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                    let message = format!("`{name}` is no name of a header");
                    self.found.error(node.place, message, "write it like X-Api-Key");
                }
                Some(Token::Header { name: name.into(), before: before.into() })
            }
            (None, Some(body)) => {
                let text = self.found.plain(body)?;
                let path = Path::parse(text);
                if path.is_none() {
                    self.found.error(
                        body.place,
                        format!("`{text}` is no field"),
                        "write it like `routing_key`",
                    );
                }
                path.map(Token::Body)
            }
            _ => {
                self.found.error(node.place, "either `header` or `body` says where the token stands", "");
                None
            }
        }
    }

    fn hook_request(&mut self, name: &str, node: &Node) -> Option<HookRequest> {
        let mut fields = self.found.fields(node);
        let methods = fields.take("methods").map(|node| self.methods(node));
        let path = fields.demand("path", &mut self.found).and_then(|node| self.hook_path(node));
        let mapping = fields.demand("mapping", &mut self.found).map(|node| self.mapping(node).of(name));
        let answer = fields.take("answer").and_then(|node| self.hook_answer(node, 200..=299));
        fields.end(&mut self.found);
        Some(HookRequest {
            methods: methods.unwrap_or_else(|| vec![Method::POST]),
            path: path?,
            mapping: mapping?,
            answer: answer.unwrap_or(Answer { status: StatusCode::OK, body: None }),
        })
    }

    fn methods(&mut self, node: &Node) -> Vec<Method> {
        let mut methods = Vec::new();
        if self.found.list(node).is_empty() {
            self.found.error(node.place, "there is no method in it", "leave it out for POST");
        }
        for item in self.found.list(node) {
            let Some(text) = self.found.plain(item) else { continue };
            match METHODS.iter().find(|method| method.as_str() == text) {
                Some(method) => methods.push(method.clone()),
                None => {
                    let known: Vec<&str> = METHODS.iter().map(Method::as_str).collect();
                    let mend = format!("use {}", known.join(", "));
                    self.found.error(item.place, format!("`{text}` is no method of a web hook"), mend);
                }
            }
        }
        methods
    }

    fn hook_path(&mut self, node: &Node) -> Option<Pattern> {
        let text = self.found.plain(node)?;
        let is_ours = |ours: &&&str| {
            text.strip_prefix(**ours).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(ours) = OURS.iter().find(is_ours) {
            self.found.error(node.place, format!("paths below {ours} are ams2's own"), PATH_MEND);
            return None;
        }
        let Some(pattern) = Pattern::parse(text) else {
            self.found.error(node.place, format!("`{text}` is no path"), PATH_MEND);
            return None;
        };
        if pattern.begins_with_any() {
            let message = format!("`{text}` takes paths that are ams2's own");
            self.found.error(node.place, message, PATH_MEND);
            return None;
        }
        if let Some(name) = pattern.twice() {
            let message = format!("`{{{name}}}` stands twice in the path");
            self.found.error(node.place, message, "give one of them another name");
        }
        Some(pattern)
    }

    fn answers(&mut self, node: &Node) -> Answers {
        let mut fields = self.found.fields(node);
        // Some tools hear of mistakes by a body alone.
        let mut answer = |name| fields.take(name).and_then(|node| self.hook_answer(node, 200..=599));
        let (invalid, denied) = (answer("invalid"), answer("denied"));
        // What is said to have been taken is not sent again.
        let busy = fields.take("busy").and_then(|node| self.hook_answer(node, 400..=599));
        let answers = Answers { invalid, denied, busy };
        fields.end(&mut self.found);
        answers
    }

    fn hook_answer(&mut self, node: &Node, statuses: RangeInclusive<u64>) -> Option<Answer> {
        let mut fields = self.found.fields(node);
        let status = fields.demand("status", &mut self.found);
        let status = status.and_then(|node| self.found.number(node, statuses));
        let body = fields.take("body").and_then(|node| self.tree(node));
        fields.end(&mut self.found);
        let status = StatusCode::from_u16(u16::try_from(status?).ok()?).ok()?;
        Some(Answer { status, body })
    }

    fn tree(&mut self, node: &Node) -> Option<Tree> {
        Some(match &node.value {
            Value::Null => Tree::Leaf(serde_json::Value::Null),
            Value::Bool(value) => Tree::Leaf((*value).into()),
            Value::Number(text) => {
                Tree::Leaf(serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
            }
            Value::Text(_) => Tree::Text(self.mapped_text(node)?),
            Value::List(items) => Tree::List(items.iter().filter_map(|item| self.tree(item)).collect()),
            Value::Map(entries) => Tree::Map(
                entries
                    .iter()
                    .filter_map(|(key, value)| Some((key.text.as_str().into(), self.tree(value)?)))
                    .collect(),
            ),
        })
    }
}
