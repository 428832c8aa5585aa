//! Errors of requests as answers.

use std::{borrow::Cow, time::Duration};

use axum::body::Body;
use hyper::{Response, StatusCode, header};

use super::json::{AlertProblem, Mistakes};
use crate::{
    console::json,
    flight::{self, Full},
    journal::Refused,
};

/// An error answer: problem+json (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    pub status: StatusCode,
    pub detail: String,
    pub mend: Cow<'static, str>,
    pub errors: Box<[AlertProblem]>,
    pub retry_after: Option<Duration>,
    /// Alertmanager's code, where the answer has its shape.
    pub v2: Option<u32>,
    /// Who was refused, where that is known.
    pub client: Option<Box<str>>,
    /// What is answered instead of our own words: what another tool expects.
    pub answer: Option<Box<Response<Body>>>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: String, mend: impl Into<Cow<'static, str>>) -> Problem {
        let mend = mend.into();
        let errors = Box::default();
        Problem { status, detail, mend, errors, retry_after: None, v2: None, client: None, answer: None }
    }

    /// The path takes these methods only (RFC 9110 section 15.5.6).
    pub fn other_method(detail: String, methods: &str) -> Problem {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail, format!("use {methods}"));
        let mut response = problem.problem_json();
        if let Ok(methods) = methods.parse() {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        Problem { answer: Some(Box::new(response)), ..problem }
    }

    /// In the shape of Alertmanager's API: who may not come is answered in ours, since it refuses nobody.
    pub fn in_their_shape(self) -> Problem {
        let ours = matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let code = self.v2.or((!ours).then(|| self.status.as_u16().into()));
        Problem { v2: code, ..self }
    }

    pub fn into_response(mut self) -> Response<Body> {
        let mut response = match (self.answer.take(), self.v2) {
            (Some(answer), _) => *answer,
            (None, Some(code)) => {
                let body = serde_json::json!({ "code": code, "message": self.detail });
                json_response(self.status, body.to_string())
            }
            (None, None) => self.problem_json(),
        };
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        let unread = matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
        if unread {
            // The rest of the body is not worth reading.
            headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        response
    }

    /// RFC 9457.
    fn problem_json(&self) -> Response<Body> {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "mend": self.mend,
        });
        if !self.errors.is_empty() {
            body["errors"] = serde_json::to_value(&self.errors).expect("plain data encodes");
        }
        let mut response = json_response(self.status, body.to_string());
        let of_problems = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, of_problems);
        response
    }
}

/// Alerts that are wrong.
pub(super) fn invalid(mistakes: Mistakes) -> Problem {
    let detail = match mistakes.alerts {
        1 => "one alert is wrong; none was accepted".to_owned(),
        count => format!("{count} alerts are wrong; none was accepted"),
    };
    Problem {
        errors: mistakes.listed.into(),
        ..Problem::new(StatusCode::BAD_REQUEST, detail, "mend what `errors` names and send all again")
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Problem {
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string(), "send it again a little later");
        Problem { retry_after: Some(flight::RETRY_AFTER), ..problem }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let (status, retry_after, mend) = match refused {
            Refused::TooLarge { .. } => {
                let mend = "send the alerts in several requests";
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, refused.to_string(), mend);
            }
            Refused::Busy { retry_after } => {
                (StatusCode::TOO_MANY_REQUESTS, retry_after, "send it again later")
            }
            Refused::Stalled { retry_after } => {
                (StatusCode::SERVICE_UNAVAILABLE, retry_after, "see to the disk of the data folder")
            }
            Refused::DiskFull { retry_after } => {
                (StatusCode::SERVICE_UNAVAILABLE, retry_after, "make room on the disk of the data folder")
            }
            Refused::Failed => {
                (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(30), "see the server's log")
            }
            Refused::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(2), "send it again later")
            }
        };
        Problem { retry_after: Some(retry_after), ..Problem::new(status, refused.to_string(), mend) }
    }
}

pub(super) fn json_response(status: StatusCode, body: String) -> Response<Body> {
    let mut response = json(body);
    *response.status_mut() = status;
    response
}
