//! What a request of a hook becomes: its alerts, or something else that its sender says, and the answer. It waits for nothing, so that
//! any thread may do it.

use std::{borrow::Cow, sync::Arc};

use ams2_core::{AlertBatch, AlertRef, BatchBuilder, Wall, batch::AlertTimes};
use axum::body::Body;
use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::Value as Node;
use smol_str::SmolStr;

use super::{HookRequest, request::RequestFields};
use crate::originator::{
    KnownClient,
    alerts::check_allowed,
    http::Settings,
    mapping::{Acknowledged, Bounds, Fields, Mapped, copy, raw_alert},
    problem::Problem,
};

/// The event of what could not be used.
const UNKNOWN: &str = "Unknown Message";

/// A request whose sender is known.
pub(super) struct Work {
    /// The hook's name.
    pub name: SmolStr,
    pub request: Arc<HookRequest>,
    /// Its body, without the sender's token.
    pub body: Node,
    /// What it says beside it.
    pub beside: Node,
    /// Its body as it came; `None` where the sender's token is in it.
    pub text: Option<Bytes>,
    /// A random id.
    pub generated: String,
    pub now: Wall,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Done {
    pub batch: AlertBatch,
    pub more: Option<More>,
    /// For when it is kept.
    pub answer: Response<Body>,
}

/// What a request says that is no alert.
#[derive(Debug)]
pub(super) enum More {
    Acknowledged(Acknowledged),
    /// The heartbeat of this name is heard of.
    Ping(String),
}

impl Work {
    /// Does it. `client`: the name of its sender, where the config has one.
    pub fn done(&self, settings: &Settings, client: Option<&str>) -> Result<Done, Problem> {
        let fields = RequestFields { body: &self.body, request: &self.beside };
        let (mut batch, more) = self.mapped(&fields, settings)?;
        let known = settings.clients.known.iter().find(|known| Some(known.name.as_str()) == client);
        if let Some(client) = known.filter(|client| !client.allow.is_empty()) {
            batch = self.allowed(client, batch, settings)?;
        }
        Ok(Done { batch, more, answer: self.request.answer.to(&fields) })
    }

    /// Its alerts. What no rule takes is kept as it came.
    fn mapped(
        &self,
        fields: &RequestFields<'_>,
        settings: &Settings,
    ) -> Result<(AlertBatch, Option<More>), Problem> {
        let bounds = Bounds {
            severities: &settings.clients.severities,
            limits: &settings.alert_limits,
            now: self.now,
        };
        let mut batch = BatchBuilder::default();
        let mut raw = |index: usize, item: &dyn Fields, batch: &mut BatchBuilder| {
            let id = format!("{}-{index}", self.generated);
            let raw = item.text(&[]).unwrap_or_default();
            self.keep_raw(batch, bounds, &raw, &id, "there is no alert in this item of its list");
        };
        let why = match self.request.mapping.map_each(fields, bounds, &mut batch, &mut raw) {
            Mapped::Alerts(_) | Mapped::Dropped => return Ok((batch.finish(), None)),
            Mapped::Acknowledged(acknowledged) => {
                return Ok((batch.finish(), Some(More::Acknowledged(acknowledged))));
            }
            Mapped::Ping(name) => return Ok((batch.finish(), Some(More::Ping(name)))),
            Mapped::Refused(why) => {
                return Err(Problem::new(StatusCode::BAD_REQUEST, why, "see the sender's documentation"));
            }
            Mapped::TooMuch(why) => {
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why, "send it in several requests"));
            }
            Mapped::NoAlert => "there is no alert in it".to_owned(),
            Mapped::NoRule => format!("no rule of {} takes it", self.name),
        };
        let raw = match &self.text {
            Some(text) => String::from_utf8_lossy(text),
            None => Cow::Owned(self.body.to_string()),
        };
        self.keep_raw(&mut batch, bounds, &raw, &self.generated, &why);
        Ok((batch.finish(), None))
    }

    fn keep_raw(&self, batch: &mut BatchBuilder, bounds: Bounds<'_>, raw: &str, id: &str, why: &str) {
        raw_alert(batch, bounds, &[("event", UNKNOWN), ("inbound", &self.name)], raw, why);
        batch.finish_alert(AlertTimes::default(), Some(id), None).expect("it has labels of its own");
    }

    /// The alerts that a client may send, if it may send all. An end by a key is its own alert's, whatever labels that has: it goes on
    /// without labels that could be another's.
    fn allowed(
        &self,
        client: &KnownClient,
        batch: AlertBatch,
        settings: &Settings,
    ) -> Result<AlertBatch, Problem> {
        let is_bare = |alert: &AlertRef<'_>| {
            let is_over = alert.times().ends_at.is_some_and(|end| end <= self.now);
            is_over && alert.key().is_some() && settings.clients.refuses(client, alert).is_some()
        };
        check_allowed(client, &batch, settings, is_bare)?;
        if !batch.iter().any(|alert| is_bare(&alert)) {
            return Ok(batch);
        }
        let mut allowed = BatchBuilder::default();
        for alert in batch.iter() {
            match alert.key() {
                Some(key) if is_bare(&alert) => {
                    allowed.label("inbound", &self.name);
                    allowed.label("key", key);
                    allowed.key(key);
                    allowed
                        .finish_alert(alert.times(), alert.id(), None)
                        .expect("it has labels, and its times were right");
                }
                _ => copy(alert, &mut allowed),
            }
        }
        Ok(allowed.finish())
    }
}
