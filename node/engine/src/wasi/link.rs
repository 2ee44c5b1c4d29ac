//! Makes host functions out of [`Host`]: only those that the module imports.

use wasmer::{Function, FunctionEnv, FunctionEnvMut, FunctionType, Store, Type, Value};

use super::{
    Errno, Fault, Halt,
    files::Advice,
    paths::{Location, Opening, RawTimes, Text},
    signature,
    streams::Buffers,
};
use crate::host::Host;

/// A host function of the arguments named, from the call of a method.
macro_rules! host {
    ($store:ident, $env:ident, |$host:ident $(, $arg:ident: $ty:ty)*| $call:expr) => {
        Function::new_typed_with_env($store, $env, |mut env: FunctionEnvMut<'_, Host> $(, $arg: $ty)*| {
            let $host = env.data_mut();
            answer($call)
        })
    };
}

/// The host function `name`; `None` if WASI has no such function.
pub(crate) fn import(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    if name.starts_with("path_") {
        path(store, env, name)
    } else if name.starts_with("fd_") {
        descriptor(store, env, name)
    } else {
        process(store, env, name)
    }
}

fn process(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    Some(match name {
        "args_get" => host!(store, env, |host, a: u32, b: u32| host.args_get(a, b)),
        "args_sizes_get" => host!(store, env, |host, a: u32, b: u32| host.args_sizes_get(a, b)),
        "clock_res_get" => host!(store, env, |host, a: u32, b: u32| host.clock_res_get(a, b)),
        "clock_time_get" => host!(store, env, |host, a: u32, b: u64, c: u32| host.clock_time_get(a, b, c)),
        "environ_get" => host!(store, env, |host, a: u32, b: u32| host.environ_get(a, b)),
        "environ_sizes_get" => host!(store, env, |host, a: u32, b: u32| host.environ_sizes_get(a, b)),
        "poll_oneoff" => host!(store, env, |host, a: u32, b: u32, c: u32, d: u32| host.poll_oneoff(a, b, c, d)),
        "proc_exit" => Function::new_typed(store, |code: i32| Err::<(), _>(Halt::Exit(code))),
        "proc_raise" => host!(store, env, |host, a: u32| host.proc_raise(a)),
        "random_get" => host!(store, env, |host, a: u32, b: u32| host.random_get(a, b)),
        "sched_yield" => host!(store, env, |host| host.sched_yield()),
        other => return socket(store, env, other),
    })
}

fn descriptor(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    Some(match name {
        "fd_advise" => host!(store, env, |host, fd: u32, offset: u64, length: u64, kind: u32| {
            host.fd_advise(fd, Advice { offset, length, kind })
        }),
        "fd_allocate" => host!(store, env, |host, fd: u32, a: u64, b: u64| host.fd_allocate(fd, a, b)),
        "fd_close" => host!(store, env, |host, fd: u32| host.fd_close(fd)),
        "fd_datasync" => host!(store, env, |host, fd: u32| host.fd_datasync(fd)),
        "fd_fdstat_get" => host!(store, env, |host, fd: u32, a: u32| host.fd_fdstat_get(fd, a)),
        "fd_fdstat_set_flags" => host!(store, env, |host, fd: u32, a: u32| host.fd_fdstat_set_flags(fd, a)),
        "fd_fdstat_set_rights" => {
            host!(store, env, |host, fd: u32, a: u64, b: u64| host.fd_fdstat_set_rights(fd, a, b))
        }
        "fd_filestat_get" => host!(store, env, |host, fd: u32, a: u32| host.fd_filestat_get(fd, a)),
        "fd_filestat_set_size" => host!(store, env, |host, fd: u32, a: u64| host.fd_filestat_set_size(fd, a)),
        "fd_filestat_set_times" => {
            host!(store, env, |host, fd: u32, accessed_ns: u64, modified_ns: u64, flags: u32| {
                host.fd_filestat_set_times(fd, RawTimes { accessed_ns, modified_ns, flags })
            })
        }
        "fd_pread" => host!(store, env, |host, fd: u32, at: u32, count: u32, offset: u64, result: u32| {
            host.fd_pread(fd, Buffers { at, count }, offset, result)
        }),
        "fd_prestat_dir_name" => {
            host!(store, env, |host, fd: u32, at: u32, length: u32| host.fd_prestat_dir_name(fd, Text { at, length }))
        }
        "fd_prestat_get" => host!(store, env, |host, fd: u32, a: u32| host.fd_prestat_get(fd, a)),
        "fd_pwrite" => host!(store, env, |host, fd: u32, at: u32, count: u32, offset: u64, result: u32| {
            host.fd_pwrite(fd, Buffers { at, count }, offset, result)
        }),
        "fd_read" => host!(store, env, |host, fd: u32, at: u32, count: u32, result: u32| {
            host.fd_read(fd, Buffers { at, count }, result)
        }),
        "fd_readdir" => host!(store, env, |host, fd: u32, at: u32, length: u32, cookie: u64, result: u32| {
            host.fd_readdir(fd, Text { at, length }, cookie, result)
        }),
        "fd_renumber" => host!(store, env, |host, from: u32, to: u32| host.fd_renumber(from, to)),
        "fd_seek" => host!(store, env, |host, fd: u32, a: u64, b: u32, c: u32| host.fd_seek(fd, a, b, c)),
        "fd_sync" => host!(store, env, |host, fd: u32| host.fd_sync(fd)),
        "fd_tell" => host!(store, env, |host, fd: u32, a: u32| host.fd_tell(fd, a)),
        "fd_write" => host!(store, env, |host, fd: u32, at: u32, count: u32, result: u32| {
            host.fd_write(fd, Buffers { at, count }, result)
        }),
        _ => return None,
    })
}

fn path(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    Some(match name {
        "path_create_directory" => {
            host!(store, env, |host, fd: u32, at: u32, n: u32| host.path_create_directory(location(fd, at, n)))
        }
        "path_filestat_get" => host!(store, env, |host, fd: u32, lookup: u32, at: u32, n: u32, result: u32| {
            host.path_filestat_get(location(fd, at, n), lookup, result)
        }),
        "path_filestat_set_times" => {
            host!(store, env, |host,
                               fd: u32,
                               lookup: u32,
                               at: u32,
                               n: u32,
                               accessed_ns: u64,
                               modified_ns: u64,
                               flags: u32| {
                let times = RawTimes { accessed_ns, modified_ns, flags };
                host.path_filestat_set_times(location(fd, at, n), lookup, times)
            })
        }
        "path_link" => {
            host!(store, env, |host, old_fd: u32, lookup: u32, old_at: u32, old_n: u32, fd: u32, at: u32, n: u32| {
                host.path_link(location(old_fd, old_at, old_n), lookup, location(fd, at, n))
            })
        }
        "path_open" => host!(store, env, |host,
                                          fd: u32,
                                          lookup: u32,
                                          at: u32,
                                          n: u32,
                                          how: u32,
                                          base: u64,
                                          inheriting: u64,
                                          flags: u32,
                                          result: u32| {
            host.path_open(location(fd, at, n), Opening { lookup, how, base, inheriting, flags }, result)
        }),
        "path_readlink" => {
            host!(store, env, |host, fd: u32, at: u32, n: u32, target: u32, length: u32, result: u32| {
                host.path_readlink(location(fd, at, n), Text { at: target, length }, result)
            })
        }
        "path_remove_directory" => {
            host!(store, env, |host, fd: u32, at: u32, n: u32| host.path_remove_directory(location(fd, at, n)))
        }
        "path_rename" => {
            host!(store, env, |host, old_fd: u32, old_at: u32, old_n: u32, fd: u32, at: u32, n: u32| {
                host.path_rename(location(old_fd, old_at, old_n), location(fd, at, n))
            })
        }
        "path_symlink" => {
            host!(store, env, |host, target_at: u32, target_n: u32, fd: u32, at: u32, n: u32| {
                host.path_symlink(Text { at: target_at, length: target_n }, location(fd, at, n))
            })
        }
        "path_unlink_file" => {
            host!(store, env, |host, fd: u32, at: u32, n: u32| host.path_unlink_file(location(fd, at, n)))
        }
        _ => return None,
    })
}

fn location(fd: u32, at: u32, length: u32) -> Location {
    Location { fd, path: Text { at, length } }
}

/// A function of sockets, of which there are none: it only says what its descriptor is instead.
fn socket(store: &mut Store, env: &FunctionEnv<Host>, name: &str) -> Option<Function> {
    let params = signature(name)?.params.chars().map(|letter| if letter == 'I' { Type::I64 } else { Type::I32 });
    let ty = FunctionType::new(params.collect::<Vec<_>>(), [Type::I32]);
    Some(Function::new_with_env(store, env, ty, move |env: FunctionEnvMut<'_, Host>, args: &[Value]| {
        let fd = args.first().and_then(Value::i32).unwrap_or(-1);
        let errno = env.data().files.get(fd.cast_unsigned()).map_or_else(|errno| errno, |_| Errno::NOTSOCK);
        Ok(vec![Value::I32(i32::from(errno.0))])
    }))
}

fn answer(result: Result<(), Fault>) -> Result<i32, Halt> {
    match result {
        Ok(()) => Ok(i32::from(Errno::SUCCESS.0)),
        Err(Fault::Errno(errno)) => Ok(i32::from(errno.0)),
        Err(Fault::Halt(halt)) => Err(halt),
    }
}
