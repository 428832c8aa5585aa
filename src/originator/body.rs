//! Bodies: read within limits of size, time and memory, and inflated.

use std::{io::Read, time::Duration};

use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt;
use hyper::{Request, StatusCode, body::Incoming};
use tokio::time::{Instant, timeout_at};

use super::{HttpLimits, problem::Problem};
use crate::flight::Flight;

/// A compressed body is inflated in pieces of so many bytes.
const INFLATED_BYTES: u64 = 64 << 10;
/// Most members of a compressed body: senders that flush often make some; empty ones cost time and have no size.
const MEMBERS_MAX: usize = 10_000;
/// A body of which more than so much is here must go on: one that holds little may be slow.
const SLOW_BYTES_MAX: usize = 64 << 10;
/// In so long at least so much of it must come.
const PACE_TIME: Duration = Duration::from_secs(5);
const PACE_BYTES: usize = 16 << 10;

/// The largest body of a kind of request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Largest {
    pub bytes: usize,
    /// What sets it.
    pub by: &'static str,
    /// How to send less.
    pub mend: &'static str,
}

impl Largest {
    fn problem(&self) -> Problem {
        let Largest { bytes, by, mend } = self;
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {bytes} bytes ({by})"), *mend)
    }
}

/// Reads a body, and counts what of it is here.
pub(super) async fn read_body(
    request: Request<Incoming>,
    largest: Largest,
    limits: &HttpLimits,
    flight: &mut Flight,
) -> Result<Bytes, Problem> {
    let mut body = request.into_body();
    let announced = hyper::body::Body::size_hint(&body).upper();
    if announced.is_some_and(|bytes| bytes > largest.bytes as u64) {
        return Err(largest.problem());
    }
    let end = Instant::now() + limits.body_time;
    let mut pace = Pace { since: Instant::now(), size: 0 };
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut size = 0;
    loop {
        let until = if size > SLOW_BYTES_MAX { end.min(pace.since + PACE_TIME) } else { end };
        let Ok(frame) = timeout_at(until, body.frame()).await else {
            return Err(late(limits, until < end));
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"), "send it again")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > largest.bytes {
            return Err(largest.problem());
        }
        pace.note(size);
        flight.add(data.len())?;
        match &first {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(start) => {
                rest.extend_from_slice(start);
                rest.extend_from_slice(&data);
                first = None;
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

/// How fast a body comes.
struct Pace {
    /// Since when less than [`PACE_BYTES`] have come.
    since: Instant,
    /// How much had come then.
    size: usize,
}

impl Pace {
    fn note(&mut self, size: usize) {
        if size - self.size >= PACE_BYTES || size <= SLOW_BYTES_MAX {
            *self = Pace { since: Instant::now(), size };
        }
    }
}

fn late(limits: &HttpLimits, is_slow: bool) -> Problem {
    let detail = match is_slow {
        true => format!("less than {PACE_BYTES} bytes of a large body came within {PACE_TIME:?}"),
        false => {
            let time = limits.body_time;
            format!("the body did not arrive within {time:?} (originator.http.limits.body_time)")
        }
    };
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail, "send less at a time")
}

/// Decompresses up to the limit, whatever the compressed size promised, and counts each piece as received.
pub(super) fn inflate(body: &[u8], largest: Largest, flight: &mut Flight) -> Result<Bytes, Problem> {
    let limit = largest.bytes;
    let broken = |error: std::io::Error| {
        let detail = format!("the body is no whole gzip stream: {error}");
        Problem::new(StatusCode::BAD_REQUEST, detail, "send it again")
    };
    let (mut decoded, mut rest, mut members) = (Vec::new(), body, 0);
    // RFC 1952 section 2.2: members follow one another, with nothing between them.
    while members == 0 || !rest.is_empty() {
        members += 1;
        if members > MEMBERS_MAX {
            let detail = format!("the body has more than {MEMBERS_MAX} members of gzip");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail, "compress it as one"));
        }
        let mut decoder = GzDecoder::new(&mut rest);
        loop {
            let left = (limit + 1 - decoded.len()) as u64;
            let mut piece = decoder.by_ref().take(left.min(INFLATED_BYTES));
            let read = piece.read_to_end(&mut decoded).map_err(broken)?;
            if read == 0 {
                break;
            }
            flight.add(read)?;
            if decoded.len() > limit {
                let by = largest.by;
                let detail = format!("the body is over {limit} bytes when decompressed ({by})");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail, largest.mend));
            }
        }
    }
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::flight::{Flights, PATIENCE};

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("in memory");
        encoder.finish().expect("in memory")
    }

    #[test]
    fn members_are_inflated_one_after_the_other_up_to_a_limit_of_bytes_and_of_members() {
        let inflated = |body: &[u8]| {
            let mut flight = Flights::default().room("me".into(), 1 << 20, 1 << 10, PATIENCE).flight();
            let largest = Largest { bytes: 1 << 10, by: "a limit", mend: "send less" };
            inflate(body, largest, &mut flight).map_err(|problem| problem.status.as_u16())
        };
        let (one, empty) = (member(b"ab"), member(b""));
        assert_eq!(inflated(&one).as_deref(), Ok(&b"ab"[..]));
        assert_eq!(inflated(&[&one[..], &empty, &one].concat()).as_deref(), Ok(&b"abab"[..]));
        assert_eq!(inflated(&empty).as_deref(), Ok(&b""[..]));
        assert_eq!(inflated(&member(&[b'x'; 1 << 10])).map(|body| body.len()), Ok(1 << 10));
        for wrong in [&one[..one.len() - 1], b"", b"no gzip", &[&one[..], b"rest"].concat()] {
            assert_eq!(inflated(wrong), Err(400), "{wrong:?}");
        }
        assert_eq!(inflated(&member(&[b'x'; 1 + (1 << 10)])), Err(413));
        assert_eq!(inflated(&empty.repeat(MEMBERS_MAX)).as_deref(), Ok(&b""[..]));
        assert_eq!(inflated(&empty.repeat(MEMBERS_MAX + 1)), Err(400));
    }
}
