//! The patterns by which a version is granted what it may call and reach.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::{AppName, FunctionName};

/// One entry of `grants.invoke`: which functions may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeGrant {
    /// `app/name`: this function, at any version or alias.
    Function(AppName, FunctionName),
    /// `app/*`: every function of the app.
    App(AppName),
    /// `*`: every function there is.
    Any,
}

impl InvokeGrant {
    /// Whether the function `app/name` may be called by it.
    pub fn covers(&self, app: &AppName, name: &FunctionName) -> bool {
        match self {
            Self::Function(own, function) => own == app && function == name,
            Self::App(own) => own == app,
            Self::Any => true,
        }
    }
}

impl FromStr for InvokeGrant {
    type Err = String;

    /// # Errors
    /// What is wrong with the text, and the forms there are.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: String| format!("grants.invoke has `{}`: {why}", shown(text));
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some((app, name)) = text.split_once('/') else {
            return Err(refuse("write `app/name`, `app/*` or `*`".to_owned()));
        };
        let app: AppName = app.parse().map_err(|error| refuse(format!("{error}")))?;
        if name == "*" {
            return Ok(Self::App(app));
        }
        if name.contains(['@', ':']) {
            return Err(refuse("a grant is for a function, whatever its version: leave out `@` and `:`".to_owned()));
        }
        Ok(Self::Function(app, name.parse().map_err(|error| refuse(format!("{error}")))?))
    }
}

/// One entry of `grants.http`: an origin that requests may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    is_tls: bool,
    /// In lower case; a version 6 address in brackets.
    host: String,
    is_below: bool,
    port: u16,
}

impl HttpGrant {
    /// Whether it covers the origin. `host` is in lower case as a URL has it: internationalised names in ASCII,
    /// addresses in their one form, those of version 6 in brackets.
    pub fn covers(&self, is_tls: bool, host: &str, port: u16) -> bool {
        let is_host = if self.is_below {
            host.strip_suffix(self.host.as_str()).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
        } else {
            host == self.host
        };
        is_host && self.is_tls == is_tls && self.port == port
    }

    /// True for `*.host`, which names no host itself.
    pub fn is_below(&self) -> bool {
        self.is_below
    }
}

impl FromStr for HttpGrant {
    type Err = String;

    /// # Errors
    /// What is wrong with the text, and the forms there are.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| format!("grants.http has `{}`: {why}", shown(text));
        let (is_tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(refuse("write `https://host`, `https://host:port` or `https://*.host`")),
        };
        let (is_below, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        if rest.contains(['/', '?', '#', '@']) {
            return Err(refuse("a grant is for a whole origin: leave out path, query and user"));
        }
        let split_at = if rest.starts_with('[') { rest.find(']').map(|at| at + 1) } else { rest.find(':') };
        let (host, port) = rest.split_at(split_at.unwrap_or(rest.len()));
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| refuse("the port is no number"))?,
            None if port.is_empty() => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            None => return Err(refuse("after the address comes `:` and a port, or nothing")),
        };
        let host = canonical(host).map_err(refuse)?;
        if is_below && !host.bytes().any(|byte| byte == b'.') {
            return Err(refuse("`*.` before a top-level name grants too much: name a domain below it"));
        }
        if is_below && is_address(&host) {
            return Err(refuse("an address has nothing below it"));
        }
        Ok(Self { is_tls, host, is_below, port })
    }
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.is_tls { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}{}", if self.is_below { "*." } else { "" }, self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// The host as a URL has it; what a URL would write otherwise is refused, so that no pattern silently matches nothing.
fn canonical(host: &str) -> Result<String, &'static str> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        let address = address.ok_or("what is in brackets is no address of version 6")?;
        return Ok(format!("[{address}]"));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(address.to_string());
    }
    let host = host.to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err("the host has letters, digits, `-` and `.` only; write other letters as `xn--…`");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("write an address as four numbers, such as `10.0.0.7`");
    }
    Ok(host)
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()
}

/// The text as an error repeats it.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_function_an_app_or_everything_is_granted() {
        let check = |grant: &str, expected: [bool; 3]| {
            let grant: InvokeGrant = grant.parse().unwrap();
            let covers = |app: &str, name: &str| grant.covers(&app.parse().unwrap(), &name.parse().unwrap());
            assert_eq!([covers("shop", "price"), covers("shop", "cart"), covers("shop2", "price")], expected);
        };
        check("shop/price", [true, false, false]);
        check("shop/*", [true, true, false]);
        check("*", [true, true, true]);
    }

    #[test]
    fn what_is_no_grant_says_so() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<InvokeGrant>().unwrap_err();
            assert!(error.contains(expected) && error.contains("grants.invoke"), "{text}: {error}");
        };
        check("price", "`app/name`, `app/*` or `*`");
        check("", "`app/name`");
        check("*/price", "app name");
        check("shop/price@3", "leave out");
        check("shop/pr*", "function name");
    }

    fn http(grant: &str, is_tls: bool, host: &str, port: u16) -> bool {
        grant.parse::<HttpGrant>().unwrap().covers(is_tls, host, port)
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(http("https://api.example.com", true, "api.example.com", 443));
        assert!(http("https://API.Example.com:443", true, "api.example.com", 443));
        assert!(!http("https://api.example.com", false, "api.example.com", 80), "not in the clear");
        assert!(!http("https://api.example.com", true, "api.example.com", 8443));
        assert!(!http("https://api.example.com", true, "evil-api.example.com", 443));
        assert!(http("http://[::1]:8080", false, "[::1]", 8080));
        assert!(http("http://[0:0::1]", false, "[::1]", 80), "one form for one address");
    }

    #[test]
    fn a_star_grants_what_is_below_and_not_the_host_itself() {
        assert!(http("https://*.example.com", true, "a.example.com", 443));
        assert!(http("https://*.example.com", true, "a.b.example.com", 443));
        for host in ["example.com", ".example.com", "evilexample.com", "example.com.evil.org"] {
            assert!(!http("https://*.example.com", true, host, 443), "{host}");
        }
    }

    #[test]
    fn what_is_no_origin_says_so() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<HttpGrant>().unwrap_err();
            assert!(error.contains(expected) && error.contains("grants.http"), "{text}: {error}");
        };
        check("api.example.com", "write `https://host`");
        check("ftp://a.b", "write `https://host`");
        check("https://a.b/", "leave out path");
        check("https://u@a.b", "leave out path");
        check("https://a.b:0", "port");
        check("https://a.b:", "port");
        check("https://*", "letters, digits");
        check("https://*.com", "grants too much");
        check("https://*.10.0.0.7", "nothing below");
        check("https://a*.b", "letters, digits");
        check("https://bücher.example", "xn--");
        check("https://127.1", "four numbers");
        check("https://0x7f.0x1", "four numbers");
        check("https://[::1", "version 6");
        check("https://", "letters, digits");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_round_trips(text in "\\PC{0,60}", host in "[a-z0-9.:*-]{0,20}") {
            let _ = text.parse::<InvokeGrant>();
            for text in [text, format!("https://{host}"), format!("http://{host}")] {
                if let Ok(grant) = text.parse::<HttpGrant>() {
                    prop_assert_eq!(grant.to_string().parse::<HttpGrant>().unwrap(), grant);
                }
            }
        }
    }
}
