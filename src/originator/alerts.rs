//! Alerts that are posted: read within limits, checked against what their client may send, and answered once they are kept.

use std::sync::{Arc, atomic::Ordering};

use ams2_core::{AlertBatch, AlertRef, input::Arrival};
use axum::body::Body;
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, header};

use super::{
    HttpLimits, Intake,
    auth::{KnownClient, Sender},
    body::{Largest, inflate, read_body},
    http::{Serving, Settings},
    json::{self, AlertProblem, BadBody, Mistakes},
    problem::{Problem, invalid, json_response},
};
use crate::{alertmanager, flight::Flight};

/// Bodies of at most so many bytes are read where they arrive: some milliseconds of work.
pub(super) const INLINE_BYTES_MAX: usize = 256 << 10;

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Native,
    Alertmanager,
}

/// Takes the alerts of a request.
pub(super) async fn take_alerts<I: Intake>(
    request: Request<Incoming>,
    sender: Sender<'_>,
    serving: &Serving<I>,
    settings: &Arc<Settings>,
    shape: Shape,
    mut flight: Flight,
) -> Result<Response<Body>, Problem> {
    let gzip = is_gzip(request.headers())?;
    let body = read_body(request, largest_of_alerts(&settings.limits), &settings.limits, &mut flight).await?;
    let (read, _flight) = if body.len() <= INLINE_BYTES_MAX && !gzip {
        (read_alerts(&body, None, settings, shape)?, flight)
    } else {
        // Much of it takes long enough for others to wait on this thread.
        let (settings, body) = (settings.clone(), body);
        let _turn = serving.body_readers.turns.acquire().await.expect("nobody closes it");
        let reading = serving.body_readers.threads.run(move || {
            let read = read_alerts(&body, gzip.then_some(&mut flight), &settings, shape)?;
            Ok::<_, Problem>((read, flight))
        });
        let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug".into(), "");
        reading.await.map_err(bug)??
    };
    let ReadAlerts { batch, bytes, mistakes } = read;
    if batch.is_empty() {
        serving.refusals.some(&sender.name, &mistakes);
        return Ok(match shape {
            Shape::Native => json_response(StatusCode::OK, "{\"accepted\":0}".into()),
            Shape::Alertmanager => answer_v2(&mistakes),
        });
    }
    if let Some(client) = sender.known {
        check_allowed(client, &batch, settings, |_| false)?;
    }
    let count = batch.len() as u64;
    let arrival = Arrival { client: sender.name.clone(), batch: Arc::new(batch) };
    let accepted = serving.intake.accept(arrival).await?;
    serving.metrics.requests.fetch_add(1, Ordering::Relaxed);
    serving.metrics.alerts.fetch_add(count, Ordering::Relaxed);
    serving.metrics.bytes.fetch_add(bytes, Ordering::Relaxed);
    serving.refusals.some(&sender.name, &mistakes);
    let (first, last) = (accepted.first, accepted.last);
    if shape == Shape::Alertmanager {
        return Ok(answer_v2(&mistakes));
    }
    let text = format!("{{\"accepted\":{count},\"sequence\":{{\"first\":{first},\"last\":{last}}}}}");
    let mut response = json_response(StatusCode::OK, text);
    let sequence =
        header::HeaderValue::from_str(&format!("{first}-{last}")).expect("digits are a header value");
    response.headers_mut().insert("ams2-sequence", sequence);
    Ok(response)
}

/// Whether a client may send each of these alerts, but for some that are not its matchers' concern.
pub(super) fn check_allowed(
    client: &KnownClient,
    batch: &AlertBatch,
    settings: &Settings,
    is_none: impl Fn(&AlertRef<'_>) -> bool,
) -> Result<(), Problem> {
    let refused = Mistakes::one_each(batch.iter().enumerate().filter_map(|(index, alert)| {
        let matcher = settings.clients.refuses(client, &alert).filter(|_| !is_none(&alert))?;
        let detail = format!("the client `{}` may only send alerts with {}", client.name, matcher.matcher);
        Some(AlertProblem { index, pointer: "/labels".into(), detail })
    }));
    let Some(first) = refused.listed.first() else { return Ok(()) };
    // Whoever reads of it in the log or in an own alert knows neither the client nor the alert.
    let detail = format!("{}; none was accepted", first.detail);
    let client = Some(client.name.as_str().into());
    Err(Problem { status: StatusCode::FORBIDDEN, detail, client, ..invalid(refused) })
}

/// The setting of the largest body.
pub(super) const BODY_BYTES: &str = "originator.http.limits.body_bytes";

pub(super) fn largest_of_alerts(limits: &HttpLimits) -> Largest {
    Largest { bytes: limits.body_bytes, by: BODY_BYTES, mend: "send the alerts in several requests" }
}

/// Alertmanager's answer: nothing, or what is wrong with those alerts that were not taken.
fn answer_v2(mistakes: &Mistakes) -> Response<Body> {
    match mistakes.alerts {
        0 => Response::new(Body::empty()),
        _ => json_response(StatusCode::BAD_REQUEST, alertmanager::bad_alerts(mistakes)),
    }
}

/// The alerts of a body, its size without compression, and what is wrong with those that are left out.
struct ReadAlerts {
    batch: AlertBatch,
    bytes: u64,
    mistakes: Mistakes,
}

/// Reads the alerts of a body. One that is compressed is inflated, and what it becomes counted in its `flight`.
fn read_alerts(
    body: &[u8],
    flight: Option<&mut Flight>,
    settings: &Settings,
    shape: Shape,
) -> Result<ReadAlerts, Problem> {
    let largest = largest_of_alerts(&settings.limits);
    let inflated = flight.map(|flight| inflate(body, largest, flight)).transpose()?;
    let whole = inflated.as_deref().unwrap_or(body);
    let text = std::str::from_utf8(whole).map_err(|error| {
        let at = error.valid_up_to();
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not UTF-8 at byte {at}"),
            "send JSON in UTF-8",
        )
    })?;
    let bytes = whole.len() as u64;
    let limits = &settings.alert_limits;
    match shape {
        Shape::Native => {
            let batch = json::parse(text, limits).map_err(invalid)?;
            Ok(ReadAlerts { batch, bytes, mistakes: Mistakes::default() })
        }
        Shape::Alertmanager => {
            let (batch, mistakes) = json::parse_v2(text, limits).map_err(|bad| {
                let (status, code, message) = match bad {
                    BadBody::Empty => {
                        (StatusCode::UNPROCESSABLE_ENTITY, 602, "alerts in body is required".into())
                    }
                    BadBody::NoLabels(index) => {
                        (StatusCode::UNPROCESSABLE_ENTITY, 602, format!("{index}.labels in body is required"))
                    }
                    BadBody::Malformed(why) => (
                        StatusCode::BAD_REQUEST,
                        400,
                        format!("parsing alerts body from \"\" failed, because {why}"),
                    ),
                };
                Problem { v2: Some(code), ..Problem::new(status, message, "") }
            })?;
            Ok(ReadAlerts { batch, bytes, mistakes })
        }
    }
}

/// Whether the body is compressed. RFC 9110 section 8.4.1: names of encodings have no case.
pub(super) fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter().map(header::HeaderValue::as_bytes);
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case(b"identity") => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case(b"gzip") => Ok(true),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this Content-Encoding is not understood".into(),
            "send gzip, once, or none",
        )),
    }
}
