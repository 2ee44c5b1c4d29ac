//! What a published version declares about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AppName, ErrorCode, Failure, FunctionName, HttpGrant, InvokeGrant, Scale, codec::encode};

/// The settings of one version; immutable once published. `function.toml` is its text form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The app that owns the function.
    #[serde(default)]
    pub app: AppName,
    /// The function.
    pub name: FunctionName,
    /// What it does, in a sentence or two.
    #[serde(default)]
    pub description: String,
    /// A free word, searched and shown.
    #[serde(default)]
    pub category: String,
    /// Free words, searched and shown.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How the code is called.
    #[serde(default)]
    pub abi: Abi,
    /// Whether calls share a sandbox.
    #[serde(default)]
    pub instance: InstancePolicy,
    /// Arguments a command is started with, after its name.
    #[serde(default)]
    pub args: Vec<String>,
    /// What is called: the export of a module that is no command (default `handle`), or the file of a script that has
    /// the default export (default `index.js`, or its only file).
    #[serde(default)]
    pub entry: Option<String>,
    /// Whether instances start from an image taken after the module's initialisation.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// What one call may use.
    #[serde(default)]
    pub limits: Limits,
    /// What a call may reach.
    #[serde(default)]
    pub grants: Grants,
    /// How many stay warm, and for how long.
    #[serde(default)]
    pub scale: Scale,
}

impl Manifest {
    /// The settings of a function that declares nothing but its name.
    pub fn named(app: AppName, name: FunctionName) -> Self {
        Self {
            app,
            name,
            description: String::new(),
            category: String::new(),
            tags: Vec::new(),
            abi: Abi::default(),
            instance: InstancePolicy::default(),
            args: Vec::new(),
            entry: None,
            snapshot: Snapshot::default(),
            limits: Limits::default(),
            grants: Grants::default(),
            scale: Scale::default(),
        }
    }

    /// Refuses one that is too large as it is kept: in the log, and in every node's memory.
    ///
    /// # Errors
    /// `too-large`, with what to do.
    pub fn check_size(&self) -> Result<(), Failure> {
        let bytes = encode(self)?.len();
        if bytes <= Self::BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "the manifest of {}/{} takes {bytes} bytes; at most {} are allowed: shorten what is longest in function.toml \
             (description, tags, args, grants.env), and put data into the artifact",
            self.app,
            self.name,
            Self::BYTES_MAX,
        );
        Err(Failure::not_executed(ErrorCode::TooLarge, message))
    }

    /// Says what of it is out of range or of no known form, if something is: a limit, a grant, the entry.
    pub fn check(&self) -> Result<(), String> {
        if let Some(entry) = self.entry.as_deref().filter(|entry| !(1..=Self::ENTRY_BYTES_MAX).contains(&entry.len())) {
            let most = Self::ENTRY_BYTES_MAX;
            return Err(format!("entry has {} bytes; it must have from 1 to {most}", entry.len()));
        }
        if self.abi == Abi::Http {
            return Err(
                "abi = \"http\" (WASI 0.2 components) has no host in this release; build a core module for WASI \
                preview 1 instead (target wasm32-wasip1), an Extism plug-in, or a script: see docs/abi.md"
                    .to_owned(),
            );
        }
        self.limits.check()?;
        self.scale.check()?;
        self.grants.check()
    }

    /// Longest name of an export or file that is called, in bytes.
    pub const ENTRY_BYTES_MAX: usize = 1_024;

    /// Largest manifest: 16 KiB in the form in which it is kept (the names of its fields are some 400 bytes of it). A
    /// thousand versions of this size are 16 MiB on every node.
    pub const BYTES_MAX: usize = 16 << 10;
}

/// How the code is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Abi {
    /// Whatever the module's exports say. The default.
    #[default]
    Auto,
    /// WASI preview 1: payload on stdin, result on stdout, log on stderr. A command (`_start`), or a reactor whose
    /// exported handler takes no arguments.
    Wasi,
    /// The Extism plug-in interface.
    Extism,
    /// A WASI 0.2 component that handles HTTP: known, and refused at publish.
    Http,
    /// JavaScript source.
    Script,
}

/// Whether calls share a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum InstancePolicy {
    /// A new sandbox for every call. The default.
    #[default]
    Fresh,
    /// Warm instances serve many calls, one at a time, and keep their memory in between. Not for commands, which end.
    Reuse,
}

/// Whether instances start from an image of memory and globals taken after the module initialised itself
/// (`_initialize`, a script's top level).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Snapshot {
    /// Where nobody can tell: the initialisation asked for no random bytes and no clock, and left nothing outside memory
    /// and globals. The default.
    #[default]
    Auto,
    /// Also where it asked for random bytes or the time: every instance then starts with the same seeds.
    Always,
    /// Every instance initialises itself.
    Never,
}

/// What one call may use. Every field has a default, so that nothing is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Longest run of one call, in milliseconds. Default 3,000; at most [`Limits::DEADLINE_MS_MAX`].
    pub deadline_ms: u64,
    /// Most linear memory of one instance, in bytes. Default 64 MiB; at most [`Limits::MEMORY_BYTES_MAX`].
    pub memory_bytes: u64,
    /// Most calls of the version at a time on one node. Default 64.
    pub concurrency: u32,
    /// Largest payload, and largest result, in bytes. Default 6 MiB; at most [`Limits::PAYLOAD_BYTES_MAX`].
    pub payload_bytes: u64,
    /// Most log (stderr) kept of one call, in bytes; the rest is dropped and counted. Default 256 KiB.
    pub log_bytes: u64,
    /// Longest one call may compute, in milliseconds of CPU time; waiting is not counted. Default and most: the deadline.
    pub cpu_ms: u64,
    /// Most elements of each table. Default 131,072, which is the most.
    pub table_elements: u32,
    /// Stack of one instance, in bytes. Default 1 MiB; at most [`Limits::STACK_BYTES_MAX`].
    pub stack_bytes: u64,
    /// Most calls and requests that one call makes of others. Default 64; at most [`Limits::OUTBOUND_MAX`].
    pub outbound: u32,
    /// Most open descriptors of one call, the three streams and preopened directories among them. Default 64; at most
    /// [`Limits::HANDLES_MAX`].
    pub handles: u32,
    /// Size of a call's private directory, in bytes. Default 16 MiB; counted besides linear memory.
    pub scratch_bytes: u64,
}

impl Limits {
    /// 15 minutes: what is longer belongs in a queue.
    pub const DEADLINE_MS_MAX: u64 = 15 * 60 * 1000;
    /// 4 GiB less 64 KiB: all of a 32-bit memory but the page by which a guest is stopped.
    pub const MEMORY_BYTES_MAX: u64 = (4 << 30) - (64 << 10);
    /// 64 MiB: payloads are held in memory on two nodes at once.
    pub const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
    /// Most calls at a time: the number of threads a node gives to guests.
    pub const CONCURRENCY_MAX: u32 = 512;
    /// 16 MiB of log for one call.
    pub const LOG_BYTES_MAX: u64 = 16 << 20;
    /// Most elements of one table: some ten times the functions of the largest module measured. 16 bytes each.
    pub const TABLE_ELEMENTS_MAX: u32 = 1 << 17;
    /// 16 MiB of stack: every thread that runs such a guest keeps one.
    pub const STACK_BYTES_MAX: u64 = 16 << 20;
    /// Most calls and requests of one call.
    pub const OUTBOUND_MAX: u32 = 10_000;
    /// Most descriptors of one call.
    pub const HANDLES_MAX: u32 = 1_024;
    /// 1 GiB of private files.
    pub const SCRATCH_BYTES_MAX: u64 = 1 << 30;
    /// Largest artifact, in bytes: 64 MiB, some ten times the largest module measured.
    pub const ARTIFACT_BYTES_MAX: u64 = 64 << 20;

    /// Says which limit is out of range, what the range is, and what to do, if one is.
    pub fn check(&self) -> Result<(), String> {
        within("deadline", self.deadline_ms, Self::DEADLINE_MS_MAX, Unit::Time)?;
        within("memory", self.memory_bytes, Self::MEMORY_BYTES_MAX, Unit::Bytes)?;
        within("concurrency", self.concurrency.into(), Self::CONCURRENCY_MAX.into(), Unit::Count)?;
        within("payload", self.payload_bytes, Self::PAYLOAD_BYTES_MAX, Unit::Bytes)?;
        within("log", self.log_bytes, Self::LOG_BYTES_MAX, Unit::Bytes)?;
        within("cpu", self.cpu_ms, Self::DEADLINE_MS_MAX, Unit::Time)?;
        within("table", self.table_elements.into(), Self::TABLE_ELEMENTS_MAX.into(), Unit::Count)?;
        within("stack", self.stack_bytes, Self::STACK_BYTES_MAX, Unit::Bytes)?;
        within("outbound", self.outbound.into(), Self::OUTBOUND_MAX.into(), Unit::Count)?;
        within("handles", self.handles.into(), Self::HANDLES_MAX.into(), Unit::Count)?;
        within("scratch", self.scratch_bytes, Self::SCRATCH_BYTES_MAX, Unit::Bytes)
    }
}

/// What a limit counts, for its error to be written as people write it.
#[derive(Clone, Copy)]
enum Unit {
    Time,
    Bytes,
    Count,
}

impl Unit {
    fn show(self, value: u64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Time if value > 0 && value.is_multiple_of(60_000) => format!("{}m", value / 60_000),
            Self::Time if value > 0 && value.is_multiple_of(1_000) => format!("{}s", value / 1_000),
            Self::Time => format!("{value}ms"),
            Self::Bytes => {
                let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
                let whole = units.iter().find(|(shift, _)| value > 0 && value.is_multiple_of(1 << shift));
                whole.map_or_else(|| format!("{value}B"), |(shift, unit)| format!("{}{unit}", value >> shift))
            }
        }
    }
}

fn within(name: &str, value: u64, most: u64, unit: Unit) -> Result<(), String> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    let (value, least, most) = (unit.show(value), unit.show(1), unit.show(most));
    Err(format!(
        "limits.{name} is {value}; it must be from {least} to {most}: set it within that range in function.toml"
    ))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 3_000,
            memory_bytes: 64 << 20,
            concurrency: 64,
            payload_bytes: 6 << 20,
            log_bytes: 256 << 10,
            cpu_ms: Self::DEADLINE_MS_MAX,
            table_elements: Self::TABLE_ELEMENTS_MAX,
            stack_bytes: 1 << 20,
            outbound: 64,
            handles: 64,
            scratch_bytes: 16 << 20,
        }
    }
}

/// What a call may reach. Nothing is reachable that is not granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// Environment variables the guest sees.
    pub env: BTreeMap<String, String>,
    /// Functions it may call: `app/name`, `app/*` or `*`.
    pub invoke: Vec<String>,
    /// Origins it may send HTTP requests to: `https://host[:port]`, with `*.` before a host for those below it.
    pub http: Vec<String>,
    /// True if each call has a private, empty directory, gone when it ends; a WASI module finds it as `/`.
    pub scratch: bool,
}

impl Grants {
    /// Whether a call leaves no trace outside its own sandbox, so that nobody can tell if it ran twice. A grant that
    /// reaches out (a call, a request, a write) makes this false.
    pub fn is_effect_free(&self) -> bool {
        // Taken apart so that a new grant does not compile until somebody has decided what it means here.
        let Self { env: _, invoke, http, scratch: _ } = self;
        invoke.is_empty() && http.is_empty()
    }

    /// Most entries of each kind of grant.
    pub const ENTRIES_MAX: usize = 256;

    /// Says which entry is none of the forms there are, if one is.
    pub fn check(&self) -> Result<(), String> {
        for (name, entries) in [("invoke", &self.invoke), ("http", &self.http)] {
            if entries.len() > Self::ENTRIES_MAX {
                let most = Self::ENTRIES_MAX;
                return Err(format!("grants.{name} has {} entries; at most {most} are allowed", entries.len()));
            }
        }
        self.invoke.iter().try_for_each(|entry| entry.parse::<InvokeGrant>().map(|_| ()))?;
        self.http.iter().try_for_each(|entry| entry.parse::<HttpGrant>().map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest that takes this many bytes.
    fn of_bytes(bytes: usize) -> Manifest {
        let mut manifest = Manifest::named(AppName::default(), "guest".parse().unwrap());
        // Long enough for the length of text to be written in as many bytes as later.
        manifest.description = "x".repeat(1_000);
        let rest = encode(&manifest).unwrap().len() - 1_000;
        manifest.description = "x".repeat(bytes - rest);
        assert_eq!(encode(&manifest).unwrap().len(), bytes);
        manifest
    }

    #[test]
    fn a_manifest_has_16_kib_at_most() {
        for bytes in [Manifest::BYTES_MAX - 1, Manifest::BYTES_MAX] {
            of_bytes(bytes).check_size().unwrap();
        }
        let failure = of_bytes(Manifest::BYTES_MAX + 1).check_size().unwrap_err();
        assert_eq!(failure.code, ErrorCode::TooLarge);
        for word in ["default/guest", "16385 bytes", "16384", "description"] {
            assert!(failure.message.contains(word), "{word}: {failure}");
        }
    }
}
