//! Runs WebAssembly, and JavaScript on it: each call in a limited instance, fresh unless its version says otherwise.
//!
//! **Owns** wasmer and everything near it: inspecting a module, compiling it, the artefact cache on disk, linear
//! memory, the safepoints that stop a runaway guest, and the hosts of WASI preview 1, Extism and scripts. It is the only crate with unsafe
//! code, and only in the modules that say so.
//!
//! **Refuses** async: everything blocks, so callers bring threads of their own. It knows no peers, no catalogue and
//! no files but those it is told to give: a guest sees its arguments, its environment, three streams, clocks, random
//! bytes, and a private directory if its version has one.
//!
//! **Threads**: guests run on stacks of their own ([`EngineConfig::guest_stack_bytes`]); host code they call runs on
//! the caller's stack, for which the 2 MiB of a default Rust thread are plenty and 256 KiB are enough.
//!
//! **Start reading at** [`Engine`], then [`Program::run`].
//!
//! ```
//! use skein_engine::{Call, Engine, EngineConfig, StopHandle};
//! use skein_proto::{Digest, FunctionName, Limits, Manifest};
//!
//! let dir = tempfile::tempdir()?;
//! let engine = Engine::open(EngineConfig::new(dir.path()))?;
//! let code = wat::parse_str(r#"(module (func (export "_start")))"#)?;
//! let manifest = Manifest::named(Default::default(), "nothing".parse::<FunctionName>()?);
//! let program = engine.load(Digest::of(&code), &manifest, || Ok(code.into()))?;
//! let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
//! let output = program.run(Call::new(Limits::default(), deadline, StopHandle::new()))?;
//! assert!(output.payload.is_empty());
//! engine.shutdown();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod artefacts;
mod cache;
mod call;
mod clock;
mod code;
mod compile;
mod config;
mod engine;
mod error;
mod extism;
mod flight;
pub mod grants;
mod headroom;
mod host;
mod husk;
mod image;
mod inspect;
mod link;
mod memory;
mod metrics;
mod pool;
mod program;
mod report;
mod rewrite;
mod run;
mod safepoint;
mod script;
mod services;
mod signals;
mod skein;
mod snapshot;
mod stop;
mod thread_clock;
mod wasi;
mod watchdog;

pub use call::{Call, Output};
pub use compile::{WorkerCommand, serve_compilation};
pub use config::{EngineConfig, Tiering};
pub use engine::{Engine, Prepared};
pub use error::{EngineError, RunError, TrapKind};
pub use memory::{Held, Memory, NoRoom, Room};
pub use program::Program;
pub use report::ModuleReport;
pub use services::{Asked, HttpRequest, HttpResponse, InvokeRequest, Services};
pub use signals::shield_thread;
pub use skein_proto::Tier;
pub use stop::StopHandle;
pub use thread_clock::thread_cpu_time;
pub use wasi::Preopen;
pub use watchdog::EXIT_CODE_LOST;
