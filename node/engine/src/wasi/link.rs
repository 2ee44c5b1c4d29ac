//! Makes host functions out of [`Host`]: only those that the module imports.

use wasmer::{Function, FunctionEnv, FunctionEnvMut, FunctionType, Store, Type, Value};

use super::{Errno, Fault, Halt, signature};
use crate::host::Host;

/// The host function `name`; `None` if WASI has no such function.
pub(crate) fn import(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    macro_rules! host {
        ($method:ident $(, $arg:ident: $ty:ty)*) => {
            Function::new_typed_with_env(store, env, |mut env: FunctionEnvMut<'_, Host> $(, $arg: $ty)*| {
                answer(env.data_mut().$method($($arg),*))
            })
        };
    }
    Some(match name {
        "args_get" => host!(args_get, a: u32, b: u32),
        "args_sizes_get" => host!(args_sizes_get, a: u32, b: u32),
        "clock_res_get" => host!(clock_res_get, a: u32, b: u32),
        "clock_time_get" => host!(clock_time_get, a: u32, b: u64, c: u32),
        "environ_get" => host!(environ_get, a: u32, b: u32),
        "environ_sizes_get" => host!(environ_sizes_get, a: u32, b: u32),
        "fd_close" => host!(fd_close, a: u32),
        "fd_datasync" | "fd_sync" => host!(fd_sync, a: u32),
        "fd_fdstat_get" => host!(fd_fdstat_get, a: u32, b: u32),
        "fd_fdstat_set_flags" => host!(fd_fdstat_set_flags, a: u32, b: u32),
        "fd_filestat_get" => host!(fd_filestat_get, a: u32, b: u32),
        "fd_prestat_get" => host!(fd_prestat_get, a: u32, b: u32),
        "fd_read" => host!(fd_read, a: u32, b: u32, c: u32, d: u32),
        "fd_seek" => host!(fd_seek, a: u32, b: u64, c: u32, d: u32),
        "fd_tell" => host!(fd_tell, a: u32, b: u32),
        "fd_write" => host!(fd_write, a: u32, b: u32, c: u32, d: u32),
        "poll_oneoff" => host!(poll_oneoff, a: u32, b: u32, c: u32, d: u32),
        "proc_exit" => Function::new_typed(store, |code: i32| Err::<(), _>(Halt::Exit(code))),
        "proc_raise" => host!(proc_raise, a: u32),
        "random_get" => host!(random_get, a: u32, b: u32),
        "sched_yield" => host!(sched_yield),
        other => return refusal(store, env, other),
    })
}

fn answer(result: Result<(), Fault>) -> Result<i32, Halt> {
    match result {
        Ok(()) => Ok(i32::from(Errno::SUCCESS.0)),
        Err(Fault::Errno(errno)) => Ok(i32::from(errno.0)),
        Err(Fault::Halt(halt)) => Err(halt),
    }
}

/// A function that only says why it cannot.
fn refusal(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    let params = signature(name)?.params.chars().map(|letter| if letter == 'I' { Type::I64 } else { Type::I32 });
    let ty = FunctionType::new(params.collect::<Vec<_>>(), [Type::I32]);
    // The directory of `path_symlink` is its third argument; of all others it is the first.
    let fd_index = if name == "path_symlink" { 2 } else { 0 };
    let name = name.to_owned();
    Some(Function::new_with_env(store, env, ty, move |env: FunctionEnvMut<'_, Host>, args: &[Value]| {
        let fd = args.get(fd_index).and_then(Value::i32).unwrap_or(-1);
        let errno = env.data().refuse(&name, fd.cast_unsigned());
        Ok(vec![Value::I32(i32::from(errno.0))])
    }))
}
