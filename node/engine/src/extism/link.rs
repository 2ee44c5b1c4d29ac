//! Makes host functions out of [`Host`]: only those that the module imports.

use wasmer::{Function, FunctionEnv, FunctionEnvMut, Store};

use super::{MODULE, USER_MODULE, functions::Level};
use crate::host::Host;

/// The host function `name` of `module`; `None` if there is no such function.
pub(crate) fn import(store: &mut Store, env: &FunctionEnv<Host>, module: &str, name: &str) -> Option<Function> {
    match module {
        MODULE => block_function(store, env, name).or_else(|| function(store, env, name)),
        USER_MODULE => service(store, env, name),
        _ => None,
    }
}

/// A host function from what it does to the host with its arguments.
macro_rules! host {
    ($store:expr, $env:expr, |$host:ident $(, $arg:ident: $ty:ty)*| $body:expr) => {
        Function::new_typed_with_env($store, $env, |mut env: FunctionEnvMut<'_, Host> $(, $arg: $ty)*| {
            let $host = env.data_mut();
            $body
        })
    };
}

/// What only touches blocks.
fn block_function(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    Some(match name {
        "alloc" => host!(store, env, |host, length: u64| host.extism_alloc(length)),
        "free" => host!(store, env, |host, handle: u64| host.extism_free(handle)),
        "length" | "length_unsafe" => host!(store, env, |host, handle: u64| host.plugin.blocks.length(handle)),
        "load_u8" => host!(store, env, |host, at: u64| u32::from(host.plugin.blocks.load_u8(at))),
        "load_u64" => host!(store, env, |host, at: u64| host.plugin.blocks.load_u64(at)),
        "store_u8" => host!(store, env, |host, at: u64, value: u32| host.plugin.blocks.store_u8(at, value as u8)),
        "store_u64" => host!(store, env, |host, at: u64, value: u64| host.plugin.blocks.store_u64(at, value)),
        "input_length" => host!(store, env, |host| {
            host.asked.input = true;
            host.plugin.input.length
        }),
        "input_offset" => host!(store, env, |host| {
            host.asked.input = true;
            host.plugin.input.at
        }),
        "input_load_u8" => host!(store, env, |host, offset: u64| {
            let at = host.plugin.input_at(offset, 1);
            at.map_or(0, |at| u32::from(host.plugin.blocks.load_u8(at)))
        }),
        "input_load_u64" => host!(store, env, |host, offset: u64| {
            let at = host.plugin.input_at(offset, 8);
            at.map_or(0, |at| host.plugin.blocks.load_u64(at))
        }),
        "input_set" => host!(store, env, |host, at: u64, length: u64| host.plugin.set_input(at, length)),
        "output_set" => host!(store, env, |host, at: u64, length: u64| host.extism_output_set(at, length)),
        "output_length" => host!(store, env, |host| host.plugin.output.region.length),
        "output_offset" => host!(store, env, |host| host.plugin.output.region.at),
        "error_set" => host!(store, env, |host, handle: u64| host.plugin.set_error(handle)),
        "error_get" => host!(store, env, |host| host.plugin.error()),
        "memory_bytes" => host!(store, env, |host| host.plugin.charged()),
        "reset" => host!(store, env, |host| host.extism_reset()),
        _ => return None,
    })
}

/// What concerns the call and the world.
fn function(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    Some(match name {
        "config_get" => host!(store, env, |host, key: u64| host.extism_config_get(key)),
        "var_get" => host!(store, env, |host, key: u64| host.extism_var_get(key)),
        "var_set" => host!(store, env, |host, key: u64, value: u64| host.extism_var_set(key, value)),
        "http_request" => host!(store, env, |host, request: u64, body: u64| host.extism_http_request(request, body)),
        "http_status_code" => host!(store, env, |host| host.extism_http_status_code()),
        "http_headers" => host!(store, env, |host| host.extism_http_headers()),
        "get_log_level" => host!(store, env, |host| host.extism_get_log_level()),
        "log_trace" => host!(store, env, |host, text: u64| host.extism_log(Level::Trace, text)),
        "log_debug" => host!(store, env, |host, text: u64| host.extism_log(Level::Debug, text)),
        "log_info" => host!(store, env, |host, text: u64| host.extism_log(Level::Info, text)),
        "log_warn" => host!(store, env, |host, text: u64| host.extism_log(Level::Warn, text)),
        "log_error" => host!(store, env, |host, text: u64| host.extism_log(Level::Error, text)),
        _ => return None,
    })
}

/// Skein's own.
fn service(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    Some(match name {
        "skein_invoke" => {
            host!(store, env, |host, function: u64, payload: u64| host.skein_invoke(function, payload, 0))
        }
        "skein_invoke_with" => {
            host!(store, env, |host, function: u64, payload: u64, options: u64| {
                host.skein_invoke(function, payload, options)
            })
        }
        "skein_error" => host!(store, env, |host| host.skein_error()),
        _ => return None,
    })
}
