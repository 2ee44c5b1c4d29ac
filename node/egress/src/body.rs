//! Reading an answer, within its limit and the node's.

use std::sync::Arc;

use reqwest::Response;
use skein_engine::HttpResponse;
use skein_proto::{ErrorCode, Failure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{fault, hop::Hop};

/// The memory that answers may take while they arrive, in units of [`UNIT`].
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

/// Finer would only cost more.
const UNIT: usize = 1 << 10;

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes_max / UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Takes room for so many bytes more; false if there is none.
    fn take(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        match Arc::clone(&self.0).try_acquire_many_owned(wanted) {
            Ok(more) => {
                match held {
                    Some(held) => held.merge(more),
                    None => *held = Some(more),
                }
                true
            }
            Err(_) => false,
        }
    }
}

/// The whole answer.
///
/// # Errors
/// `too-large`, `overloaded`, `peer-lost`: all executed, since the other side has answered.
pub(crate) async fn read(
    mut response: Response,
    hop: &Hop,
    bytes_max: u64,
    room: &Room,
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
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let headers = headers.collect();
    let (mut body, mut held) = (Vec::new(), None);
    while let Some(chunk) = response.chunk().await.map_err(|error| fault::failure(error, hop))? {
        if (body.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        if !room.take(&mut held, chunk.len()) {
            let message = "the answers that this node receives for its functions take all the room there is";
            return Err(Failure::executed(ErrorCode::Overloaded, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpResponse { status, headers, body: body.into() })
}
