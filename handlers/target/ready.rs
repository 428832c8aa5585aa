//! An action of a service that is ready, and its settings as the templates of the service's file see them.

use std::{collections::BTreeMap, fmt, time::Duration};

use minijinja::value::Value;
use reqwest::Url;
use serde_json::{Map, Value as Json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    Target,
    round::Round,
    tree::{self, Tree},
};
use crate::{Action, Delivery, Failure, Receipt, Secret, render::Template, webhook::post::Poster};

/// An action of a service that is ready.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) target: &'static Target,
    pub(super) settings: BTreeMap<&'static str, Part>,
    /// What follows from the settings alone.
    pub(super) follows: Follows,
    pub(super) poster: Poster,
    pub(super) session: Session,
}

/// What follows from the settings alone.
#[derive(Default)]
pub(super) struct Follows {
    pub(super) values: BTreeMap<String, String>,
    /// Where the service is: its URL, and the same as the file's templates see it. `probe` connects to it.
    pub(super) place: Option<(Url, String)>,
}

/// The URL may be a secret.
impl fmt::Debug for Follows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follows(..)")
    }
}

/// What a login gave, until it expires or is refused.
#[derive(Debug, Default)]
pub(super) struct Session(pub(super) Mutex<Option<Held>>);

/// What one login gave.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) kept: BTreeMap<String, Secret>,
    /// `None`: until it is refused.
    pub(super) until: Option<Instant>,
    /// Which login it was, counted from 1.
    pub(super) number: u64,
}

/// A setting that is ready to be put in.
#[derive(Debug)]
pub(super) enum Part {
    Fixed(Json),
    Secret(Secret),
    /// The admin's template, and what stands in for it when it fails.
    Template(Template, Option<Template>),
    Templates(Vec<(String, Template)>),
    TemplateList(Vec<Template>),
    /// Where to: nothing stands in for it.
    Address(Template),
    Tree(Tree),
}

/// Longest words of a template that failed, in characters.
const FAILED_CHARS_MAX: usize = 150;

#[async_trait::async_trait]
impl Action for Ready {
    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let end = Instant::now() + deadline;
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            results.push(Round::run(self, delivery, end).await);
        }
        results
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        match &self.follows.place {
            Some((url, _)) => self.poster.probe(url, deadline).await,
            None => Err("no setting says where it is".into()),
        }
    }
}

impl Ready {
    /// The settings in words. A template of the admin's that fails is replaced by our own words, which say so: the alert matters
    /// more than its layout. So are all of them with `plainly`, for when they were too long. An address that fails is an error.
    pub(super) fn words(
        &self,
        context: &Value,
        plainly: bool,
    ) -> Result<BTreeMap<&'static str, Json>, String> {
        let one =
            |(name, part): (&&'static str, &Part)| Ok((*name, self.word(name, part, context, plainly)?));
        self.settings.iter().map(one).collect()
    }

    fn word(&self, name: &str, part: &Part, context: &Value, plainly: bool) -> Result<Json, String> {
        let render = |template: &Template| template.render_value(context.clone());
        let or_why = |template| render(template).unwrap_or_else(|error| failed(&error.to_string()));
        Ok(match part {
            Part::Fixed(value) => value.clone(),
            Part::Secret(secret) => secret.expose().into(),
            Part::Templates(_) | Part::Tree(_) if plainly => Json::Object(Map::new()),
            Part::TemplateList(_) if plainly => Json::Array(Vec::new()),
            Part::Templates(map) => {
                let pairs = map.iter().map(|(name, template)| (name.clone(), or_why(template).into()));
                Json::Object(pairs.collect())
            }
            Part::TemplateList(list) => list.iter().map(|template| Json::String(or_why(template))).collect(),
            Part::Tree(tree) => tree.render_or(context, &failed),
            Part::Address(template) => match render(template) {
                Ok(text) => text.trim().into(),
                Err(error) => return Err(format!("the template `{name}` failed: {error}")),
            },
            Part::Template(own, default) => {
                let in_its_place = || {
                    let words = default.as_ref().map(|default| render(default).unwrap_or_default());
                    words.unwrap_or_default()
                };
                if plainly && default.is_some() {
                    return Ok(in_its_place().into());
                }
                match render(own) {
                    Ok(text) => text.into(),
                    Err(error) => format!("{}{}", in_its_place(), failed(&error.to_string())).into(),
                }
            }
        })
    }
}

/// What stands where a template failed.
fn failed(why: &str) -> String {
    format!(" (a template failed: {})", tree::shortened(why, FAILED_CHARS_MAX))
}
