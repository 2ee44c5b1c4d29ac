//! Which function a path names: `/fn/{app}/{name}[@version|:alias][/rest…]`.

use percent_encoding::percent_decode_str;
use skein_proto::{ErrorCode, Failure, FunctionRef};

/// A call's path, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallPath {
    /// The function.
    pub(crate) reference: FunctionRef,
    /// What follows it, from its `/` on, as it was sent: an encoded slash stays encoded, so that a function sees the
    /// path its caller wrote. `/` if nothing follows.
    pub(crate) rest: String,
}

/// Takes a path apart. The two segments that name the function are percent-decoded once; what they then hold must be
/// a reference, so no encoding can smuggle in a slash, a dot segment or a control character.
///
/// # Errors
/// `bad-request`, `not-executed`.
pub(crate) fn parse(path: &str) -> Result<CallPath, Failure> {
    let refuse = |why: String| Failure::not_executed(ErrorCode::BadRequest, why);
    let form = "a call's path is `/fn/APP/NAME`, then `@VERSION` or `:ALIAS` and `/REST` as needed";
    let rest = path.strip_prefix("/fn/").ok_or_else(|| refuse(form.to_owned()))?;
    let (app, rest) = rest.split_once('/').ok_or_else(|| refuse(form.to_owned()))?;
    let (name, rest) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let decode = |segment| {
        let text = percent_decode_str(segment).decode_utf8().ok().filter(|text| !text.contains('/'));
        text.ok_or_else(|| refuse(form.to_owned()))
    };
    let text = [&*decode(app)?, "/", &*decode(name)?].concat();
    let reference = text.parse().map_err(|error: skein_proto::ParseError| refuse(error.to_string()))?;
    Ok(CallPath { reference, rest: rest.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, expected: &str) {
        let shown = match parse(path) {
            Ok(call) => format!("{} {}", call.reference, call.rest),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expected), "{path}: {shown}");
    }

    #[test]
    fn a_path_names_a_function_and_the_rest_stays_as_sent() {
        check("/fn/shop/price", "shop/price:live /");
        check("/fn/shop/price/", "shop/price:live /");
        check("/fn/shop/price@3", "shop/price@3 /");
        check("/fn/shop/price:canary/a/b", "shop/price:canary /a/b");
        check("/fn/shop/price%403", "shop/price@3 /");
        check("/fn/shop/price%3Acanary/a%2Fb/../c", "shop/price:canary /a%2Fb/../c");
        check("/fn/sh%6Fp/price", "shop/price:live /");
    }

    #[test]
    fn what_is_no_reference_is_a_bad_request() {
        for path in [
            "/fn/",
            "/fn/price",
            "/fn//price",
            "/fn/shop/",
            "/fn/shop//x",
            "/fn/shop%2Fprice",
            "/fn/shop%2Fprice/x",
            "/fn/shop/price%2Fx",
            "/fn/%2e%2e/price",
            "/fn/shop/%00",
            "/fn/shop/%ff",
            "/fn/shop/price%2540",
            "/fn/shop/price@0",
            "/fn/Shop/price",
            "/other",
            "",
        ] {
            check(path, "bad-request: ");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_a_call_or_a_refusal(path in "(/fn/)?[a-c/%@:.0-9\\PC]{0,60}") {
            match parse(&path) {
                Ok(call) => {
                    prop_assert!(call.rest.starts_with('/'));
                    let again = parse(&format!("/fn/{}{}", call.reference, call.rest)).unwrap();
                    prop_assert_eq!(again, call);
                }
                Err(failure) => prop_assert_eq!(failure.code, ErrorCode::BadRequest),
            }
        }
    }
}
