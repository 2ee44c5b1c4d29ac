//! Which of a module's exports prepare it for its first call, by Extism's rules.

use wasmer::{Function, Instance, Store, Type};

/// What is to be called, once, before an instance's first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Initialiser {
    /// An export that takes and returns nothing.
    Plain(&'static str),
    /// `hs_init`, with two zeros for the arguments that there are not.
    Haskell,
}

/// The initialisers of an instance, in order, each with the number of zeros it takes.
pub(crate) fn initialisers(store: &Store, instance: &Instance) -> Vec<(Function, usize)> {
    let types = |name: &str| {
        let ty = instance.exports.get_function(name).ok()?.ty(store);
        Some((letters(ty.params()), letters(ty.results())))
    };
    let found = by_rule(types).into_iter().filter_map(|initialiser| {
        let (name, zeros) = match initialiser {
            Initialiser::Plain(name) => (name, 0),
            Initialiser::Haskell => ("hs_init", 2),
        };
        Some((instance.exports.get_function(name).ok()?.clone(), zeros))
    });
    found.collect()
}

/// As in the tables of functions: `i` and `I` for integers of 32 and 64 bits, `?` for anything else.
fn letters(types: &[Type]) -> String {
    let letter = |ty: &Type| match ty {
        Type::I32 => 'i',
        Type::I64 => 'I',
        _ => '?',
    };
    types.iter().map(letter).collect()
}

/// The initialisers of a module, in order. `export` gives the letters of an exported function's parameters and results.
///
/// Haskell's runtime is started by `hs_init`, after `_initialize`. Otherwise `__wasm_call_ctors` counts, and without
/// one `_initialize`; one of another type than `() -> ()` is not called, and nothing is in its place.
fn by_rule(export: impl Fn(&str) -> Option<(String, String)>) -> Vec<Initialiser> {
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
        assert_eq!(by_rule(export), expected, "{exports:?}");
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
