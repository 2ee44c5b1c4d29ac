//! Where something listens, as people write it: `host:port`.
//!
//! The host is an IP address or a name. A name is looked up anew each time it is used, since what it stands for may move.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, Failure};

/// A host, by name or IP address, and a port. Text form: `localhost:7070`, `10.0.0.1:7070`, `[::1]:7070`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    Ip(IpAddr),
    Name(Box<str>),
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT, as in localhost:7070, 127.0.0.1:7070 or [::1]:7070")]
pub struct AddressError;

impl Address {
    /// Longest text form: a name of 253 bytes, a colon and a port.
    pub const TEXT_BYTES_MAX: usize = 259;

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same host at another port.
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// The IP address, if it is one and not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ip(ip) => Some(*ip),
            Host::Name(_) => None,
        }
    }

    /// What it stands for now: at least one, and a few at most.
    ///
    /// # Errors
    /// `unreachable`, `not-executed`, when the name is not known, or cannot be looked up now.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, Failure> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => name,
        };
        let unknown = |why: String| {
            Failure::not_executed(ErrorCode::Unreachable, format!("the name in {self} was not found: {why}"))
        };
        let found = tokio::net::lookup_host((&**name, self.port)).await.map_err(|error| unknown(error.to_string()))?;
        let found: Vec<SocketAddr> = found.take(RESOLVED_MAX).collect();
        if found.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(found) }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self { host: Host::Ip(addr.ip()), port: addr.port() }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(addr.into());
        }
        let (name, port) = text.rsplit_once(':').ok_or(AddressError)?;
        // `u16` takes a sign, an address does not.
        if !is_name(name) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError);
        }
        let port = port.parse().map_err(|_| AddressError)?;
        Ok(Self { host: Host::Name(name.into()), port })
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A host name (RFC 1123, section 2.1), and the underscores that some networks have in theirs. Not a number that looks
/// like a broken IP address: `127.0.0` is what somebody mistyped.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Most addresses of one name that are used: more are of no help in reaching one node.
const RESOLVED_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_names_or_ip_addresses_of_both_kinds() {
        for text in ["localhost:7070", "127.0.0.1:0", "[::1]:7070", "skein-0.skein.svc.cluster.local:7070", "my_host:1"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let long = format!("{}:1", "a".repeat(254));
        for text in
            ["", ":", "7070", ":7070", "localhost", "localhost:", "localhost:x", "localhost:+1", "a:65536", "::1:7070"]
                .into_iter()
                .chain(["127.0.0:1", "1:2", "-a:1", "a..b:1", "a b:1", "http://a:1", &long])
        {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_an_ip_address_is_what_it_is() {
        let local: Address = "localhost:7070".parse().unwrap();
        let found = local.resolve().await.unwrap();
        assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7070), "{found:?}");
        let ip: Address = "[::1]:7070".parse().unwrap();
        assert_eq!(ip.resolve().await.unwrap(), ["[::1]:7070".parse().unwrap()]);
        let unknown: Address = "no-such-host.invalid:1".parse().unwrap();
        assert_eq!(unknown.resolve().await.unwrap_err().code, ErrorCode::Unreachable);
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_reads_back_or_is_refused(text in "\\PC{0,40}|[a-z0-9.:\\[\\]-]{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(text.len() <= Address::TEXT_BYTES_MAX);
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
