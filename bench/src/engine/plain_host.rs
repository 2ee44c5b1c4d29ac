//! As much of WASI preview 1, and of the Extism ABI, as the guests of the benchmarks use, for plain wasmer. Memory is
//! read and written by wasmer's safe views.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use wasmer::{ExternType, Function, FunctionEnv, FunctionEnvMut, Memory, RuntimeError, Store};

const WASI: &str = "wasi_snapshot_preview1";
const EXTISM: &str = "extism:host/env";
const OK: i32 = 0;
const EBADF: i32 = 8;
const EFAULT: i32 = 21;
const ESPIPE: i32 = 70;

/// What one call brings and leaves.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// The guest's.
    pub(crate) memory: Option<Memory>,
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
    /// Extism's own memory: the guest copies to and from it.
    blocks: Vec<u8>,
    random: u64,
}

/// The guest called `proc_exit`.
#[derive(Debug)]
pub(crate) struct Exit(pub(crate) i32);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Exit {}

impl Host {
    pub(crate) fn begin(&mut self, payload: &str) {
        self.input.clear();
        self.input.extend_from_slice(payload.as_bytes());
        self.at = 0;
        self.output.clear();
        self.blocks.clear();
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

type Env<'a> = FunctionEnvMut<'a, Host>;

fn get(env: &Env<'_>, memory: &Memory, at: u32) -> Option<u32> {
    let mut bytes = [0; 4];
    memory.view(env).read(at.into(), &mut bytes).ok()?;
    Some(u32::from_le_bytes(bytes))
}

fn put(env: &Env<'_>, memory: &Memory, at: u32, value: &[u8]) -> Option<()> {
    memory.view(env).write(at.into(), value).ok()
}

fn put_alone(env: &Env<'_>, at: u32, value: &[u8]) -> i32 {
    let memory = env.data().memory.clone();
    memory.and_then(|memory| put(env, &memory, at, value)).map_or(EFAULT, |()| OK)
}

fn try_read(env: &mut Env<'_>, vectors: u32, count: u32, done: u32) -> Option<i32> {
    let memory = env.data().memory.clone()?;
    let mut total = 0_u32;
    for vector in 0..count {
        let (at, length) = (get(env, &memory, vectors + 8 * vector)?, get(env, &memory, vectors + 8 * vector + 4)?);
        let rest = &env.data().input[env.data().at..];
        let taken = rest.len().min(length as usize);
        memory.view(env).write(at.into(), &rest[..taken]).ok()?;
        env.data_mut().at += taken;
        total += taken as u32;
    }
    put(env, &memory, done, &total.to_le_bytes())?;
    Some(OK)
}

fn read(mut env: Env<'_>, fd: i32, vectors: u32, count: u32, done: u32) -> i32 {
    if fd == 0 { try_read(&mut env, vectors, count, done).unwrap_or(EFAULT) } else { EBADF }
}

fn try_write(env: &mut Env<'_>, fd: i32, (vectors, count): (u32, u32), done: u32) -> Option<i32> {
    let memory = env.data().memory.clone()?;
    let mut total = 0_u32;
    for vector in 0..count {
        let (at, length) = (get(env, &memory, vectors + 8 * vector)?, get(env, &memory, vectors + 8 * vector + 4)?);
        if fd == 1 {
            let (host, store) = env.data_and_store_mut();
            let begin = host.output.len();
            host.output.resize(begin + length as usize, 0);
            memory.view(&store).read(at.into(), &mut host.output[begin..]).ok()?;
        }
        total += length;
    }
    put(env, &memory, done, &total.to_le_bytes())?;
    Some(OK)
}

fn write(mut env: Env<'_>, fd: i32, vectors: u32, count: u32, done: u32) -> i32 {
    if (1..=2).contains(&fd) { try_write(&mut env, fd, (vectors, count), done).unwrap_or(EFAULT) } else { EBADF }
}

/// Two zeros: no arguments, no environment.
fn sizes(env: Env<'_>, count: u32, bytes_total: u32) -> i32 {
    put_alone(&env, count, &[0; 4]).max(put_alone(&env, bytes_total, &[0; 4]))
}

fn random(mut env: Env<'_>, at: u32, length: u32) -> i32 {
    let mut bytes = vec![0; length as usize];
    let host = env.data_mut();
    for byte in &mut bytes {
        host.random = host.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (host.random >> 56) as u8;
    }
    put_alone(&env, at, &bytes)
}

fn time(env: Env<'_>, _: i32, _: i64, at: u32) -> i32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    put_alone(&env, at, &now.to_le_bytes())
}

/// A stream of unknown type with all rights.
fn fdstat(env: Env<'_>, fd: i32, at: u32) -> i32 {
    let mut stat = [0; 24];
    stat[8..].fill(0xFF);
    if (0..=2).contains(&fd) { put_alone(&env, at, &stat) } else { EBADF }
}

fn exit(_: Env<'_>, code: i32) -> Result<(), RuntimeError> {
    Err(RuntimeError::user(Box::new(Exit(code))))
}

fn load<const N: usize>(host: &Host, at: u64) -> [u8; N] {
    let at = at as usize;
    host.input.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn alloc(mut env: Env<'_>, length: u64) -> u64 {
    let blocks = &mut env.data_mut().blocks;
    let at = blocks.len();
    blocks.resize(at + length as usize, 0);
    at as u64
}

fn output_set(mut env: Env<'_>, at: u64, length: u64) {
    let host = env.data_mut();
    host.output = host.blocks[at as usize..(at + length) as usize].to_vec();
}

/// What a module imports. What is not known traps when it is called.
pub(crate) fn function(
    store: &mut Store,
    host: &FunctionEnv<Host>,
    module: &str,
    name: &str,
    ty: &ExternType,
) -> Result<Function> {
    macro_rules! typed {
        ($function:expr) => {
            Function::new_typed_with_env(store, host, $function)
        };
    }
    Ok(match (module, name) {
        (WASI, "fd_read") => typed!(read),
        (WASI, "fd_write") => typed!(write),
        (WASI, "args_sizes_get" | "environ_sizes_get") => typed!(sizes),
        (WASI, "args_get" | "environ_get") => typed!(|_: Env<'_>, _: i32, _: i32| OK),
        (WASI, "random_get") => typed!(random),
        (WASI, "clock_time_get") => typed!(time),
        (WASI, "fd_fdstat_get") => typed!(fdstat),
        (WASI, "fd_fdstat_set_flags") => typed!(|_: Env<'_>, _: i32, _: i32| OK),
        (WASI, "fd_prestat_get") => typed!(|_: Env<'_>, _: i32, _: i32| EBADF),
        (WASI, "fd_seek") => typed!(|_: Env<'_>, _: i32, _: i64, _: i32, _: i32| ESPIPE),
        (WASI, "fd_close") => typed!(|_: Env<'_>, _: i32| OK),
        (WASI, "sched_yield") => typed!(|_: Env<'_>| OK),
        (WASI, "proc_exit") => typed!(exit),
        (EXTISM, "input_length") => typed!(|env: Env<'_>| env.data().input.len() as u64),
        (EXTISM, "input_load_u8") => typed!(|env: Env<'_>, at: u64| u32::from(load::<1>(env.data(), at)[0])),
        (EXTISM, "input_load_u64") => typed!(|env: Env<'_>, at: u64| u64::from_le_bytes(load(env.data(), at))),
        (EXTISM, "alloc") => typed!(alloc),
        (EXTISM, "store_u8") => {
            typed!(|mut env: Env<'_>, at: u64, value: u32| env.data_mut().blocks[at as usize] = value as u8)
        }
        (EXTISM, "store_u64") => typed!(|mut env: Env<'_>, at: u64, value: u64| {
            env.data_mut().blocks[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
        }),
        (EXTISM, "output_set") => typed!(output_set),
        _ => {
            let ExternType::Function(ty) = ty else { bail!("{module}.{name} is no function") };
            let missing = format!("{module}.{name} is not there");
            Function::new(store, ty, move |_| Err(RuntimeError::new(missing.clone())))
        }
    })
}
