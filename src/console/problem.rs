//! Errors as answers.

use std::time::Duration;

use axum::{
    extract::rejection::{JsonRejection, QueryRejection},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{api::NotAppended, pieces::Unwritten};
use crate::{
    flight::{self, Full},
    router::Unanswered,
};

/// An error answer: problem+json (RFC 9457) with what, where and how to mend it.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    mend: String,
    retry_after: Option<Duration>,
}

impl Problem {
    /// Something has changed meanwhile.
    pub(super) fn conflict(detail: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem::status(StatusCode::CONFLICT, detail, mend)
    }

    pub(super) fn status(status: StatusCode, detail: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem { status, ..Problem::bad(detail, mend) }
    }

    /// Nothing that the asker does mends it now: it is worth trying again.
    fn later(why: impl std::fmt::Display, mend: &str, retry_after: Duration) -> Problem {
        let problem = Problem::status(StatusCode::SERVICE_UNAVAILABLE, why.to_string(), mend);
        Problem { retry_after: Some(retry_after), ..problem }
    }

    pub(super) fn bad(detail: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem {
            status: StatusCode::BAD_REQUEST,
            detail: detail.into(),
            mend: mend.into(),
            retry_after: None,
        }
    }
}

pub(super) fn bad_matcher(error: ams2_core::matcher::MatcherError) -> Problem {
    Problem::bad(error.to_string(), "a matcher is `name op \"value\"` with one of = != =~ !~ >= > <= <")
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Problem {
        let mend = "send JSON with Content-Type: application/json";
        Problem::status(rejection.status(), rejection.body_text(), mend)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::bad(rejection.body_text(), "docs/http.md has the parameters of each path")
    }
}

/// The answer on paths that are not there.
pub async fn no_such_path(uri: Uri) -> Problem {
    Problem::status(
        StatusCode::NOT_FOUND,
        format!("there is no such path: `{}`", uri.path()),
        "docs/http.md has them all",
    )
}

/// The answer to a method that a path does not have; its `Allow` names those that it has.
pub async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::status(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("`{method}` cannot be used on `{}`", uri.path()),
        "use one of those that the header Allow names",
    )
}

impl From<Unanswered> for Problem {
    fn from(why: Unanswered) -> Problem {
        Problem::later(why, "try again shortly", Duration::from_secs(1))
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Problem {
        Problem::later(full, "ask again a little later, or for fewer rows with `limit`", flight::RETRY_AFTER)
    }
}

impl From<Unwritten> for Problem {
    fn from(why: Unwritten) -> Problem {
        match why {
            Unwritten::Unanswered(why) => why.into(),
            Unwritten::Full(full) => full.into(),
        }
    }
}

impl From<NotAppended> for Problem {
    fn from(why: NotAppended) -> Problem {
        Problem::later(why, "see `/-/ready` and the log", why.retry_after)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "mend": self.mend,
        });
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string())
                .into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}
