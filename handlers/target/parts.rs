//! The templates of a service's file. They are the same for every action of the kind, and compiled once somebody uses it.

use reqwest::{Method, header::HeaderName};

use super::{
    escape::Escape,
    file::{Ask, File, Rules, SigV4},
    tree::Tree,
};
use crate::{
    Failure, FailureKind,
    render::{Scope, Shared, Template},
};

/// All of a file's.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) values: Vec<(String, Template)>,
    pub(super) place: Option<Template>,
    /// One for each of the file's `mistakes`.
    pub(super) mistakes: Vec<Template>,
    pub(super) login: Option<Asking>,
    pub(super) requests: Vec<Asking>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) sigv4: Option<Signing>,
    pub(super) reply: Option<Template>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) ask: Ask,
    pub(super) condition: Option<Template>,
    pub(super) refuse: Option<Template>,
    pub(super) method: Method,
    pub(super) url: Template,
    pub(super) body: Option<Tree>,
}

/// What signs requests.
#[derive(Debug)]
pub(super) struct Signing {
    pub(super) region: Template,
    pub(super) access_key: Template,
    pub(super) secret_key: Template,
    pub(super) session_token: Template,
}

impl Parts {
    /// Compiles a file; the error says what is wrong.
    pub(super) fn compile(file: &File) -> Result<Parts, String> {
        let named = |(name, source): (&String, &String)| Ok((name.clone(), plain(source)?));
        let header = |(name, source): (&String, &String)| {
            let name: HeaderName = name.parse().map_err(|_| format!("{name} is no header"))?;
            Ok((name, plain(source)?))
        };
        Ok(Parts {
            values: file.values.iter().map(named).collect::<Result<_, String>>()?,
            place: option(&file.place)?,
            mistakes: file.mistakes.iter().map(|one| plain(&one.condition)).collect::<Result<_, _>>()?,
            login: file.login.as_ref().map(|login| Asking::compile(login.request.clone())).transpose()?,
            requests: file.asks().into_iter().map(Asking::compile).collect::<Result<_, _>>()?,
            headers: file.headers.iter().map(header).collect::<Result<_, String>>()?,
            sigv4: file.sigv4.as_ref().map(Signing::compile).transpose()?,
            reply: option(&file.reply)?,
        })
    }

    /// Every name that a template may ask of `kept`.
    pub(super) fn kept(&self) -> impl Iterator<Item = &str> {
        let askings = self.login.iter().chain(&self.requests);
        askings.flat_map(|asking| asking.ask.keep.keys().map(String::as_str))
    }
}

impl Asking {
    fn compile(ask: Ask) -> Result<Asking, String> {
        Ok(Asking {
            condition: option(&ask.condition)?,
            refuse: option(&ask.refuse)?,
            method: ask.method.parse().map_err(|_| format!("{} is no method", ask.method))?,
            url: template(&ask.url, Escape::Url)?,
            body: ask
                .body
                .as_ref()
                .map(|tree| Tree::compile(tree, Scope::Target(Escape::None), &Shared::default()))
                .transpose()?,
            ask,
        })
    }

    /// What its answers mean.
    pub(super) fn rules<'a>(&'a self, file: &'a File) -> &'a Rules {
        self.ask.answer.as_ref().unwrap_or(&file.answer)
    }

    /// What went wrong, with what it was for. Where asking again does no harm, nobody may have been told twice.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let is_unanswered = failure.kind == FailureKind::Uncertain;
        let reason = match self.ask.name.as_str() {
            "" => failure.reason,
            name => format!("{name}: {}", failure.reason),
        };
        let wait_ms = Some(self.ask.unanswered_wait * 1000).filter(|ms| is_unanswered && *ms > 0);
        Failure {
            kind: match failure.kind {
                FailureKind::Uncertain if self.ask.repeatable => FailureKind::Transient,
                kind => kind,
            },
            reason,
            retry_after_ms: failure.retry_after_ms.max(wait_ms),
        }
    }
}

impl Signing {
    fn compile(sigv4: &SigV4) -> Result<Signing, String> {
        Ok(Signing {
            region: plain(&sigv4.region)?,
            access_key: plain(&sigv4.access_key)?,
            secret_key: plain(&sigv4.secret_key)?,
            session_token: plain(&sigv4.session_token)?,
        })
    }
}

fn template(source: &str, escape: Escape) -> Result<Template, String> {
    Template::compile(source, Scope::Target(escape)).map_err(|error| format!("{source}: {error}"))
}

fn plain(source: &str) -> Result<Template, String> {
    template(source, Escape::None)
}

fn option(source: &Option<String>) -> Result<Option<Template>, String> {
    source.as_deref().map(plain).transpose()
}
