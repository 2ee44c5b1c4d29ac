//! What inspecting a module found.

use serde::{Deserialize, Serialize};
use skein_proto::Abi;

/// What a module is and needs, as far as it can be told without running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModuleReport {
    /// How it is called; never [`Abi::Auto`].
    pub abi: Abi,
    /// The functions it imports, as `module.name`, in its order.
    pub imports: Vec<String>,
    /// The names it exports, in its order; at most 64 of them.
    pub exports: Vec<String>,
    /// Functions with a body.
    pub functions: u32,
    /// Linear memory it starts with, in bytes.
    pub memory_bytes_min: u64,
    /// The most linear memory it asks for, in bytes, if it says.
    pub memory_bytes_max: Option<u64>,
    /// Its size.
    pub code_bytes: u64,
    /// True if it has the export of a command, `_start`.
    pub is_command: bool,
    /// True if memory and globals are all that a call can change, so that an instance can be reset instead of rebuilt.
    pub is_resettable: bool,
    /// True if its memory and globals after initialisation can be those of another instance.
    pub is_portable: bool,
}
