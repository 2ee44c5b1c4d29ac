//! Reads the modules: their text, and the comment at its top that says what must become of them.
//!
//! ```text
//! ;; Tries: what it does, and why that might work.
//! ;; Ends: ENDING | ENDING …
//! ;; With: KEY=NUMBER …
//! ```
//! An ending is `returns`, `exit N`, `trap KIND`, `deadline`, `cpu`, `memory`, `output`, `limit`, or `refused "PART"` of
//! the message. `With` changes limits (`deadline` in ms, `memory`, `payload`, … in bytes) or gives input (`input`).
//!
//! In the text, a line `;;* N` repeats the line after it N times, `{i}` in it being the number from 0 on, and `{N*TEXT}`
//! is TEXT, N times: bombs of megabytes are written in a line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use skein_proto::{AppName, Grants, Limits, Manifest};

/// One module.
#[derive(Debug, Clone)]
pub(crate) struct Hostile {
    /// Its folder and file, without what follows the dot.
    pub(crate) name: String,
    pub(crate) tries: String,
    /// How it may end, as written.
    pub(crate) ends: String,
    pub(crate) limits: Limits,
    pub(crate) has_scratch: bool,
    /// Bytes of input it is called with.
    pub(crate) input_bytes: usize,
    pub(crate) code: Bytes,
}

/// Every module of this folder, in the order of their names.
pub(crate) fn read() -> Vec<Hostile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(crate::HOSTILE);
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    // One of them at a time: `SKEIN_HOSTILE=loops/` or a whole name.
    let only = std::env::var("SKEIN_HOSTILE").unwrap_or_default();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().with_extension("").to_string_lossy().into_owned();
    files
        .iter()
        .map(|path| (name(path), path))
        .filter(|(name, _)| name.contains(&only))
        .map(|(n, p)| one(n, p))
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "wat") {
            files.push(path);
        }
    }
}

fn one(name: String, path: &Path) -> Hostile {
    let text = fs::read_to_string(path).unwrap();
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(&format!(";; {key}: "))).unwrap_or_default();
    let (tries, ends) = (line("Tries").to_owned(), line("Ends").to_owned());
    assert!(!tries.is_empty() && !ends.is_empty(), "{name} does not say what it tries and how it ends");
    let mut hostile = Hostile {
        limits: tight(),
        has_scratch: false,
        input_bytes: 0,
        code: wat::parse_str(expand(&text)).unwrap_or_else(|error| panic!("{name}: {error}")).into(),
        name,
        tries,
        ends,
    };
    for setting in line("With").split_whitespace() {
        let (key, value) = setting.split_once('=').unwrap();
        hostile.set(key, value.parse().unwrap());
    }
    hostile
}

/// What a module may use unless it says otherwise: little, so that every limit is reached soon.
fn tight() -> Limits {
    Limits {
        deadline_ms: 100,
        memory_bytes: 16 << 20,
        payload_bytes: 64 << 10,
        log_bytes: 16 << 10,
        ..Limits::default()
    }
}

impl Hostile {
    fn set(&mut self, key: &str, value: u64) {
        match key {
            "deadline" => self.limits.deadline_ms = value,
            "memory" => self.limits.memory_bytes = value,
            "payload" => self.limits.payload_bytes = value,
            "cpu" => self.limits.cpu_ms = value,
            "stack" => self.limits.stack_bytes = value,
            "table" => self.limits.table_elements = value.try_into().unwrap(),
            "handles" => self.limits.handles = value.try_into().unwrap(),
            "input" => self.input_bytes = value.try_into().unwrap(),
            "scratch" => (self.limits.scratch_bytes, self.has_scratch) = (value, true),
            other => panic!("{}: there is no setting {other}", self.name),
        }
    }

    /// What it is published with.
    pub(crate) fn manifest(&self) -> Manifest {
        let grants = Grants { scratch: self.has_scratch, ..Grants::default() };
        let manifest = Manifest::named(AppName::default(), "hostile".parse().unwrap());
        Manifest { limits: self.limits, grants, ..manifest }
    }

    /// True if `ending`, as [`crate::attack`] puts it, is one that its comment allows.
    pub(crate) fn may_end(&self, ending: &str) -> bool {
        self.ends.split(" | ").any(|allowed| match allowed.strip_prefix("refused ") {
            Some(part) => ending.starts_with("refused: ") && ending.contains(part.trim_matches('"')),
            None => ending == allowed || allowed == "exit" && ending.starts_with("exit "),
        })
    }
}

/// The text with its repetitions written out.
fn expand(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.trim().strip_prefix(";;* ") {
            Some(count) => {
                let line = lines.next().unwrap_or_default();
                for number in 0..count.trim().parse::<u32>().unwrap() {
                    expanded += &line.replace("{i}", &number.to_string());
                    expanded.push('\n');
                }
            }
            None => {
                expanded += &inline(line);
                expanded.push('\n');
            }
        }
    }
    expanded
}

fn inline(line: &str) -> String {
    let Some((before, rest)) = line.split_once('{') else { return line.to_owned() };
    let (inner, after) = rest.split_once('}').unwrap();
    let (count, text) = inner.split_once('*').unwrap();
    [before, &text.repeat(count.parse().unwrap()), &inline(after)].concat()
}
