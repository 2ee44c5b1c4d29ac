//! What the keys of one app, or one key of the whole mesh, may take of a listener: half of its requests, and half of the
//! bytes of bodies. So whoever floods the listener with a good key leaves the other half to the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use skein_proto::Limits;

use crate::{GatewayConfig, KeyIdentity, body::overloaded, problem::Refusal};

/// The shares of one listener.
pub(crate) struct Shares {
    requests_max: usize,
    bytes_max: usize,
    taken: Mutex<HashMap<Arc<str>, Taken>>,
}

#[derive(Default)]
struct Taken {
    requests: usize,
    bytes: usize,
}

/// One request, counted until it is dropped.
pub(crate) struct Share {
    shares: Arc<Shares>,
    holder: Arc<str>,
}

/// Bytes of one body, counted until they are dropped.
pub(crate) struct ShareOfBytes {
    shares: Arc<Shares>,
    holder: Arc<str>,
    bytes: usize,
}

impl Shares {
    pub(crate) fn new(config: &GatewayConfig) -> Arc<Self> {
        // One body of the largest size always fits.
        let bytes_least = usize::try_from(Limits::ARTIFACT_BYTES_MAX).unwrap_or(usize::MAX).min(config.body_bytes_max);
        Arc::new(Self {
            requests_max: (config.requests_max / 2).max(1),
            bytes_max: (config.body_bytes_max / 2).max(bytes_least),
            taken: Mutex::default(),
        })
    }

    /// Counts one more request of whoever holds this key.
    ///
    /// # Errors
    /// `overloaded` if it has as many as it may.
    pub(crate) fn request(self: &Arc<Self>, caller: &KeyIdentity) -> Result<Share, Refusal> {
        let holder: Arc<str> = match &caller.app {
            Some(app) => format!("the keys of app `{app}` have").into(),
            None => format!("key `{}` has", caller.id).into(),
        };
        let mut taken = self.taken();
        let own = taken.entry(holder.clone()).or_default();
        if own.requests >= self.requests_max {
            let message = format!("{holder} {} requests under way at this node, as many as may be", own.requests);
            return Err(overloaded(&message));
        }
        own.requests += 1;
        drop(taken);
        Ok(Share { shares: self.clone(), holder })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Arc<str>, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, holder: &Arc<str>, requests: usize, bytes: usize) {
        let mut taken = self.taken();
        let Some(own) = taken.get_mut(holder) else { return };
        own.requests = own.requests.saturating_sub(requests);
        own.bytes = own.bytes.saturating_sub(bytes);
        if own.requests == 0 && own.bytes == 0 {
            taken.remove(holder);
        }
    }
}

impl Share {
    /// What counts the bytes of its body.
    pub(crate) fn bytes(&self) -> ShareOfBytes {
        ShareOfBytes { shares: self.shares.clone(), holder: self.holder.clone(), bytes: 0 }
    }
}

impl ShareOfBytes {
    /// Counts so many bytes in all; more than before.
    ///
    /// # Errors
    /// `overloaded` if that is more than its holder may have here.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(self.bytes);
        let mut taken = self.shares.taken();
        let own = taken.entry(self.holder.clone()).or_default();
        if own.bytes.saturating_add(more) > self.shares.bytes_max {
            let message = format!("{} as many bytes of request bodies at this node as may be", self.holder);
            return Err(overloaded(&message));
        }
        own.bytes += more;
        drop(taken);
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.give_back(&self.holder, 1, 0);
    }
}

impl Drop for ShareOfBytes {
    fn drop(&mut self) {
        self.shares.give_back(&self.holder, 0, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use skein_catalog::Role;

    use super::*;

    fn shares(requests: usize, bytes: usize) -> Arc<Shares> {
        let mut config = GatewayConfig::new(([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into());
        (config.requests_max, config.body_bytes_max) = (requests, bytes);
        Shares::new(&config)
    }

    fn caller(id: &str, app: Option<&str>) -> KeyIdentity {
        KeyIdentity { id: id.to_owned(), role: Role::Invoke, app: app.map(|app| app.parse().unwrap()) }
    }

    fn message<T>(refused: Result<T, Refusal>) -> String {
        format!("{:?}", refused.err().unwrap())
    }

    #[test]
    fn one_app_has_half_of_the_requests_whatever_its_keys_are_called() {
        let shares = shares(4, 1 << 30);
        let (first, second) = (caller("a", Some("shop")), caller("b", Some("shop")));
        let held = [shares.request(&first).unwrap(), shares.request(&second).unwrap()];
        let said = message(shares.request(&first));
        assert!(said.contains("the keys of app `shop` have 2 requests under way"), "{said}");
        let other = [shares.request(&caller("c", None)).unwrap(), shares.request(&caller("c", None)).unwrap()];
        assert!(message(shares.request(&caller("c", None))).contains("key `c` has 2 requests"));
        drop(held);
        assert!(shares.request(&first).is_ok());
        drop(other);
        assert!(shares.taken().is_empty(), "nothing is kept of who has nothing");
    }

    #[test]
    fn one_app_has_half_of_the_bytes_and_gives_them_back() {
        let most = usize::try_from(Limits::ARTIFACT_BYTES_MAX).unwrap();
        let shares = shares(8, 2 * most);
        let share = shares.request(&caller("a", Some("shop"))).unwrap();
        let (mut first, mut second) = (share.bytes(), share.bytes());
        first.grow_to(most - 1).unwrap();
        second.grow_to(1).unwrap();
        second.grow_to(1).unwrap();
        assert!(message(second.grow_to(2)).contains("as many bytes of request bodies"));
        let other = shares.request(&caller("c", Some("other"))).unwrap();
        other.bytes().grow_to(most).unwrap();
        drop(first);
        second.grow_to(most).unwrap();
        drop((share, second, other));
        assert!(shares.taken().is_empty());
    }

    #[test]
    fn one_body_of_the_largest_size_always_fits() {
        let most = usize::try_from(Limits::ARTIFACT_BYTES_MAX).unwrap();
        let shares = shares(1, most);
        let share = shares.request(&caller("a", None)).unwrap();
        let mut bytes = share.bytes();
        bytes.grow_to(most).unwrap();
        assert!(bytes.grow_to(most + 1).is_err());
    }
}
