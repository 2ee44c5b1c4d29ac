//! Which of a module's exports prepare it for its first call, by Extism's rules.

/// What is to be called, once, before an instance's first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initialiser {
    /// An export that takes and returns nothing.
    Plain(&'static str),
    /// `hs_init`, with two zeros for the arguments that there are not.
    Haskell,
}

/// The initialisers of a module, in order. `export` gives the letters of an exported function's parameters and results.
///
/// Haskell's runtime is started by `hs_init`, after `_initialize`. Otherwise `__wasm_call_ctors` counts, and without
/// one `_initialize`; one of another type than `() -> ()` is not called, and nothing is in its place.
pub(crate) fn initialisers(export: impl Fn(&str) -> Option<(String, String)>) -> Vec<Initialiser> {
    let is_plain = |(params, results): (String, String)| params.is_empty() && results.is_empty();
    let plain = |name: &'static str| export(name).is_some_and(is_plain).then_some(Initialiser::Plain(name));
    if export("hs_init").is_some_and(|(params, _)| params == "ii") {
        return plain("_initialize").into_iter().chain([Initialiser::Haskell]).collect();
    }
    let name = if export("__wasm_call_ctors").is_some() { "__wasm_call_ctors" } else { "_initialize" };
    plain(name).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exports: &[(&str, &str, &str)], expected: &[Initialiser]) {
        let export = |name: &str| {
            let (_, params, results) = exports.iter().find(|(known, ..)| *known == name)?;
            Some(((*params).to_owned(), (*results).to_owned()))
        };
        assert_eq!(initialisers(export), expected, "{exports:?}");
    }

    #[test]
    fn each_toolchains_initialiser_is_called_and_only_that() {
        use Initialiser::{Haskell, Plain};
        check(&[("handle", "", "i")], &[]);
        check(&[("_initialize", "", "")], &[Plain("_initialize")]);
        check(&[("__wasm_call_ctors", "", ""), ("_initialize", "", "")], &[Plain("__wasm_call_ctors")]);
        check(&[("__wasm_call_ctors", "i", ""), ("_initialize", "", "")], &[]);
        check(&[("_initialize", "", "i")], &[]);
        check(&[("hs_init", "ii", ""), ("_initialize", "", "")], &[Plain("_initialize"), Haskell]);
        check(&[("hs_init", "ii", "i"), ("__wasm_call_ctors", "", "")], &[Haskell]);
    }
}
