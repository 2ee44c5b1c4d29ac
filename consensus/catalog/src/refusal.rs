//! A refusal: why a command changes nothing, said so that the reader knows what is there instead.

use std::fmt::Display;

use skein_proto::ErrorCode;

use crate::Outcome;

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { code: refusal.code, message: refusal.message }
    }
}

/// Most names listed in one message: enough to find a typing error, short enough for one line.
const LISTED_MAX: usize = 8;

/// `known` as a list for a message: `a, b, c and 4 more`; `none` when there are none.
pub(crate) fn listed<T: Display>(known: impl IntoIterator<Item = T>) -> String {
    let mut known = known.into_iter();
    let shown: Vec<String> = known.by_ref().take(LISTED_MAX).map(|name| name.to_string()).collect();
    match (shown.is_empty(), known.count()) {
        (true, _) => "none".into(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Refuses a text that is longer than the catalogue keeps.
pub(crate) fn check_length(what: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::TooLarge, format!("the {what} has {} bytes; at most {bytes_max} are kept", text.len())))
}

/// Refuses an id that could not be typed or listed: an id is 1 to 64 visible ASCII characters.
pub(crate) fn check_id(what: &str, id: &str) -> Result<(), Refusal> {
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Refusal::bad_request(format!("a {what} id is 1 to {ID_BYTES_MAX} visible ASCII characters")))
}

/// Longest id of a key or token, in bytes: twice what is made today.
const ID_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_short_and_count_what_they_leave_out() {
        assert_eq!(listed::<u8>([]), "none");
        assert_eq!(listed(["a", "b"]), "a, b");
        assert_eq!(listed(1..=10), "1, 2, 3, 4, 5, 6, 7, 8 and 2 more");
    }

    #[test]
    fn ids_are_visible_and_short() {
        assert!(check_id("key", "ab-1_2").is_ok());
        for id in ["", "a b", "ä", &"a".repeat(65)] {
            assert!(check_id("key", id).is_err(), "{id}");
        }
    }
}
