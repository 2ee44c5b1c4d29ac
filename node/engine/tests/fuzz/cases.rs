//! Makes modules: changed ones, grown ones, and bytes that are none.

use arbitrary::Unstructured;
use bytes::Bytes;
use rand::{Rng, RngCore as _, rngs::StdRng};
use wasm_smith::{Config, Module};
use wasmparser::{Parser, Payload};

use crate::campaign::Mutate;

/// Longest module: larger ones take the time of many others.
const BYTES_MAX: usize = 64 << 10;

/// What may be imported by what is grown.
const IMPORTS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_renumber" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;

/// How what is grown is called.
const SHAPES: [&str; 3] = [
    r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
    r#"(module (func (export "_start")))"#,
    r#"(module (memory (export "memory") 1) (func (export "_initialize")) (func (export "handle")))"#,
];

/// The module of a case.
pub(crate) fn generate(rng: &mut StdRng, sources: &[Bytes], mutate: Option<Mutate>) -> Vec<u8> {
    let mut code = match rng.random_range(0..100) {
        0..20 => {
            let source = source(rng, sources);
            changed(rng, source)
        }
        20..45 => mutated(rng, sources, mutate),
        45..85 => grown(rng),
        85..94 => {
            let grown = grown(rng);
            changed(rng, grown)
        }
        94..98 => {
            let (mut head, tail) = (source(rng, sources), source(rng, sources));
            head.truncate(rng.random_range(8..=head.len().max(9)));
            head.extend_from_slice(&tail[rng.random_range(8.min(tail.len())..=tail.len())..]);
            head
        }
        _ => {
            let mut code = b"\0asm\x01\0\0\0".to_vec();
            code.extend(noise(rng, 256));
            code
        }
    };
    code.truncate(BYTES_MAX);
    code
}

fn source(rng: &mut StdRng, sources: &[Bytes]) -> Vec<u8> {
    sources[rng.random_range(0..sources.len())].to_vec()
}

fn noise(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(1..=length)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A valid module that differs from a hostile or grown one in what means something.
fn mutated(rng: &mut StdRng, sources: &[Bytes], mutate: Option<Mutate>) -> Vec<u8> {
    let mut code = if rng.random() { source(rng, sources) } else { grown(rng) };
    let Some(mutate) = mutate else { return changed_within(rng, code) };
    for _ in 0..rng.random_range(1..4) {
        code = mutate(&code, rng.next_u64()).unwrap_or(code);
    }
    code
}

/// Bytes that a change likes to write.
const EDGES: [u8; 8] = [0x00, 0x01, 0x0b, 0x40, 0x7f, 0x80, 0xfc, 0xff];

/// A few bytes otherwise, wherever; mostly within instructions and data, so that it may still be a module.
fn changed(rng: &mut StdRng, mut code: Vec<u8>) -> Vec<u8> {
    if rng.random_ratio(2, 3) {
        return changed_within(rng, code);
    }
    for _ in 0..rng.random_range(1..6) {
        if code.len() < 10 {
            break;
        }
        let at = rng.random_range(8..code.len());
        let end = (at + rng.random_range(1..16)).min(code.len());
        match rng.random_range(0..7) {
            0 => code[at] ^= 1 << rng.random_range(0..8),
            1 => code[at] = EDGES[rng.random_range(0..EDGES.len())],
            2 => code[at] = rng.random(),
            3 => code[at] = code[at].wrapping_add(if rng.random() { 1 } else { 0xff }),
            4 => {
                code.drain(at..end);
            }
            5 => {
                let piece = code[at..end].to_vec();
                code.splice(at..at, piece);
            }
            // The largest number there is, as long as it is written.
            _ => code[at..end].fill(0xff),
        }
    }
    code
}

/// A few bytes of its instructions, constants and data otherwise, and nothing longer or shorter.
fn changed_within(rng: &mut StdRng, mut code: Vec<u8>) -> Vec<u8> {
    let ranges: Vec<_> = Parser::new(0)
        .parse_all(&code)
        .map_while(Result::ok)
        .filter_map(|payload| match payload {
            Payload::CodeSectionEntry(body) => Some(body.range()),
            Payload::GlobalSection(section) => Some(section.range()),
            Payload::ElementSection(section) => Some(section.range()),
            Payload::DataSection(section) => Some(section.range()),
            Payload::TypeSection(section) => Some(section.range()),
            Payload::MemorySection(section) => Some(section.range()),
            Payload::TableSection(section) => Some(section.range()),
            _ => None,
        })
        .map(|range| range.start as usize..range.end as usize)
        .filter(|range| !range.is_empty())
        .collect();
    if ranges.is_empty() {
        return code;
    }
    for _ in 0..rng.random_range(1..4) {
        let range = ranges[rng.random_range(0..ranges.len())].clone();
        let at = rng.random_range(range);
        code[at] = match rng.random_range(0..4) {
            0 => EDGES[rng.random_range(0..EDGES.len())],
            1 => code[at].wrapping_add(if rng.random() { 1 } else { 0xff }),
            2 => code[at] ^ 1 << rng.random_range(0..7),
            // Another instruction of the same kind, as often as not.
            _ => code[at] ^ rng.random_range(0..8),
        };
    }
    code
}

/// A valid module of random instructions.
fn grown(rng: &mut StdRng) -> Vec<u8> {
    let bytes = [noise(rng, 4 << 10), noise(rng, 4 << 10)].concat();
    let has_all = rng.random_ratio(1, 20);
    let shape = rng.random_range(0..SHAPES.len());
    let config = Config {
        available_imports: wat::parse_str(IMPORTS).ok(),
        exports: wat::parse_str(SHAPES[shape]).ok(),
        // Besides the one that a shape wants.
        max_memories: usize::from(!SHAPES[shape].contains("memory")),
        max_imports: 10,
        max_instructions: rng.random_range(10..2_000),
        max_memory32_bytes: if rng.random_ratio(1, 20) { u64::from(u32::MAX) + 1 } else { 4 << 20 },
        max_tables: 4,
        max_table_elements: if rng.random_ratio(1, 8) { 1_000_000 } else { 1_000 },
        max_nesting_depth: if rng.random_ratio(1, 8) { 500 } else { 10 },
        custom_page_sizes_enabled: has_all,
        exceptions_enabled: has_all,
        gc_enabled: has_all,
        memory64_enabled: has_all,
        relaxed_simd_enabled: has_all,
        tail_call_enabled: has_all,
        threads_enabled: has_all,
        wide_arithmetic_enabled: has_all,
        compact_imports_enabled: false,
        ..Config::default()
    };
    // Too few random bytes for what the shape wants: as good a module as any.
    Module::new(config, &mut Unstructured::new(&bytes))
        .map_or_else(|_| b"\0asm\x01\0\0\0".to_vec(), |module| module.to_bytes())
}
