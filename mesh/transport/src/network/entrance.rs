//! How much strangers may have under way at once, and clients, who are strangers with a good key: two doors, so that
//! whoever has no key cannot keep out those who have one.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One of the two doors.
pub(super) struct Entrance {
    requests: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
}

/// A place for one request and for what has arrived of its body; given back when dropped.
pub(super) struct Place {
    _request: OwnedSemaphorePermit,
    kibibytes: Arc<Semaphore>,
    body: Option<OwnedSemaphorePermit>,
    /// Bytes that fit into what is held already.
    spare: usize,
}

impl Entrance {
    pub(super) fn new(requests_max: usize, bytes_max: usize) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { requests: semaphore(requests_max), kibibytes: semaphore(bytes_max.div_ceil(KIBIBYTE)) }
    }

    /// A place for one more request, if there is one. Never waits.
    pub(super) fn admit(&self) -> Option<Place> {
        let request = self.requests.clone().try_acquire_owned().ok()?;
        Some(Place { _request: request, kibibytes: self.kibibytes.clone(), body: None, spare: 0 })
    }
}

impl Place {
    /// Room for so many bytes more; false if there is none.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let Some(missing) = bytes.checked_sub(self.spare).filter(|missing| *missing > 0) else {
            self.spare -= bytes;
            return true;
        };
        let wanted = missing.div_ceil(KIBIBYTE);
        let permit =
            u32::try_from(wanted).ok().and_then(|count| self.kibibytes.clone().try_acquire_many_owned(count).ok());
        let Some(permit) = permit else { return false };
        self.spare = wanted * KIBIBYTE - missing;
        match &mut self.body {
            Some(body) => body.merge(permit),
            None => self.body = Some(permit),
        }
        true
    }
}

/// Bodies are counted in these: a semaphore's permits are too few for bytes.
const KIBIBYTE: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes_are_given_back_when_the_request_is_over() {
        let entrance = Entrance::new(2, 10 << 10);
        let (mut one, two) = (entrance.admit().unwrap(), entrance.admit());
        assert!(two.is_some() && entrance.admit().is_none(), "two places");
        // Ten bytes and the rest of their kibibyte, then nine more.
        assert!(one.hold(10) && one.hold(1_014) && one.hold(9 << 10));
        assert!(!one.hold(1), "ten KiB are held");
        drop((one, two));
        assert!(entrance.admit().unwrap().hold(10 << 10));
    }
}
