//! The environment a guest sees: its grants, the caller's headers, and Skein's own variables.
//!
//! | variable | value |
//! | --- | --- |
//! | `HTTP_X_FOO` | the caller's header `X-Foo`, named as in CGI (RFC 3875, section 4.1.18) |
//! | `CURRENCY`… | `grants.env` of the manifest, as written; wins over a header of the same name |
//! | `SKEIN_INVOCATION` | the invocation's id |
//! | `SKEIN_FUNCTION`, `SKEIN_VERSION` | `app/name`, and the version's number |
//! | `SKEIN_DEADLINE_MS` | milliseconds the call has left when it starts |
//! | `TRACEPARENT` | the W3C trace context to go on with, if the caller sent one |

use std::{collections::BTreeMap, time::Duration};

use skein_engine::ModuleReport;
use skein_proto::{ErrorCode, Failure, Invocation, Manifest, VersionId};

/// Whether a module can look at its environment: commands and reactors by two functions of WASI, other hosts in ways of
/// their own. For one that cannot, none is made.
pub(crate) fn is_seen(report: &ModuleReport) -> bool {
    const WASI: &str = "wasi_snapshot_preview1.";
    let looks = |import: &String| import.strip_prefix(WASI).is_none_or(|name| name.starts_with("environ_"));
    report.imports.iter().any(looks)
}

/// The variables for one call, by name. Pure.
///
/// # Errors
/// `too-large` or `bad-request`, both not executed, for headers that no environment can hold.
pub(crate) fn environment(
    invocation: &Invocation,
    version: VersionId,
    manifest: &Manifest,
    remaining: Duration,
) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = BTreeMap::new();
    for (name, value) in &*invocation.headers {
        if let Some(variable) = header_variable(name) {
            // A header that is sent twice is one list (RFC 9110, section 5.3).
            let joined = variables.entry(variable).or_insert_with(String::new);
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(value);
        }
    }
    for (name, value) in &manifest.grants.env {
        variables.insert(name.clone(), value.clone());
    }
    for (name, value) in [
        ("SKEIN_INVOCATION", invocation.id.to_string()),
        ("SKEIN_FUNCTION", format!("{}/{}", manifest.app, manifest.name)),
        ("SKEIN_VERSION", version.number.to_string()),
        ("SKEIN_DEADLINE_MS", remaining.as_millis().to_string()),
    ] {
        variables.insert(name.to_owned(), value);
    }
    if let Some(traceparent) = &invocation.traceparent {
        variables.insert("TRACEPARENT".to_owned(), traceparent.to_string());
    }
    check(&variables)?;
    Ok(variables.into_iter().collect())
}

/// `X-Foo` as `HTTP_X_FOO`; none for headers that must not reach a guest.
fn header_variable(name: &str) -> Option<String> {
    // A credential for the mesh is not the function's business, and `HTTP_PROXY` would redirect the guest's own
    // requests wherever a caller likes (CVE-2016-5385).
    if HIDDEN.iter().any(|hidden| name.eq_ignore_ascii_case(hidden)) || name.is_empty() {
        return None;
    }
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    Some("HTTP_".chars().chain(upper).collect())
}

fn check(variables: &BTreeMap<String, String>) -> Result<(), Failure> {
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if bytes > ENVIRONMENT_BYTES_MAX {
        let message =
            format!("headers and grants take {bytes} bytes; at most {ENVIRONMENT_BYTES_MAX} reach a function");
        return Err(Failure::not_executed(ErrorCode::TooLarge, message));
    }
    match variables.iter().find(|(name, value)| name.contains(['\0', '=']) || value.contains('\0')) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("`{}` cannot be an environment variable: it has a NUL or `=`", name.escape_debug());
            Err(Failure::not_executed(ErrorCode::BadRequest, message))
        }
    }
}

const HIDDEN: [&str; 3] = ["authorization", "proxy-authorization", "proxy"];

/// Most bytes of environment: what Linux allows one string of it, and more than any gateway lets through.
const ENVIRONMENT_BYTES_MAX: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use skein_proto::FunctionId;

    fn check(headers: &[(&str, &str)], grants: &[(&str, &str)], expected: &str) {
        let mut invocation = Invocation::new("shop/price".parse().unwrap(), Bytes::new(), Instant::now());
        invocation.headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        invocation.traceparent = Some("00-1-2-01".into());
        let mut manifest = Manifest::named("shop".parse().unwrap(), "price".parse().unwrap());
        manifest.grants.env = grants.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let version = VersionId { function: FunctionId(1), number: 3 };
        let shown = match environment(&invocation, version, &manifest, Duration::from_millis(250)) {
            Ok(variables) => variables.iter().map(|(name, value)| format!("{name}={value};")).collect(),
            Err(failure) => format!("{}: {failure}", failure.code),
        };
        let shown = shown.replace(&invocation.id.to_string(), "ID");
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn the_call_itself_is_described() {
        let own = "SKEIN_DEADLINE_MS=250;SKEIN_FUNCTION=shop/price;SKEIN_INVOCATION=ID;SKEIN_VERSION=3;";
        check(&[], &[], own);
        check(&[], &[], "TRACEPARENT=00-1-2-01;");
    }

    #[test]
    fn headers_are_named_as_in_cgi_and_repeated_ones_joined() {
        check(&[("X-Foo", "1"), ("x-foo", "2")], &[], "HTTP_X_FOO=1, 2;");
        check(&[("content-type", "a/b")], &[], "HTTP_CONTENT_TYPE=a/b;");
    }

    #[test]
    fn neither_credentials_nor_a_proxy_reach_the_guest() {
        check(&[("Authorization", "Bearer k"), ("Proxy", "evil"), ("A", "1")], &[], "HTTP_A=1;SKEIN_DEADLINE_MS");
    }

    #[test]
    fn grants_win_over_headers_and_nothing_wins_over_skein() {
        check(&[("mode", "caller")], &[("HTTP_MODE", "granted")], "HTTP_MODE=granted;");
        check(&[], &[("SKEIN_VERSION", "9")], "SKEIN_VERSION=3;");
    }

    #[test]
    fn what_no_environment_can_hold_is_refused() {
        check(&[("a", "b\0c")], &[], "bad-request: `HTTP_A`");
        check(&[], &[("a=b", "c")], "bad-request: `a=b`");
        let huge = "x".repeat(ENVIRONMENT_BYTES_MAX);
        check(&[("a", &huge)], &[], "too-large");
    }
}
