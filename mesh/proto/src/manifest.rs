//! What a published version declares about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AppName, FunctionName};

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
            limits: Limits::default(),
            grants: Grants::default(),
            scale: Scale::default(),
        }
    }
}

/// How the code is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Abi {
    /// Whatever the module's exports say. The default.
    #[default]
    Auto,
    /// A WASI preview 1 command: payload on stdin, result on stdout, log on stderr.
    Wasi,
}

/// Whether calls share a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum InstancePolicy {
    /// A new sandbox for every call. The default.
    #[default]
    Fresh,
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
    /// Largest artifact, in bytes: 64 MiB, some ten times the largest module measured.
    pub const ARTIFACT_BYTES_MAX: u64 = 64 << 20;

    /// Says which limit is out of range, if one is.
    pub fn check(&self) -> Result<(), String> {
        fn within(name: &str, value: u64, most: u64) -> Result<(), String> {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("limits.{name} is {value}; it must be from 1 to {most}"))
            }
        }
        within("deadline", self.deadline_ms, Self::DEADLINE_MS_MAX)?;
        within("memory", self.memory_bytes, Self::MEMORY_BYTES_MAX)?;
        within("concurrency", self.concurrency.into(), Self::CONCURRENCY_MAX.into())?;
        within("payload", self.payload_bytes, Self::PAYLOAD_BYTES_MAX)?;
        within("log", self.log_bytes, Self::LOG_BYTES_MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 3_000,
            memory_bytes: 64 << 20,
            concurrency: 64,
            payload_bytes: 6 << 20,
            log_bytes: 256 << 10,
        }
    }
}

/// What a call may reach. Nothing is reachable that is not granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// Environment variables the guest sees.
    pub env: BTreeMap<String, String>,
}

impl Grants {
    /// Whether a call leaves no trace outside its own sandbox, so that nobody can tell if it ran twice. A grant that
    /// reaches out (a call, a request, a write) makes this false; today none does.
    pub fn is_effect_free(&self) -> bool {
        // Taken apart so that a new grant does not compile until somebody has decided what it means here.
        let Self { env: _ } = self;
        true
    }
}

/// How long an activation lives without calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scale {
    /// Time without a call after which the activation stops, in milliseconds. Default 60,000.
    pub idle_ms: u64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { idle_ms: 60_000 }
    }
}
