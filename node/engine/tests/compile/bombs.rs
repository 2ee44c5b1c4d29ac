//! Modules made to break the compiler: each is refused when it is looked at, or ends within the bounds of the compiler's
//! process as an error of the module. None harms the engine.

use std::time::Duration;

use tokio::time::Instant;

use skein_engine::{Engine, EngineError, Tiering};
use wasm_encoder::{
    CodeSection, ConstExpr, ElementSection, Elements, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, MemorySection, MemoryType, Module, RefType, TableSection, TableType, TypeSection,
    ValType,
};

use crate::support::{config, exits_with, prepare, worker};

const TIME_MAX: Duration = Duration::from_secs(3);
/// For the process to start and to be ended, on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

const I32: ValType = ValType::I32;

// Instructions, as bytes.
const BLOCK: [u8; 2] = [0x02, 0x40];
const LOOP: [u8; 2] = [0x03, 0x40];
const END: u8 = 0x0b;
const DROP: u8 = 0x1a;
const ZERO: [u8; 2] = [0x41, 0x00];
const ADD: u8 = 0x6a;

/// A module of one function, or of many.
#[derive(Default)]
struct Bomb {
    types: Vec<(Vec<ValType>, Vec<ValType>)>,
    bodies: Vec<(u32, Function)>,
    globals: Vec<ConstExpr>,
    elements: Option<(u32, u32)>,
}

impl Bomb {
    /// One function of no parameters, with these locals and this body, which ends itself.
    fn body(locals: u32, body: Vec<u8>) -> Vec<u8> {
        let mut bomb = Self::default();
        bomb.add(locals, body);
        bomb.encode()
    }

    fn add(&mut self, locals: u32, body: Vec<u8>) {
        let mut function = Function::new([(locals, I32)]);
        function.raw(body);
        self.bodies.push((0, function));
    }

    fn encode(self) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        for (params, results) in self.types {
            types.ty().function(params, results);
        }
        let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
        for (ty, body) in &self.bodies {
            functions.function(*ty);
            code.function(body);
        }
        let start = u32::try_from(self.bodies.len()).unwrap();
        functions.function(0);
        let mut nothing = Function::new([]);
        nothing.instructions().end();
        code.function(&nothing);
        let (mut tables, mut memories, mut globals) = (TableSection::new(), MemorySection::new(), GlobalSection::new());
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: 1,
            maximum: None,
            shared: false,
        });
        memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        for init in &self.globals {
            globals.global(GlobalType { val_type: I32, mutable: true, shared: false }, init);
        }
        let (mut exports, mut elements) = (ExportSection::new(), ElementSection::new());
        exports.export("_start", ExportKind::Func, start);
        if let Some((segments, items)) = self.elements {
            for _ in 0..segments {
                elements.passive(Elements::Functions(vec![0; items as usize].into()));
            }
        }
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&tables).section(&memories).section(&globals);
        module.section(&exports).section(&elements).section(&code);
        module.finish()
    }
}

fn leb(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// It is refused for these words, before any compiler sees it.
fn refused(code: &[u8], words: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    // Nothing that runs would end so.
    config.worker = Some(crate::support::shell("exit 9"));
    let engine = Engine::open(config).unwrap();
    let begin = Instant::now();
    match prepare(&engine, code) {
        Err(EngineError::Module(message)) if message.contains(words) => {}
        other => panic!("{other:?} instead of {words}"),
    }
    assert!(begin.elapsed() < SLACK, "{:?}", begin.elapsed());
    engine.shutdown();
}

/// It compiles, or is an error of the module, by both compilers and within their bounds; the engine goes on.
fn survived(name: &str, code: &[u8]) {
    for tiering in [Tiering::Optimised, Tiering::Baseline] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        (config.worker, config.tiering, config.compile_time_max) = (Some(worker()), tiering, TIME_MAX);
        config.compile_memory_bytes_max = 1 << 30;
        let engine = Engine::open(config).unwrap();
        let begin = Instant::now();
        let ended = prepare(&engine, code);
        let took = begin.elapsed();
        let shown = ended.as_ref().map(|prepared| prepared.tier).map_err(ToString::to_string);
        eprintln!("{name}: {} bytes, {tiering:?}: {shown:?} after {took:.2?}", code.len());
        assert!(matches!(ended, Ok(_) | Err(EngineError::Module(_))), "{name}: {ended:?}");
        // The baseline compiler may hand over to the other one.
        assert!(took < TIME_MAX * 2 + SLACK, "{name}: {took:?}");
        let mut config = self::config(&dir.path().join("other"));
        config.worker = Some(worker());
        prepare(&Engine::open(config).unwrap(), &exits_with(1)).unwrap();
        engine.shutdown();
    }
}

#[test]
fn too_many_locals() {
    refused(&Bomb::body(20_001, vec![END]), "20001 locals in one function; at most 20000");
}

#[test]
fn locals_times_blocks() {
    // Every local is alive in every block.
    let mut body = Vec::new();
    for local in 0..2_000 {
        body.extend([ZERO.as_slice(), &[0x21], &leb(local)].concat());
    }
    for _ in 0..60_000 {
        body.extend([LOOP.as_slice(), &[0x20, 0x00, 0x0d, 0x00, END]].concat());
    }
    for local in 0..2_000 {
        body.extend([[0x20].as_slice(), &leb(local), &[DROP]].concat());
    }
    body.push(END);
    refused(&Bomb::body(2_000, body), "locals times blocks in one function");
}

#[test]
fn as_many_locals_and_blocks_as_allowed() {
    let (locals, blocks) = (1_000, 4_900);
    let mut body = Vec::new();
    for _ in 0..blocks {
        body.extend([BLOCK.as_slice(), &[0x20, 0x00, 0x0d, 0x00]].concat());
        body.extend([[0x20].as_slice(), &leb(locals - 1), &[0x21], &leb(locals - 2), &[END]].concat());
    }
    body.push(END);
    survived("locals and blocks", &Bomb::body(locals, body));
}

#[test]
fn a_giant_jump_table() {
    let depth = 10_000;
    let mut body: Vec<u8> = BLOCK.repeat(depth);
    body.extend([ZERO.as_slice(), &[0x0e], &leb(300_000)].concat());
    for target in 0..300_000 {
        body.extend(leb(target % depth as u32));
    }
    body.push(0);
    body.extend(std::iter::repeat_n(END, depth + 1));
    survived("a giant br_table", &Bomb::body(0, body));
}

#[test]
fn many_jump_tables() {
    let mut body: Vec<u8> = BLOCK.repeat(100);
    for _ in 0..8_000 {
        body.extend([BLOCK.as_slice(), &ZERO, &[0x0e], &leb(100)].concat());
        body.extend(1..=100);
        body.extend([0, END]);
    }
    body.extend(std::iter::repeat_n(END, 101));
    survived("many br_tables", &Bomb::body(0, body));
}

#[test]
fn blocks_in_blocks() {
    let depth = 300_000;
    let body: Vec<u8> = [BLOCK.repeat(depth), vec![END; depth + 1]].concat();
    survived("deep blocks", &Bomb::body(0, body));
}

#[test]
fn loops_in_loops() {
    let depth = 110_000;
    let turn = [LOOP.as_slice(), &[0x20, 0, 0x22, 0, 0x0d, 0]].concat();
    let body: Vec<u8> = [turn.repeat(depth), vec![END; depth + 1]].concat();
    survived("deep loops", &Bomb::body(1, body));
}

#[test]
fn ifs_in_ifs() {
    let depth = 150_000;
    let body: Vec<u8> = [[0x20, 0x00, 0x04, 0x40].repeat(depth), vec![END; depth + 1]].concat();
    survived("deep ifs", &Bomb::body(1, body));
}

#[test]
fn two_hundred_thousand_functions() {
    let mut bomb = Bomb::default();
    for _ in 0..199_999 {
        bomb.add(0, vec![END]);
    }
    refused(&bomb.encode(), "200000 functions; at most");
}

#[test]
fn as_many_functions_as_allowed() {
    let mut bomb = Bomb::default();
    for _ in 0..99_999 {
        bomb.add(0, vec![END]);
    }
    survived("functions", &bomb.encode());
}

#[test]
fn huge_types() {
    let types: Vec<_> = (0..2_000).map(|_| (vec![I32; 900], vec![])).collect();
    refused(&Bomb { types, ..Bomb::default() }.encode(), "parameters and results in its types");
}

#[test]
fn as_many_types_as_allowed() {
    let types: Vec<_> = (0..19_999).map(|_| (vec![I32; 4], vec![])).collect();
    survived("types", &Bomb { types, ..Bomb::default() }.encode());
}

#[test]
fn blocks_with_a_thousand_results() {
    // Each carries a thousand values in and out.
    let mut bomb = Bomb { types: vec![(vec![I32; 999], vec![I32; 999])], ..Bomb::default() };
    let mut body: Vec<u8> = ZERO.repeat(999);
    for _ in 0..200_000 {
        body.extend([0x02, 0x01, END]);
    }
    body.extend(vec![DROP; 999]);
    body.push(END);
    bomb.add(0, body);
    refused(&bomb.encode(), "values that blocks and calls pass on");
}

#[test]
fn values_that_are_all_alive() {
    let values = 160_000;
    let body: Vec<u8> =
        [[0x20, 0x00, 0x28, 0x02, 0x00].repeat(values), vec![ADD; values - 1], vec![DROP, END]].concat();
    survived("live values", &Bomb::body(1, body));
}

#[test]
fn one_endless_expression() {
    let body: Vec<u8> = [ZERO.to_vec(), [0x20, 0x00, 0x6c].repeat(300_000), vec![DROP, END]].concat();
    survived("a long expression", &Bomb::body(1, body));
}

#[test]
fn calls_with_a_thousand_arguments() {
    let mut bomb = Bomb { types: vec![(vec![I32; 900], vec![I32; 900])], ..Bomb::default() };
    bomb.add(0, [ZERO.repeat(900), [0x10, 0x01].repeat(400_000), vec![DROP; 900], vec![END]].concat());
    let mut callee = Function::new([]);
    callee.raw([(0..900).flat_map(|local| [vec![0x20], leb(local)].concat()).collect(), vec![END]].concat());
    bomb.bodies.push((1, callee));
    refused(&bomb.encode(), "values that blocks and calls pass on");
}

#[test]
fn an_endless_constant() {
    let expression = ConstExpr::raw([ZERO.to_vec(), [0x41, 0x01, ADD].repeat(1_000_000)].concat());
    let bomb = Bomb { globals: vec![expression], ..Bomb::default() };
    refused(&bomb.encode(), "bytes in one constant expression");
}

#[test]
fn a_million_elements() {
    let mut bomb = Bomb { elements: Some((9_999, 100)), ..Bomb::default() };
    bomb.add(0, vec![END]);
    survived("elements", &bomb.encode());
    let mut bomb = Bomb { elements: Some((9_999, 200)), ..Bomb::default() };
    bomb.add(0, vec![END]);
    refused(&bomb.encode(), "elements; at most");
}

#[test]
fn a_megabyte_of_stores() {
    let body: Vec<u8> = [[0x20, 0x00, 0x20, 0x00, 0x36, 0x02, 0x00].repeat(140_000), vec![END]].concat();
    survived("stores", &Bomb::body(1, body));
    let body: Vec<u8> = [[0x20, 0x00, 0x20, 0x00, 0x36, 0x02, 0x00].repeat(160_000), vec![END]].concat();
    refused(&Bomb::body(1, body), "bytes in one function; at most 1048576");
}
