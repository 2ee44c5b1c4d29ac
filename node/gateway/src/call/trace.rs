//! The W3C `traceparent` (Trace Context, level 2): gone on with if the caller sent one, begun if not.

use std::{fmt::Write as _, sync::Arc};

use http::HeaderMap;
use skein_proto::InvocationId;

/// The name of the header.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// Its bytes, in the version that is sent.
const BYTES: usize = 55;

/// The `traceparent` for a call: the caller's trace with a new span, or a new trace whose id is the invocation's, so
/// that one finds the other. A header that is not one is ignored, as the specification asks.
pub(crate) fn traceparent(headers: &HeaderMap, id: InvocationId, span: u64) -> Arc<str> {
    // An all-zero span id is invalid.
    let span = span.max(1);
    let sent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(parse);
    let mut text = String::with_capacity(BYTES);
    // Writing to a string cannot fail.
    let _ = match sent {
        Some((trace, flags)) => write!(text, "00-{trace}-{span:016x}-{flags:02x}"),
        None => write!(text, "00-{}-{span:016x}-01", id.0.simple()),
    };
    text.into()
}

/// The trace id and the flags this version knows, of which `sampled` and `random` may be passed on.
fn parse(text: &str) -> Option<(&str, u8)> {
    let bytes = text.as_bytes();
    if bytes.len() < BYTES || !bytes.is_ascii() || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
        return None;
    }
    let (version, trace, span, flags) = (&text[..2], &text[3..35], &text[36..52], &text[53..55]);
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    if ![version, trace, span, flags].into_iter().all(is_hex) || version == "ff" || is_zero(trace) || is_zero(span) {
        return None;
    }
    // Version 00 ends here; a later one may go on after another dash.
    let is_whole =
        if version == "00" { bytes.len() == BYTES } else { bytes.get(BYTES).is_none_or(|byte| *byte == b'-') };
    let flags = u8::from_str_radix(flags, 16).ok()?;
    is_whole.then_some((trace, flags & 0b11))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn check(sent: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, sent.parse().unwrap());
        let id = InvocationId::random();
        let begun = format!("00-{}-000000000000002a-01", id.0.simple());
        assert_eq!(&*traceparent(&headers, id, 42), expected.unwrap_or(&begun), "{sent}");
    }

    #[test]
    fn a_callers_trace_goes_on_with_a_new_span() {
        check(SENT, Some("00-0af7651916cd43dd8448eb211c80319c-000000000000002a-01"));
        check(&SENT.replace("-01", "-00"), Some("00-0af7651916cd43dd8448eb211c80319c-000000000000002a-00"));
        check(&format!("cc{}-what", &SENT[2..]), Some("00-0af7651916cd43dd8448eb211c80319c-000000000000002a-01"));
    }

    #[test]
    fn what_is_no_traceparent_begins_a_new_trace() {
        check("", None);
        check(&SENT.to_uppercase(), None);
        check(&SENT.replace("00-", "ff-"), None);
        check(&format!("{SENT}-x"), None);
        check(&SENT.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"), None);
        check(&SENT.replace("b7ad6b7169203331", "0000000000000000"), None);
    }

    proptest! {
        #[test]
        fn any_header_gives_a_valid_traceparent(sent in "[0-9a-f-]{0,70}", span in any::<u64>()) {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, sent.parse().unwrap());
            let made = traceparent(&headers, InvocationId::random(), span);
            prop_assert!(parse(&made).is_some(), "{}", made);
        }
    }
}
