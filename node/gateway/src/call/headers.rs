//! Headers in and out of a call: what a function gets to see, what steers the call, and what the caller reads.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header, request::Parts};
use skein_proto::{ErrorCode, Failure, Limits, Usage};

use crate::problem::Refusal;

/// Most bytes of names and values that a function gets; they become its environment.
pub(crate) const FORWARDED_BYTES_MAX: usize = 64 << 10;

/// Fields that concern the connection or the gateway, not the function (RFC 9110, section 7.6.1). The credential is
/// among them: a function must not get to see its caller's key.
const DROPPED: [HeaderName; 13] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static(super::trace::TRACEPARENT),
];

/// What a function gets to see of a request, with `skein-method`, `skein-path` and `skein-query`. A value that is not
/// text is left out; a caller's own `skein-` fields are, too, so that these three can be trusted.
pub(crate) fn forwarded(head: &Parts, rest: String) -> Result<Vec<(String, String)>, Refusal> {
    let named: Vec<String> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut forwarded = vec![
        ("skein-method".to_owned(), head.method.as_str().to_owned()),
        ("skein-path".to_owned(), rest),
        ("skein-query".to_owned(), head.uri.query().unwrap_or_default().to_owned()),
    ];
    for (name, value) in &head.headers {
        let is_dropped = DROPPED.contains(name)
            || name.as_str().starts_with("skein-")
            || named.iter().any(|named| named == name.as_str());
        if let Ok(value) = std::str::from_utf8(value.as_bytes())
            && !is_dropped
        {
            forwarded.push((name.as_str().to_owned(), value.to_owned()));
        }
    }
    let bytes: usize = forwarded.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > FORWARDED_BYTES_MAX {
        let message = format!("the headers, path and query are {bytes} bytes; at most {FORWARDED_BYTES_MAX} fit");
        let refusal = Refusal::from(Failure::not_executed(ErrorCode::TooLarge, message));
        return Err(refusal.with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    Ok(forwarded)
}

/// How long the caller waits, as `skein-deadline: 5s` or `1500ms` says.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("skein-deadline") else { return Ok(None) };
    let most = Duration::from_millis(Limits::DEADLINE_MS_MAX);
    let deadline = value.to_str().ok().and_then(|text| humantime::parse_duration(text.trim()).ok());
    match deadline {
        Some(deadline) if (Duration::from_millis(1)..=most).contains(&deadline) => Ok(Some(deadline)),
        Some(_) => Err(Refusal::bad_request("`skein-deadline` must be from 1ms to 15min")),
        None => Err(Refusal::bad_request("`skein-deadline` is a time with its unit, such as `5s` or `1500ms`")),
    }
}

/// Refuses what RFC 7240 calls `respond-async`: a caller that asks for it must not get a synchronous call unawares.
pub(crate) fn refuse_async(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let is_async = preferences.any(|value| {
        let names = value.split(',').map(|part| part.split([';', '=']).next().unwrap_or_default().trim());
        names.into_iter().any(|name| name.eq_ignore_ascii_case("respond-async"))
    });
    if is_async {
        let message = "`Prefer: respond-async` is not in this release: call without it";
        return Err(Refusal::bad_request(message).with_status(StatusCode::NOT_IMPLEMENTED));
    }
    Ok(())
}

/// Where a call's time went, in milliseconds (W3C Server Timing): loading is part of the start, waiting of the run.
pub(crate) fn server_timing(usage: &Usage) -> String {
    let parts = [
        ("queue", usage.queue_us),
        ("start", usage.start_us),
        ("load", usage.load_us),
        ("instantiate", usage.instantiate_us),
        ("run", usage.run_us),
        ("wait", usage.wait_us),
        ("reset", usage.reset_us),
    ];
    let mut text = String::with_capacity(160);
    for (name, us) in parts {
        let comma = if text.is_empty() { "" } else { ", " };
        let (ms, thousandths) = (us / 1_000, us % 1_000);
        // Without the machinery of `format!`, which is most of what this would take, with every call.
        for part in [comma, name, ";dur=", itoa::Buffer::new().format(ms), "."] {
            text.push_str(part);
        }
        text.extend([100, 10, 1].map(|unit| char::from(b'0' + (thousandths / unit % 10) as u8)));
    }
    text
}

/// Most bytes looked at to tell text from other bytes.
const SNIFFED_BYTES_MAX: usize = 4 << 10;

/// What a result seems to be, from its first and last bytes alone; nothing is parsed. PNG by its signature; JSON if it
/// is text that begins with `{` or `[` and ends with the bracket that closes it; else text, if its first 4 KiB are
/// UTF-8 without control characters; else bytes. Never HTML or SVG: a function's result must not run in a browser
/// that opens it, for which the answer also says `nosniff`.
pub(crate) fn content_type(payload: &[u8]) -> &'static str {
    if payload.starts_with(b"\x89PNG\r\n\x1a\n") {
        return "image/png";
    }
    if payload.is_empty() || !is_text(&payload[..payload.len().min(SNIFFED_BYTES_MAX)]) {
        return "application/octet-stream";
    }
    match payload.trim_ascii() {
        [b'{', .., b'}'] | [b'[', .., b']'] => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The cut may have gone through a character.
        Err(error) if error.error_len().is_none() && bytes.len() == SNIFFED_BYTES_MAX => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
        build(http::Request::builder()).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_function_sees_end_to_end_fields_only() {
        let head = head(|request| {
            request
                .method("PUT")
                .uri("/fn/shop/price/a%2Fb?c=d")
                .header("x-one", "1")
                .header("x-hop", "2")
                .header("connection", "close, X-Hop")
                .header("authorization", "Bearer sk_a_b")
                .header("skein-method", "forged")
                .header("traceparent", "forged")
                .header("x-binary", http::HeaderValue::from_bytes(b"\xff").unwrap())
        });
        let forwarded = forwarded(&head, "/a%2Fb".to_owned()).unwrap();
        let shown: Vec<String> = forwarded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["skein-method=PUT", "skein-path=/a%2Fb", "skein-query=c=d", "x-one=1"]);
    }

    #[test]
    fn headers_over_the_limit_are_refused() {
        let value = "v".repeat(FORWARDED_BYTES_MAX);
        assert!(forwarded(&head(|request| request.header("x", value)), "/".to_owned()).is_err());
    }

    #[test]
    fn deadlines_have_a_unit_and_bounds() {
        for (text, expected) in [("5s", Some(5_000)), ("1500ms", Some(1_500)), ("15min", Some(900_000))] {
            let head = head(|request| request.header("skein-deadline", text));
            assert_eq!(deadline(&head.headers).unwrap(), expected.map(Duration::from_millis), "{text}");
        }
        for text in ["5", "", "-1s", "0s", "16min", "5 parsecs", "99999999999999999999s"] {
            let head = head(|request| request.header("skein-deadline", text));
            assert!(deadline(&head.headers).is_err(), "{text}");
        }
    }

    #[test]
    fn asynchronous_calls_are_refused_however_they_are_asked_for() {
        for (text, is_refused) in
            [("respond-async", true), ("wait=5, Respond-Async;x=1", true), ("return=minimal", false)]
        {
            let head = head(|request| request.header("prefer", text));
            assert_eq!(refuse_async(&head.headers).is_err(), is_refused, "{text}");
        }
    }

    #[test]
    fn timing_is_in_milliseconds_with_three_places() {
        let usage = Usage { queue_us: 7, start_us: 1_250, instantiate_us: 0, run_us: 1_000_001, ..Usage::default() };
        let expected = "queue;dur=0.007, start;dur=1.250, load;dur=0.000, instantiate;dur=0.000, \
            run;dur=1000.001, wait;dur=0.000, reset;dur=0.000";
        assert_eq!(server_timing(&usage), expected);
    }

    #[test]
    fn results_are_told_apart_by_their_bytes() {
        let long = format!("{}ä", "a".repeat(SNIFFED_BYTES_MAX - 1));
        for (payload, expected) in [
            (&b""[..], "application/octet-stream"),
            (b"hello\n", "text/plain; charset=utf-8"),
            (b" {\"a\": 1}\n", "application/json"),
            (b"[]", "application/json"),
            (b"{", "text/plain; charset=utf-8"),
            (b"<svg onload=alert(1)>", "text/plain; charset=utf-8"),
            (b"\x89PNG\r\n\x1a\n\0", "image/png"),
            (b"{\0}", "application/octet-stream"),
            (b"\xff\xfe", "application/octet-stream"),
            (long.as_bytes(), "text/plain; charset=utf-8"),
        ] {
            assert_eq!(content_type(payload), expected, "{payload:?}");
        }
    }
}
