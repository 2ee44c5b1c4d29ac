//! As much of WASI preview 1, and of the Extism ABI, as the guests of the benchmarks use.
//!
//! Three streams, clocks, random numbers, no files: what `wasmtime-wasi` does besides is left out in wasmtime's favour.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use wasmtime::{Caller, Engine, Extern, Linker};

const WASI: &str = "wasi_snapshot_preview1";
const EXTISM: &str = "extism:host/env";
const OK: i32 = 0;
const EBADF: i32 = 8;
const EFAULT: i32 = 21;
const ESPIPE: i32 = 70;

/// What one call brings and leaves.
#[derive(Debug, Default)]
pub(crate) struct Host {
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

/// The guest's memory beside the host.
fn memory<'a>(caller: &'a mut Caller<'_, Host>) -> Option<(&'a mut [u8], &'a mut Host)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return None };
    Some(memory.data_and_store_mut(caller))
}

fn get(bytes: &[u8], at: u32) -> Option<u32> {
    let at = at as usize;
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: u32, value: &[u8]) -> Option<()> {
    let at = at as usize;
    bytes.get_mut(at..at.checked_add(value.len())?)?.copy_from_slice(value);
    Some(())
}

fn errno(done: Option<i32>) -> i32 {
    done.unwrap_or(EFAULT)
}

fn read(mut caller: Caller<'_, Host>, fd: i32, vectors: u32, count: u32, done: u32) -> i32 {
    if fd != 0 {
        return EBADF;
    }
    let mut read = || {
        let (bytes, host) = memory(&mut caller)?;
        let mut total = 0_u32;
        for vector in 0..count {
            let (at, length) = (get(bytes, vectors + 8 * vector)?, get(bytes, vectors + 8 * vector + 4)?);
            let rest = &host.input[host.at..];
            let taken = rest.len().min(length as usize);
            put(bytes, at, &rest[..taken])?;
            host.at += taken;
            total += taken as u32;
        }
        put(bytes, done, &total.to_le_bytes())?;
        Some(OK)
    };
    errno(read())
}

fn write(mut caller: Caller<'_, Host>, fd: i32, vectors: u32, count: u32, done: u32) -> i32 {
    if !(1..=2).contains(&fd) {
        return EBADF;
    }
    let mut write = || {
        let (bytes, host) = memory(&mut caller)?;
        let mut total = 0_u32;
        for vector in 0..count {
            let (at, length) = (get(bytes, vectors + 8 * vector)? as usize, get(bytes, vectors + 8 * vector + 4)?);
            let chunk = bytes.get(at..at.checked_add(length as usize)?)?;
            if fd == 1 {
                host.output.extend_from_slice(chunk);
            }
            total += length;
        }
        put(bytes, done, &total.to_le_bytes())?;
        Some(OK)
    };
    errno(write())
}

/// Two zeros: no arguments, no environment.
fn sizes(mut caller: Caller<'_, Host>, count: u32, bytes_total: u32) -> i32 {
    errno(memory(&mut caller).and_then(|(bytes, _)| {
        put(bytes, count, &[0; 4])?;
        put(bytes, bytes_total, &[0; 4])?;
        Some(OK)
    }))
}

fn random(mut caller: Caller<'_, Host>, at: u32, length: u32) -> i32 {
    errno(memory(&mut caller).and_then(|(bytes, host)| {
        let target = bytes.get_mut(at as usize..(at as usize).checked_add(length as usize)?)?;
        for byte in target {
            host.random = host.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (host.random >> 56) as u8;
        }
        Some(OK)
    }))
}

fn time(mut caller: Caller<'_, Host>, _: i32, _: i64, at: u32) -> i32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    errno(memory(&mut caller).and_then(|(bytes, _)| put(bytes, at, &now.to_le_bytes()).map(|()| OK)))
}

/// A stream of unknown type with all rights.
fn fdstat(mut caller: Caller<'_, Host>, fd: i32, at: u32) -> i32 {
    if !(0..=2).contains(&fd) {
        return EBADF;
    }
    let mut stat = [0; 24];
    stat[8..].fill(0xFF);
    errno(memory(&mut caller).and_then(|(bytes, _)| put(bytes, at, &stat).map(|()| OK)))
}

/// All that the guests import. What else a module imports traps when it is called.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    linker
        .func_wrap(WASI, "fd_read", read)?
        .func_wrap(WASI, "fd_write", write)?
        .func_wrap(WASI, "args_sizes_get", sizes)?
        .func_wrap(WASI, "environ_sizes_get", sizes)?
        .func_wrap(WASI, "args_get", |_: i32, _: i32| OK)?
        .func_wrap(WASI, "environ_get", |_: i32, _: i32| OK)?
        .func_wrap(WASI, "random_get", random)?
        .func_wrap(WASI, "clock_time_get", time)?
        .func_wrap(WASI, "fd_fdstat_get", fdstat)?
        .func_wrap(WASI, "fd_fdstat_set_flags", |_: i32, _: i32| OK)?
        .func_wrap(WASI, "fd_prestat_get", |_: i32, _: i32| EBADF)?
        .func_wrap(WASI, "fd_seek", |_: i32, _: i64, _: i32, _: i32| ESPIPE)?
        .func_wrap(WASI, "fd_close", |_: i32| OK)?
        .func_wrap(WASI, "sched_yield", || OK)?
        .func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(wasmtime::Error::from(Exit(code))) })?;
    extism(&mut linker)?;
    Ok(linker)
}

fn extism(linker: &mut Linker<Host>) -> Result<()> {
    fn load<const N: usize>(bytes: &[u8], at: u64) -> [u8; N] {
        let at = at as usize;
        bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
    }
    linker
        .func_wrap(EXTISM, "input_length", |caller: Caller<'_, Host>| caller.data().input.len() as u64)?
        .func_wrap(EXTISM, "input_load_u8", |caller: Caller<'_, Host>, at: u64| {
            u32::from(load::<1>(&caller.data().input, at)[0])
        })?
        .func_wrap(EXTISM, "input_load_u64", |caller: Caller<'_, Host>, at: u64| {
            u64::from_le_bytes(load(&caller.data().input, at))
        })?
        .func_wrap(EXTISM, "alloc", |mut caller: Caller<'_, Host>, length: u64| {
            let blocks = &mut caller.data_mut().blocks;
            let at = blocks.len();
            blocks.resize(at + length as usize, 0);
            at as u64
        })?
        .func_wrap(EXTISM, "store_u8", |mut caller: Caller<'_, Host>, at: u64, value: u32| {
            caller.data_mut().blocks[at as usize] = value as u8;
        })?
        .func_wrap(EXTISM, "store_u64", |mut caller: Caller<'_, Host>, at: u64, value: u64| {
            caller.data_mut().blocks[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
        })?
        .func_wrap(EXTISM, "output_set", |mut caller: Caller<'_, Host>, at: u64, length: u64| {
            let host = caller.data_mut();
            host.output = host.blocks[at as usize..(at + length) as usize].to_vec();
        })?;
    Ok(())
}
