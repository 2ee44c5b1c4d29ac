//! Reading an answer, within its limit and the node's.

use bytes::Bytes;
use reqwest::Response;
use skein_engine::HttpResponse;
use skein_proto::{ErrorCode, Failure};

use crate::{fault, hop::Hop, share::Share};

/// The body of an answer with its share of the node's room, which it holds for as long as anybody has it.
struct Held {
    body: Vec<u8>,
    _share: Share,
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
    mut share: Share,
) -> Result<HttpResponse, Failure> {
    let too_large = || {
        let message = format!("the answer of {} has more than {bytes_max} bytes", hop.origin());
        Failure::executed(ErrorCode::TooLarge, message)
    };
    if response.content_length().is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let head: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fault::failure(error, hop))? {
        if (body.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        // By the length of all of it: a server may send it byte by byte.
        if !share.grow_to(head + body.len() + chunk.len()) {
            return Err(no_room());
        }
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() {
        return Ok(HttpResponse { status, headers, body: Bytes::new() });
    }
    Ok(HttpResponse { status, headers, body: Bytes::from_owner(Held { body, _share: share }) })
}

fn no_room() -> Failure {
    let message = "the answers that this node holds for the function's app take all the room it may have now";
    Failure::executed(ErrorCode::Overloaded, message)
}
