//! Calling a plug-in's functions.

use wasmer::{Instance, RuntimeError, Store, Type, Value};

use super::{Initialiser, initialisers};

/// Prepares an instance for its first call, by what its toolchain made for that.
pub(crate) fn initialise(store: &mut Store, instance: &Instance) -> Result<(), RuntimeError> {
    for initialiser in of_instance(store, instance) {
        let (name, arguments) = match initialiser {
            Initialiser::Plain(name) => (name, &[][..]),
            Initialiser::Haskell => ("hs_init", &[Value::I32(0), Value::I32(0)][..]),
        };
        if let Ok(function) = instance.exports.get_function(name) {
            function.call(store, arguments)?;
        }
    }
    Ok(())
}

fn of_instance(store: &Store, instance: &Instance) -> Vec<Initialiser> {
    initialisers(|name| {
        let ty = instance.exports.get_function(name).ok()?.ty(store);
        Some((letters(ty.params()), letters(ty.results())))
    })
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

/// Calls the export `entry`: the number it returns, 0 if it returns none.
pub(crate) fn call(store: &mut Store, instance: &Instance, entry: &str) -> Result<i32, RuntimeError> {
    if let Ok(function) = instance.exports.get_typed_function::<(), i32>(store, entry) {
        return function.call(store);
    }
    // The inspection lets no other type through.
    let function = instance.exports.get_typed_function::<(), ()>(store, entry);
    function.map_err(|error| RuntimeError::new(format!("{entry}: {error}")))?.call(store).map(|()| 0)
}
