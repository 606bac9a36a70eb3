//! gRPC's own header fields: timeouts, statuses (PROTOCOL-HTTP2.md of gRPC).

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

pub const RESOURCE_EXHAUSTED: u8 = 8;
pub const DEADLINE_EXCEEDED: u8 = 4;
pub const UNIMPLEMENTED: u8 = 12;
pub const INTERNAL: u8 = 13;
pub const UNAVAILABLE: u8 = 14;

/// What HTTP counts for a header field besides its name and value (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;
const MAX_TIMEOUT_DIGITS: usize = 8;

/// Why a call ends before Python sees it.
#[derive(Debug)]
pub enum Refusal {
    /// It is no call of gRPC.
    Http(StatusCode),
    /// It ends with this status.
    Status(u8, String),
    /// Its client is not there any more.
    Gone,
}

/// Returns the trailers of a status. `text` must be printable ASCII without `%`.
pub fn status(code: u8, text: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if !text.is_empty() {
        let value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("refused"));
        trailers.insert("grpc-message", value);
    }
    trailers
}

/// Looks at a request's head; returns how long its caller waits, if it says so.
pub fn check<B>(request: &Request<B>, max_metadata: usize) -> Result<Option<Duration>, Refusal> {
    let headers = request.headers();
    if request.method() != Method::POST {
        return Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED));
    }
    if !headers.get("content-type").is_some_and(|value| is_grpc(value.as_bytes())) {
        return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    // Without it no trailers can be sent, and so no status.
    if !headers.get_all("te").iter().any(|value| value == "trailers") {
        return Err(Refusal::Http(StatusCode::BAD_REQUEST));
    }
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
    if size > max_metadata {
        return Err(Refusal::Status(RESOURCE_EXHAUSTED, "received metadata larger than max".into()));
    }
    if headers.get("grpc-encoding").is_some_and(|value| value != "identity") {
        // grpc-accept-encoding, in the headers of every answer, says what would do (gRPC "Compression" section).
        return Err(Refusal::Status(UNIMPLEMENTED, "messages cannot be compressed".into()));
    }
    headers.get("grpc-timeout").map(|value| timeout(value.as_bytes())).transpose()
}

fn is_grpc(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/grpc") || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

fn timeout(value: &[u8]) -> Result<Duration, Refusal> {
    let malformed = || Refusal::Status(INTERNAL, "grpc-timeout is malformed".into());
    let (unit, digits) = value.split_last().ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > MAX_TIMEOUT_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let number = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_malformed_ones_refused() {
        assert_eq!(timeout(b"2M").unwrap(), Duration::from_secs(120));
        assert_eq!(timeout(b"99999999n").unwrap(), Duration::from_nanos(99_999_999));
        for wrong in [&b""[..], b"S", b"1", b"-1S", b"123456789S", b"1s", b"x"] {
            assert!(timeout(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_grpc_is_grpc() {
        for right in [&b"application/grpc"[..], b"application/grpc+proto", b"Application/GRPC; charset=utf-8"] {
            assert!(is_grpc(right));
        }
        for wrong in [&b""[..], b"application/json", b"application/grpc-web", b"application/grpc+json"] {
            assert!(!is_grpc(wrong));
        }
    }
}
