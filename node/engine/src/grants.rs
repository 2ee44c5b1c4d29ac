//! What a version's grants allow: asked by every host function that reaches out, and again by whoever reaches out for
//! it. Pure.

use skein_proto::{ErrorCode, Failure, FunctionRef, Grants, HttpGrant, InvokeGrant};
use url::{Host, Url};

/// By what an HTTP request is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLeave {
    /// True if a grant names this very host, and not only the domain it is below. Private addresses are reached by name
    /// only.
    pub is_named: bool,
}

/// The function that `reference` names, if `grants` allow a call of it.
///
/// # Errors
/// `bad-request` for what is no reference, `not-granted` with the grant that is missing. Nothing was executed.
pub fn invoke(grants: &Grants, reference: &str) -> Result<FunctionRef, Failure> {
    let parsed: FunctionRef =
        reference.parse().map_err(|error| Failure::not_executed(ErrorCode::BadRequest, format!("{error}")))?;
    let mut patterns = grants.invoke.iter().filter_map(|entry| entry.parse::<InvokeGrant>().ok());
    if patterns.any(|grant| grant.covers(&parsed.app, &parsed.name)) {
        return Ok(parsed);
    }
    let function = parsed.function();
    let message = format!("calling {function} is not granted: {}", advice("invoke", &function, &grants.invoke));
    Err(Failure::not_executed(ErrorCode::NotGranted, message))
}

/// The URL in `text`, if `grants` allow a request to its origin.
///
/// # Errors
/// As [`http_url`], and `bad-request` for what is no URL.
pub fn http(grants: &Grants, text: &str) -> Result<(Url, HttpLeave), Failure> {
    let url = Url::parse(text).map_err(|error| {
        let shown: String = text.chars().take(200).collect();
        Failure::not_executed(ErrorCode::BadRequest, format!("`{shown}` is not an absolute URL: {error}"))
    })?;
    let leave = http_url(grants, &url)?;
    Ok((url, leave))
}

/// Whether `grants` allow a request to the origin of `url`.
///
/// # Errors
/// `bad-request` for a URL with a user or of another scheme than `http` and `https`, `not-granted` with the grant that
/// is missing. Nothing was executed.
pub fn http_url(grants: &Grants, url: &Url) -> Result<HttpLeave, Failure> {
    let refuse = |message: String| Err(Failure::not_executed(ErrorCode::BadRequest, message));
    let (is_tls, usual) = match url.scheme() {
        "https" => (true, 443),
        "http" => (false, 80),
        other => return refuse(format!("requests go to `https:` and `http:` URLs, not to `{other}:`")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the URL names a user: send an `authorization` header instead".to_owned());
    }
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => format!("[{address}]"),
        None => return refuse("the URL names no host".to_owned()),
    };
    let port = url.port().unwrap_or(usual);
    let mut leave = None;
    for grant in grants.http.iter().filter_map(|entry| entry.parse::<HttpGrant>().ok()) {
        if grant.covers(is_tls, &host, port) {
            let is_named = !grant.is_below() || leave.is_some_and(|leave: HttpLeave| leave.is_named);
            leave = Some(HttpLeave { is_named });
        }
    }
    leave.ok_or_else(|| {
        let scheme = url.scheme();
        let origin = if port == usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") };
        let message = format!("requests to {origin} are not granted: {}", advice("http", &origin, &grants.http));
        Failure::not_executed(ErrorCode::NotGranted, message)
    })
}

/// What to write into function.toml.
fn advice(kind: &str, missing: &str, granted: &[String]) -> String {
    let known =
        if granted.is_empty() { "nothing is".to_owned() } else { format!("granted are {}", granted.join(", ")) };
    format!("{known}; add `{kind} = [\"{missing}\"]` to [grants] of function.toml and publish again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(invoke: &[&str], http: &[&str]) -> Grants {
        let owned = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect();
        Grants { invoke: owned(invoke), http: owned(http), ..Grants::default() }
    }

    fn calls(granted: &[&str], reference: &str, expected: &str) {
        let shown = match invoke(&grants(granted, &[]), reference) {
            Ok(reference) => reference.to_string(),
            Err(failure) => format!("{}: {failure}", failure.code),
        };
        assert!(shown.contains(expected), "{granted:?} {reference}: {shown}");
    }

    fn requests(granted: &[&str], url: &str, expected: &str) {
        let shown = match http(&grants(&[], granted), url) {
            Ok((url, leave)) => format!("{url} {}", if leave.is_named { "by name" } else { "below" }),
            Err(failure) => format!("{}: {failure}", failure.code),
        };
        assert!(shown.contains(expected), "{granted:?} {url}: {shown}");
    }

    #[test]
    fn a_call_is_granted_by_name_by_app_or_not_at_all() {
        calls(&["shop/price"], "shop/price@3", "shop/price@3");
        calls(&["shop/*"], "shop/cart:canary", "shop/cart:canary");
        calls(&["*"], "anything", "default/anything:live");
        calls(&[], "shop/price", "not-granted: calling shop/price is not granted: nothing is; add `invoke = [\"shop");
        calls(&["shop/*"], "shop2/price", "granted are shop/*; add");
        calls(&["*"], "Shop/price", "bad-request");
        calls(&["nonsense", "*/price"], "shop/price", "not-granted");
    }

    #[test]
    fn a_request_is_granted_by_its_origin() {
        let api = &["https://api.example.com"][..];
        requests(api, "https://api.example.com/v1?x=1", "https://api.example.com/v1?x=1 by name");
        requests(api, "HTTPS://API.EXAMPLE.COM:443/", "by name");
        requests(api, "http://api.example.com/", "requests to http://api.example.com are not granted");
        requests(api, "https://api.example.com:8443/", "add `http = [\"https://api.example.com:8443\"]`");
        requests(api, "https://api.example.com.evil.org/", "not-granted");
        requests(api, "https://api.example.com@evil.org/", "names a user");
        requests(api, "https://evil.org\\@api.example.com/", "not-granted");
        requests(api, "ftp://api.example.com/", "not to `ftp:`");
        requests(api, "/v1", "is not an absolute URL");
        requests(&[], "https://api.example.com", "nothing is");
    }

    #[test]
    fn a_grant_by_name_counts_more_than_one_for_what_is_below() {
        requests(&["https://*.example.com"], "https://a.example.com/", "below");
        requests(&["https://*.example.com", "https://a.example.com"], "https://a.example.com/", "by name");
        requests(&["https://a.example.com", "https://*.example.com"], "https://a.example.com/", "by name");
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        requests(&["http://127.0.0.1:8080"], "http://0x7f.1:8080/", "http://127.0.0.1:8080/ by name");
        requests(&["http://[::ffff:10.0.0.1]"], "http://[::ffff:a00:1]/", "by name");
        requests(&["https://*.example.com"], "https://2130706433/", "not-granted");
    }
}
