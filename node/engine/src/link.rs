//! Finds the host function for an import.

use wasmer::{Function, FunctionEnv, Store};

use crate::{extism, host::Host, skein, wasi};

/// The host function `name` of the module `module`; `None` if there is none.
pub(crate) fn import(store: &mut Store, env: &FunctionEnv<Host>, module: &str, name: &str) -> Option<Function> {
    match module {
        wasi::MODULE => wasi::import(store, env, name),
        extism::MODULE | extism::USER_MODULE => extism::import(store, env, module, name),
        skein::MODULE => skein::import(store, env, name),
        _ => None,
    }
}

/// What the host function `name` of `module` takes and returns, one letter each: `i` for a 32-bit, `I` for a 64-bit
/// integer; `None` if there is none.
pub(crate) fn signature(module: &str, name: &str) -> Option<(&'static str, &'static str)> {
    match module {
        wasi::MODULE => wasi::signature(name).map(|known| (known.params, if known.has_result { "i" } else { "" })),
        extism::MODULE | extism::USER_MODULE => extism::signature(module, name),
        skein::MODULE => skein::signature(name),
        _ => None,
    }
}
