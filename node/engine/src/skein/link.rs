//! Makes host functions out of [`Host`]: only those that the module imports.

use wasmer::{Function, FunctionEnv, FunctionEnvMut, Store};

use super::functions::Span;
use crate::host::Host;

/// The host function `name`; `None` if there is no such function.
pub(crate) fn import(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    macro_rules! host {
        (|$host:ident $(, $arg:ident: $ty:ty)*| $body:expr) => {
            Function::new_typed_with_env(store, env, |mut env: FunctionEnvMut<'_, Host> $(, $arg: $ty)*| {
                let $host = env.data_mut();
                $body
            })
        };
    }
    Some(match name {
        "log" => host!(|host, at: u32, length: u32| host.service_log(Span(at, length))),
        "output" => host!(|host, at: u32, length: u32| host.service_output(Span(at, length))),
        "fail" => host!(|host, at: u32, length: u32| host.service_fail(Span(at, length))),
        "invoke" => host!(|host, a: u32, b: u32, c: u32, d: u32, e: u32, f: u32| {
            host.service_invoke(Span(a, b), Span(c, d), Span(e, f))
        }),
        "http" => host!(|host, a: u32, b: u32, c: u32, d: u32| host.service_http(Span(a, b), Span(c, d))),
        "wait" => host!(|host, microseconds: i64| host.service_wait(microseconds)),
        "answer" => host!(|host, request: i32| host.service_answer(request)),
        "take" => host!(|host, request: i32, target: u32| host.service_take(request, target)),
        "cancel" => host!(|host, request: i32| host.requests.cancel(request)),
        _ => return None,
    })
}
