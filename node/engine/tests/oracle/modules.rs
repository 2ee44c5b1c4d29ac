//! Modules that nobody wrote, each a function of its seed: with the forms that data, elements, tables, globals, memories
//! and their growth can have, and with code that tells all of it, changes it at random, and tells it again.

use std::{collections::BTreeSet, fmt::Write as _};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::parts::{FAR, FOOT, HEAD, NEAR};

/// All that a module may have. A run in which one of them never occurs proves less than it says.
pub(crate) const CONSTRUCTS: &[&str] = &[
    "command",
    "reactor",
    "reactor, initialised",
    "entry with a result",
    "start section",
    "memory: none",
    "memory: no pages",
    "memory: with a maximum",
    "memory: over 256 MiB",
    "memory.grow",
    "memory.fill",
    "memory.copy",
    "memory.init",
    "data: constant offset",
    "data: computed offset",
    "data: passive",
    "data: empty",
    "data: many pages",
    "data: at the end",
    "data: out of bounds",
    "data: far apart",
    "data.drop",
    "table: funcref",
    "table: externref",
    "table: several",
    "table: with a maximum",
    "elements: constant offset",
    "elements: computed offset",
    "elements: passive",
    "elements: declared",
    "elements: expressions",
    "elements: out of bounds",
    "elem.drop",
    "table.get",
    "table.set",
    "table.grow",
    "table.fill",
    "table.copy",
    "table.init",
    "call_indirect",
    "global: i32",
    "global: i64",
    "global: f32",
    "global: f64",
    "global: v128",
    "global: funcref",
    "global: externref",
    "global: mutable",
    "global: mutable reference",
    "global: computed",
    "initialises: output",
    "initialises: log",
    "initialises: failure",
    "initialises: environment",
    "initialises: arguments",
    "initialises: input",
    "exit",
    "trap",
];

/// A module, and what it is to be called with.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) text: String,
    pub(crate) entry: &'static str,
    pub(crate) memory_bytes_max: u64,
    pub(crate) table_elements_max: u32,
    pub(crate) used: BTreeSet<&'static str>,
}

/// The module of a seed.
pub(crate) fn generate(seed: u64) -> Case {
    let mut writer = Writer::new(StdRng::seed_from_u64(seed));
    writer.shape();
    writer.globals();
    writer.tables();
    writer.elements();
    writer.data();
    writer.changes_of_memory();
    writer.endings();
    writer.finish()
}

const PAGE: u64 = 64 << 10;
const FUNCTIONS: u32 = 4;

#[derive(Clone, Copy)]
struct Table {
    elements: u32,
    is_funcref: bool,
}

struct Segment {
    is_passive: bool,
    bytes: usize,
}

struct Writer {
    rng: StdRng,
    used: BTreeSet<&'static str>,
    fields: String,
    /// Bodies of functions that tell a part of the state.
    looks: Vec<String>,
    /// Bodies of functions that change a part of it.
    changes: Vec<String>,
    entry: &'static str,
    has_result: bool,
    initialises: bool,
    /// Pages at the start; none without a memory.
    pages: Option<u64>,
    memory_bytes_max: u64,
    is_far: bool,
    /// Whether tables and segments may change, or be dropped: such an instance is not reset.
    may_change_tables: bool,
    may_drop_data: bool,
    /// Whether it has vectors, which the baseline compiler does not take.
    has_vectors: bool,
    tables: Vec<Table>,
    table_elements_max: u32,
    /// An i32 that functions in tables may tell.
    global_i32: Option<usize>,
}

impl Writer {
    fn new(rng: StdRng) -> Self {
        Self {
            rng,
            used: BTreeSet::new(),
            fields: String::new(),
            looks: Vec::new(),
            changes: Vec::new(),
            entry: "_start",
            has_result: false,
            initialises: false,
            pages: None,
            memory_bytes_max: 64 << 20,
            is_far: false,
            may_change_tables: false,
            may_drop_data: false,
            has_vectors: false,
            tables: Vec::new(),
            table_elements_max: 1_000,
            global_i32: None,
        }
    }

    fn uses(&mut self, construct: &'static str) {
        debug_assert!(CONSTRUCTS.contains(&construct), "{construct} is not in the list");
        self.used.insert(construct);
    }

    /// True in so many of a hundred cases.
    fn percent(&mut self, share: u32) -> bool {
        self.rng.random_ratio(share, 100)
    }

    /// What kind of module it is, and its memory.
    fn shape(&mut self) {
        match self.rng.random_range(0..10) {
            0..3 => self.uses("command"),
            kind => {
                self.entry = "handle";
                self.initialises = kind >= 5;
                self.uses(if self.initialises { "reactor, initialised" } else { "reactor" });
                self.has_result = self.percent(30);
                if self.has_result {
                    self.uses("entry with a result");
                }
            }
        }
        self.may_change_tables = self.percent(35);
        self.may_drop_data = self.percent(20);
        self.has_vectors = self.percent(35);
        let (pages, maximum) = match self.rng.random_range(0..100) {
            0..5 => {
                self.uses("memory: none");
                return;
            }
            5..10 => {
                self.uses("memory: no pages");
                (0, self.rng.random_range(1..8))
            }
            10..12 => {
                self.uses("memory: over 256 MiB");
                self.is_far = true;
                (FAR / PAGE + 200, FAR / PAGE + 210)
            }
            12..40 => (self.rng.random_range(8..24), 40),
            _ => {
                let pages = self.rng.random_range(1..4);
                (pages, pages + self.rng.random_range(0..6))
            }
        };
        self.pages = Some(pages);
        let declared = if self.percent(50) {
            self.uses("memory: with a maximum");
            maximum.to_string()
        } else {
            String::new()
        };
        let _ = writeln!(self.fields, "(memory (export \"memory\") {pages} {declared})");
        // Now and then less than the module would like to have.
        let most = if self.percent(30) { pages.max(1) + self.rng.random_range(0..3) } else { maximum.max(pages) + 8 };
        self.memory_bytes_max = most * PAGE;
    }

    fn globals(&mut self) {
        let kinds = ["i32", "i64", "f32", "f64", "v128", "funcref", "externref"];
        for number in 0..self.rng.random_range(0..8) {
            // References keep an instance from being an image's: seldom enough for both to occur.
            let kind = kinds[if self.percent(85) { self.rng.random_range(0..5) } else { self.rng.random_range(5..7) }];
            let kind = if kind == "v128" && !self.has_vectors { "i64" } else { kind };
            let is_reference = kind.ends_with("ref");
            let is_mutable = self.percent(if is_reference { 40 } else { 70 });
            self.uses(match kind {
                "i32" => "global: i32",
                "i64" => "global: i64",
                "f32" => "global: f32",
                "f64" => "global: f64",
                "v128" => "global: v128",
                "funcref" => "global: funcref",
                _ => "global: externref",
            });
            if is_mutable {
                self.uses(if is_reference { "global: mutable reference" } else { "global: mutable" });
            }
            let first = self.first_value(kind);
            let ty = if is_mutable { format!("(mut {kind})") } else { kind.to_owned() };
            let _ = writeln!(self.fields, "(global $g{number} {ty} {first})");
            if kind == "i32" {
                self.global_i32 = Some(number);
            }
            self.look_at_global(number, kind, is_mutable);
            if is_mutable {
                self.change_global(number, kind);
            }
        }
    }

    fn first_value(&mut self, kind: &str) -> String {
        let number: i32 = self.rng.random_range(-1_000..1_000);
        match kind {
            "i32" if self.percent(30) => {
                self.uses("global: computed");
                self.computed(number)
            }
            "i64" if self.percent(30) => {
                self.uses("global: computed");
                format!("(i64.add (i64.const {number}) (i64.mul (i64.const 3) (i64.const -7)))")
            }
            "i32" | "i64" | "f32" | "f64" => format!("({kind}.const {number})"),
            "v128" => format!("(v128.const i64x2 {number} {})", self.rng.random::<i64>()),
            "funcref" if self.percent(70) => format!("(ref.func $f{})", self.rng.random_range(0..FUNCTIONS)),
            "funcref" => "(ref.null func)".to_owned(),
            _ => "(ref.null extern)".to_owned(),
        }
    }

    /// A constant expression of several terms that comes to `value`.
    fn computed(&mut self, value: i32) -> String {
        let (a, b): (i32, i32) = (self.rng.random_range(-500..500), self.rng.random_range(2..9));
        match self.rng.random_range(0..3) {
            0 => format!("(i32.add (i32.const {a}) (i32.const {}))", value.wrapping_sub(a)),
            1 => format!("(i32.sub (i32.const {}) (i32.const {a}))", value.wrapping_add(a)),
            _ => {
                let product = a.wrapping_mul(b);
                let rest = value.wrapping_sub(product);
                format!("(i32.add (i32.mul (i32.const {a}) (i32.const {b})) (i32.const {rest}))")
            }
        }
    }

    fn look_at_global(&mut self, number: usize, kind: &str, is_mutable: bool) {
        let value = format!("(global.get $g{number})");
        let look = match kind {
            "i32" => mix(&format!("(i64.extend_i32_u {value})")),
            "i64" => mix(&value),
            "f32" => mix(&format!("(i64.extend_i32_u (i32.reinterpret_f32 {value}))")),
            "f64" => mix(&format!("(i64.reinterpret_f64 {value})")),
            "v128" => [0, 1].map(|lane| mix(&format!("(i64x2.extract_lane {lane} {value})"))).concat(),
            // Which function it is shows when it is called, for which it must be in a table.
            "funcref" if is_mutable => {
                let _ = writeln!(self.fields, "(table $only{number} 1 funcref)");
                format!(
                    "(if (ref.is_null {value}) (then (call $mix (i64.const 5))) (else
                        (table.set $only{number} (i32.const 0) {value})
                        (call $mix (i64.extend_i32_u (call_indirect $only{number} (type $id) (i32.const 0))))))"
                )
            }
            _ => mix(&format!("(i64.extend_i32_u (ref.is_null {value}))")),
        };
        self.looks.push(look);
    }

    fn change_global(&mut self, number: usize, kind: &str) {
        let value = match kind {
            "i32" => "(call $next)".to_owned(),
            "i64" => "(call $next64)".to_owned(),
            "f32" => "(f32.reinterpret_i32 (call $next))".to_owned(),
            "f64" => "(f64.reinterpret_i64 (call $next64))".to_owned(),
            "v128" => "(i64x2.replace_lane 1 (i64x2.splat (call $next64)) (call $next64))".to_owned(),
            "funcref" => format!("(call $some{})", self.rng.random_range(0..2)),
            _ => "(ref.null extern)".to_owned(),
        };
        self.changes.push(format!("(global.set $g{number} {value})"));
    }

    fn tables(&mut self) {
        let count = self.rng.random_range(0..4);
        if count > 1 {
            self.uses("table: several");
        }
        for number in 0..count {
            let is_funcref = self.percent(75);
            let elements = self.rng.random_range(0..8);
            let mut maximum = String::new();
            if self.percent(40) {
                self.uses("table: with a maximum");
                maximum = (elements + self.rng.random_range(0..5)).to_string();
            }
            let ty = if is_funcref { "funcref" } else { "externref" };
            self.uses(if is_funcref { "table: funcref" } else { "table: externref" });
            self.uses("table.get");
            let _ = writeln!(self.fields, "(table $t{number} {elements} {maximum} {ty})");
            let tell = if is_funcref {
                self.uses("call_indirect");
                format!("(call_indirect $t{number} (type $id) (local.get $i))")
            } else {
                "(i32.const 9)".to_owned()
            };
            self.looks.push(format!(
                "(call $mix (i64.extend_i32_u (table.size $t{number}))) (local.set $i (i32.const 0))
                (block $done (loop $more
                    (br_if $done (i32.ge_u (local.get $i) (table.size $t{number})))
                    (if (ref.is_null (table.get $t{number} (local.get $i)))
                        (then (call $mix (i64.const 3)))
                        (else (call $mix (i64.extend_i32_u {tell}))))
                    (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $more)))"
            ));
            self.tables.push(Table { elements, is_funcref });
        }
        if self.percent(30) {
            self.table_elements_max = 10;
        }
        if self.may_change_tables {
            for number in 0..self.tables.len() {
                self.change_table(number);
            }
        }
    }

    fn change_table(&mut self, number: usize) {
        let Table { is_funcref, .. } = self.tables[number];
        let some = if is_funcref { "(call $some0)" } else { "(ref.null extern)" };
        let place = format!("(call $below (table.size $t{number}))");
        let wanted = [
            ("table.set", format!("(if (table.size $t{number}) (then (table.set $t{number} {place} {some})))")),
            (
                "table.grow",
                format!("(call $mix (i64.extend_i32_s (table.grow $t{number} {some} (call $below (i32.const 4)))))"),
            ),
            (
                "table.fill",
                format!(
                    "(local.set $i {place}) (table.fill $t{number} (local.get $i) {some}
                    (call $below (i32.sub (table.size $t{number}) (local.get $i))))"
                ),
            ),
        ];
        for (construct, body) in wanted {
            if self.percent(60) {
                self.uses(construct);
                self.changes.push(body);
            }
        }
        let others = self.tables.iter().enumerate().filter(|(_, other)| other.is_funcref == is_funcref);
        let others: Vec<usize> = others.map(|(other, _)| other).collect();
        if let Some(other) = others.choose(&mut self.rng).copied()
            && self.percent(60)
        {
            self.uses("table.copy");
            self.changes.push(format!(
                "(local.set $i (call $less (table.size $t{number}) (table.size $t{other})))
                (table.copy $t{number} $t{other} (i32.const 0) (i32.const 0) (call $below (local.get $i)))"
            ));
        }
    }

    fn elements(&mut self) {
        let functions: Vec<String> = (0..FUNCTIONS).map(|number| format!("$f{number}")).collect();
        self.uses("elements: declared");
        let _ = writeln!(self.fields, "(elem declare func {})", functions.join(" "));
        for number in 0..self.rng.random_range(0..5) {
            let Some(table) = (0..self.tables.len()).collect::<Vec<_>>().choose(&mut self.rng).copied() else { return };
            let Table { elements, is_funcref, .. } = self.tables[table];
            let is_passive = self.percent(35);
            let most = if is_passive { 4 } else { elements };
            let count = self.rng.random_range(0..=most);
            let items = self.items(count, is_funcref);
            if is_passive {
                self.uses("elements: passive");
                let _ = writeln!(self.fields, "(elem $e{number} {items})");
                // From one of external references it would be refused.
                if self.may_change_tables && is_funcref {
                    self.uses("table.init");
                    self.changes.push(format!(
                        "(local.set $i (call $less (table.size $t{table}) (i32.const {count})))
                        (table.init $t{table} $e{number} (i32.const 0) (i32.const 0) (call $below (local.get $i)))"
                    ));
                    if self.percent(40) {
                        self.uses("elem.drop");
                        self.changes.push(format!("(elem.drop $e{number})"));
                    }
                }
                continue;
            }
            let mut at = (elements - count) as i32;
            at = self.rng.random_range(0..=at);
            if self.percent(2) {
                self.uses("elements: out of bounds");
                at = elements as i32 + 1;
            }
            let offset = if self.percent(35) {
                self.uses("elements: computed offset");
                self.computed(at)
            } else {
                self.uses("elements: constant offset");
                format!("(i32.const {at})")
            };
            let _ = writeln!(self.fields, "(elem $e{number} (table $t{table}) (offset {offset}) {items})");
        }
    }

    fn items(&mut self, count: u32, is_funcref: bool) -> String {
        let mut items = String::new();
        if is_funcref && self.percent(50) {
            items += "func";
            for _ in 0..count {
                let _ = write!(items, " $f{}", self.rng.random_range(0..FUNCTIONS));
            }
            return items;
        }
        self.uses("elements: expressions");
        items += if is_funcref { "funcref" } else { "externref" };
        for _ in 0..count {
            items += &match is_funcref {
                true if self.percent(70) => format!(" (ref.func $f{})", self.rng.random_range(0..FUNCTIONS)),
                true => " (ref.null func)".to_owned(),
                false => " (ref.null extern)".to_owned(),
            };
        }
        items
    }

    fn data(&mut self) {
        let Some(pages) = self.pages else { return };
        let end = pages * PAGE;
        let mut segments = Vec::new();
        let mut windows = Vec::new();
        let count = self.rng.random_range(0..6) + usize::from(self.is_far);
        for number in 0..count {
            let bytes = self.bytes();
            let is_passive = self.percent(25) && !self.is_far;
            let length = bytes.len() as u64;
            segments.push(Segment { is_passive, bytes: bytes.len() });
            let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
            if is_passive {
                self.uses("data: passive");
                let _ = writeln!(self.fields, "(data $d{number} \"{text}\")");
                continue;
            }
            let most = end.saturating_sub(length);
            let at = match self.rng.random_range(0..100) {
                0..2 => {
                    self.uses("data: out of bounds");
                    end.saturating_sub(length) + 1
                }
                _ if self.is_far && number == 0 => {
                    self.uses("data: far apart");
                    FAR + self.rng.random_range(0..1_000)
                }
                _ if self.is_far => self.rng.random_range(0..PAGE),
                2..12 => {
                    self.uses("data: at the end");
                    most
                }
                _ => self.rng.random_range(0..=most),
            };
            let offset = if self.percent(40) {
                self.uses("data: computed offset");
                self.computed(at as i32)
            } else {
                self.uses("data: constant offset");
                format!("(i32.const {at})")
            };
            let _ = writeln!(self.fields, "(data $d{number} (offset {offset}) \"{text}\")");
            windows.push((at.saturating_sub(16), (at + length + 16).min(end)));
        }
        windows.push((0, end.min(2_048)));
        let looks = windows.iter().map(|(from, to)| format!("(call $range (i32.const {from}) (i32.const {to}))\n"));
        let looks = looks.collect();
        self.looks.push(looks);
        self.changes_of_data(&segments);
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.rng.random_range(0..10) {
            0 => {
                self.uses("data: empty");
                0
            }
            1 => {
                self.uses("data: many pages");
                self.rng.random_range(5_000..20_000)
            }
            _ => self.rng.random_range(1..60),
        };
        (0..length).map(|_| self.rng.random_range(1..=255)).collect()
    }

    fn changes_of_data(&mut self, segments: &[Segment]) {
        for (number, Segment { is_passive, bytes }) in segments.iter().enumerate() {
            // Nothing is left of an active one.
            let most = if *is_passive { bytes.min(&300) } else { &0 };
            if self.percent(50) {
                self.uses("memory.init");
                self.changes.push(format!(
                    "(local.set $i (call $place))
                    (memory.init $d{number} (local.get $i) (i32.const 0)
                        (call $below (call $less (i32.const {most}) (call $left (local.get $i)))))"
                ));
            }
            if self.may_drop_data && self.percent(50) {
                self.uses("data.drop");
                self.changes.push(format!("(data.drop $d{number})"));
            }
        }
    }

    fn changes_of_memory(&mut self) {
        if self.pages.is_none() {
            return;
        }
        let stride = if self.is_far { 16 << 20 } else { 256 };
        let look = "(call $mix (i64.extend_i32_u (memory.size)))
            (local.set $i (i32.const 0))
            (block $done (loop $more
                (br_if $done (i32.ge_u (local.get $i) (call $end)))
                (call $mix (i64.load (local.get $i))) (call $mix (i64.load offset=8 (local.get $i)))
                (local.set $i (i32.add (local.get $i) (i32.const STRIDE))) (br $more)))";
        self.looks.push(look.replace("STRIDE", &stride.to_string()));
        let _ = writeln!(self.fields, "(global $stride i32 (i32.const {stride}))");
        let stores = [
            "(i32.store (call $place) (call $next))",
            "(i64.store (call $place) (call $next64))",
            "(i32.store8 (call $place) (call $next))",
            "(f64.store (call $place) (f64.convert_i32_s (call $next)))",
            "(v128.store (call $place) (i64x2.splat (call $next64)))",
        ];
        let stores = stores.map(|store| format!("(if (memory.size) (then {store}))"));
        let count = if self.has_vectors { 5 } else { 4 };
        self.changes.extend(stores.into_iter().take(count));
        let most = if self.is_far { 100_000 } else { 3_000_000 };
        let wanted = [
            (
                "memory.fill",
                format!(
                    "(local.set $i (call $place))
                    (memory.fill (local.get $i) (call $next)
                        (call $below (call $less (i32.const {most}) (call $left (local.get $i)))))"
                ),
            ),
            (
                "memory.copy",
                "(local.set $i (call $place)) (local.set $j (call $place))
                (memory.copy (local.get $i) (local.get $j) (call $below (call $less (i32.const 20000)
                    (call $less (call $left (local.get $i)) (call $left (local.get $j))))))"
                    .to_owned(),
            ),
            ("memory.grow", "(call $mix (i64.extend_i32_s (memory.grow (call $below (i32.const 4)))))".to_owned()),
        ];
        for (construct, body) in wanted {
            if self.percent(60) {
                self.uses(construct);
                self.changes.push(body);
            }
        }
        // In more places than a reset puts back one by one.
        self.changes.push(
            "(local.set $i (call $place)) (local.set $j (i32.const 60))
            (block $done (loop $more
                (br_if $done (i32.or (i32.eqz (local.get $j)) (i32.lt_u (call $left (local.get $i)) (i32.const 9000))))
                (i64.store (local.get $i) (call $next64))
                (local.set $i (i32.add (local.get $i) (i32.const 8192)))
                (local.set $j (i32.sub (local.get $j) (i32.const 1))) (br $more)))"
                .to_owned(),
        );
    }

    /// How a call may end besides by returning.
    fn endings(&mut self) {
        if self.percent(15) {
            self.uses("trap");
            let trap = match self.rng.random_range(0..3) {
                0 if self.pages.is_some() => "(i32.store (call $end) (i32.const 1))",
                1 => "(drop (i32.div_u (call $next) (i32.const 0)))",
                _ => "unreachable",
            };
            self.changes.push(format!("(if (i32.eqz (call $below (i32.const 6))) (then {trap}))"));
        }
        if self.percent(15) {
            self.uses("exit");
            self.changes.push(
                "(if (i32.eqz (call $below (i32.const 6))) (then (call $exit (call $below (i32.const 3)))))".to_owned(),
            );
        }
    }

    /// What an initialisation says and asks for, each seldom enough for most to leave an image.
    fn initialisation(&mut self) -> String {
        let mut body = String::new();
        let wanted = [
            ("initialises: output", "(call $print (i32.const 1))", 6),
            ("initialises: output", "(call $output (i32.const 100) (i32.const 7))", 3),
            ("initialises: log", "(call $print (i32.const 2))", 6),
            ("initialises: log", "(call $log (i32.const 100) (i32.const 7))", 3),
            ("initialises: failure", "(call $fail (i32.const 64) (i32.const 3))", 4),
            (
                "initialises: environment",
                "(drop (call $environ_sizes (i32.const 40) (i32.const 44)))
                (drop (call $environ (i32.const 256) (i32.const 512)))",
                10,
            ),
            (
                "initialises: arguments",
                "(drop (call $args_sizes (i32.const 48) (i32.const 52)))
                (drop (call $args (i32.const 384) (i32.const 1024)))",
                20,
            ),
            ("initialises: input", "(call $begin)", 4),
        ];
        if self.pages.is_some() {
            for (construct, text, share) in wanted {
                if self.percent(share) {
                    self.uses(construct);
                    body += text;
                    body.push('\n');
                }
            }
            if !body.is_empty() {
                body.insert_str(0, "(call $room) (i32.store (i32.const 64) (i32.const 0x6e656b))\n");
            }
        }
        let (seed, steps) = (self.rng.random::<u32>(), self.rng.random_range(0..12));
        let _ =
            writeln!(body, "(global.set $seed (i64.const {})) (call $work (i32.const {steps}))", u64::from(seed) | 1);
        body
    }

    fn finish(mut self) -> Case {
        let initialise = if self.initialises { self.initialisation() } else { String::new() };
        let mut text = String::from(HEAD);
        if self.pages.is_some() {
            text += NEAR;
        }
        text += &self.fields;
        for number in 0..FUNCTIONS {
            let own = self.global_i32.filter(|_| number == 0);
            let own = own.map_or("(i32.const 0)".to_owned(), |global| format!("(global.get $g{global})"));
            let _ = writeln!(text, "(func $f{number} (type $id) (i32.add {own} (i32.const {})))", (number + 1) * 7_919);
        }
        let some = "(if (result funcref) (i32.and (call $next) (i32.const 1)) (then (ref.func $fA)) (else SECOND))";
        for (number, second) in ["(ref.null func)", "(ref.func $f3)"].iter().enumerate() {
            let body = some.replace("$fA", &format!("$f{}", self.rng.random_range(0..3))).replace("SECOND", second);
            let _ = writeln!(text, "(func $some{number} (result funcref) {body})");
        }
        for (name, bodies) in [("look", &self.looks), ("change", &self.changes)] {
            for (number, body) in bodies.iter().enumerate() {
                let _ = writeln!(text, "(func ${name}{number} (local $i i32) (local $j i32)\n{body})");
            }
        }
        let looks: String = (0..self.looks.len()).map(|number| format!("(call $look{number})")).collect();
        let _ = writeln!(text, "(func $look {looks})");
        let (mut chain, count) = (String::new(), self.changes.len());
        for number in 0..count {
            let _ = write!(chain, "(if (i32.eq (local.get $k) (i32.const {number})) (then (call $change{number})))");
        }
        let _ =
            writeln!(text, "(func $change (local $k i32) (local.set $k (call $below (i32.const {count}))) {chain})");
        if self.percent(25) {
            self.uses("start section");
            let (seed, steps) = (self.rng.random::<u32>() | 1, self.rng.random_range(1..8));
            let _ = writeln!(
                text,
                "(func $started (global.set $seed (i64.const {seed})) (call $work (i32.const {steps}))) (start $started)"
            );
        }
        if self.initialises {
            let _ = writeln!(text, "(func (export \"_initialize\")\n{initialise})");
        }
        text += &self.entry();
        text += FOOT;
        Case {
            text,
            entry: self.entry,
            memory_bytes_max: self.memory_bytes_max,
            table_elements_max: self.table_elements_max,
            used: self.used,
        }
    }

    fn entry(&mut self) -> String {
        let steps = self.rng.random_range(1..25);
        let (entry, result) = (self.entry, if self.has_result { "(result i32)" } else { "" });
        let (room, begin, tell) = if self.pages.is_some() {
            ("(call $room)", "(call $begin)", "(call $tell)")
        } else {
            ("", "(global.set $seed (i64.const 77))", "")
        };
        let code = "(i32.and (i32.wrap_i64 (global.get $hash)) (i32.const 127))";
        let end = match (self.has_result, self.pages.is_some()) {
            (true, true) => "(i32.eqz (call $below (i32.const 8)))".to_owned(),
            (true, false) => code.to_owned(),
            (false, true) => String::new(),
            // Without a memory, there is only one way to tell.
            (false, false) => format!("(call $exit {code})"),
        };
        format!(
            "(func (export \"{entry}\") {result}
                (global.set $hash (i64.const 0x3bf29ce484222325))
                (call $look) {room} {begin} {tell}
                (call $work (i32.const {steps}))
                (call $look) {tell} {end})\n"
        )
    }
}

fn mix(value: &str) -> String {
    format!("(call $mix {value})\n")
}
