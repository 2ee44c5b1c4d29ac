//! Reading an answer, within its limit and the node's.

use bytes::Bytes;
use reqwest::Response;
use skein_engine::HttpResponse;
use skein_proto::{ErrorCode, Failure};

use crate::{fault, hop::Hop, share::Share};

/// The body of an answer with its share of the node's room, which it holds for as long as anybody has it.
struct Held {
    /// The bytes of the answer's head, for which there is room besides.
    head: usize,
    body: Vec<u8>,
    share: Share,
}

impl Held {
    /// Takes a piece of a body that may have `most` bytes; false, and unchanged, if there is no room for it.
    ///
    /// Room is taken for what is allocated, which the share would not know of if the vector grew by itself: by doubling, so
    /// that a body in small pieces is not copied for each, and by no more than is needed where there is not so much.
    fn push(&mut self, piece: &[u8], most: usize) -> bool {
        let (length, capacity) = (self.body.len() + piece.len(), self.body.capacity());
        if length > capacity {
            let ample = length.max(capacity.saturating_mul(2).min(most));
            let granted = [ample, length].into_iter().find(|amount| self.share.grow_to(self.head + amount));
            let Some(granted) = granted else { return false };
            self.body.reserve_exact(granted - self.body.len());
        }
        self.body.extend_from_slice(piece);
        true
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// The whole answer, which takes its bytes, head and body, from `share`.
///
/// # Errors
/// `too-large`, `overloaded`, `peer-lost`: all executed, since the other side has answered.
pub(crate) async fn read(
    mut response: Response,
    hop: &Hop,
    bytes_max: u64,
    share: Share,
) -> Result<HttpResponse, Failure> {
    let too_large = || {
        let message = format!("the answer of {} has more than {bytes_max} bytes", hop.origin());
        Failure::executed(ErrorCode::TooLarge, message)
    };
    // Not held by what it says alone: it may never send so much.
    let said = response.content_length().unwrap_or(bytes_max);
    if said > bytes_max {
        return Err(too_large());
    }
    let most = usize::try_from(said).unwrap_or(usize::MAX);
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let head: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut held = Held { head, body: Vec::new(), share };
    while let Some(chunk) = response.chunk().await.map_err(|error| fault::failure(error, hop))? {
        if (held.body.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        if !held.push(&chunk, most) {
            return Err(no_room());
        }
    }
    if held.body.is_empty() {
        return Ok(HttpResponse { status, headers, body: Bytes::new() });
    }
    Ok(HttpResponse { status, headers, body: Bytes::from_owner(held) })
}

fn no_room() -> Failure {
    let message = "the answers that this node holds for the function's app take all the room it may have now";
    Failure::executed(ErrorCode::Overloaded, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Shares;

    const TOTAL: usize = 1 << 20;

    fn held(shares: &Shares) -> Held {
        Held { head: 10, body: Vec::new(), share: shares.begin(&"a".parse().unwrap()) }
    }

    #[test]
    fn what_is_allocated_is_what_was_granted() {
        let shares = Shares::of(TOTAL);
        let (mut held, mut allocations) = (held(&shares), 0);
        for _ in 0..40_000 {
            let before = held.body.capacity();
            assert!(held.push(b"0123456789", TOTAL));
            allocations += u32::from(held.body.capacity() != before);
            assert_eq!(TOTAL - shares.left(), held.head + held.body.capacity());
        }
        assert!(allocations < 30, "{allocations}");
    }

    #[test]
    fn no_more_is_taken_than_is_said_and_where_there_is_little_than_is_needed() {
        let shares = Shares::of(1_500);
        let mut held = held(&shares);
        assert!(held.push(&[0; 300], 500) && held.push(&[0; 100], 500));
        assert_eq!(held.body.capacity(), 500);
        assert!(held.push(&[0; 550], 2_000));
        assert_eq!(held.body.capacity(), 950, "twice as much is more than the app may have");
        assert!(!held.push(&[0; 200], 2_000));
        assert_eq!((held.body.len(), shares.left()), (950, 1_500 - 960), "what is refused changes nothing");
    }
}
