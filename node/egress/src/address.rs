//! Which addresses are the world's, and which are the node's own neighbourhood.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Whether an address belongs to the machine, its networks, or nobody: what a name of the public world must not lead
/// to (server-side request forgery).
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped, compatible, translated: an address of version 4 in another form. The first two hold ::1 and :: too.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo, ORCHID, documentation, local translation.
        [0x2001, 0 | 0x10..=0x2f | 0xdb8, ..] | [0x64, 0xff9b, 1, ..] => true,
        // Unique local, link and site local, multicast; the rest of what is not global unicast.
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

/// A name that leads to private addresses only, for a request that may not go there.
#[derive(Debug)]
pub(crate) struct PrivateName(pub(crate) String);

impl fmt::Display for PrivateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has private addresses only", self.0)
    }
}

impl Error for PrivateName {}

/// Turns names into addresses.
#[derive(Clone)]
pub(crate) enum Lookup {
    /// As the machine does.
    System,
    /// As a test says.
    #[cfg(test)]
    Fixed(std::collections::HashMap<String, Vec<SocketAddr>>),
}

impl Lookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, 0)).await?.collect()),
            #[cfg(test)]
            Self::Fixed(known) => known.get(name).cloned().ok_or_else(|| io::Error::other("no such name")),
        }
    }
}

/// Resolves names, and with `is_guarded` drops private addresses: here, where the connection is made, so that no second
/// look at the name can give another answer.
pub(crate) struct Resolver {
    pub(crate) lookup: Arc<Lookup>,
    pub(crate) is_guarded: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, is_guarded) = (Arc::clone(&self.lookup), self.is_guarded);
        Box::pin(async move {
            let mut addresses = lookup.addresses(name.as_str()).await?;
            let found = addresses.len();
            addresses.retain(|address| !is_guarded || !is_private(address.ip()));
            if addresses.is_empty() && found > 0 {
                return Err(PrivateName(name.as_str().to_owned()).into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_private_in_whatever_form() {
        for text in [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "203.0.113.9",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_world_is_not_private() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860::8888",
        ] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
}
