//! Finds the host function for an import.

use wasmer::{Function, FunctionEnv, Store};

use crate::{extism, host::Host, wasi};

/// The host function `name` of the module `module`; `None` if there is none.
pub(crate) fn import(store: &mut Store, env: &FunctionEnv<Host>, module: &str, name: &str) -> Option<Function> {
    match module {
        wasi::MODULE => wasi::import(store, env, name),
        extism::MODULE | extism::USER_MODULE => extism::import(store, env, module, name),
        _ => None,
    }
}
