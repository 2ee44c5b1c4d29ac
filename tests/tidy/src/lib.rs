//! Holds the rules that the compiler does not: who may use whom, which crate is the door to a big dependency, how long a
//! file and a function may get, what no file may contain.
//!
//! **Owns** the rules, as functions from text to findings. **Refuses** to change anything, and to know where the text
//! comes from: `tests/repository.rs` gathers it. **Start reading at** [`levels`]. **Example**:
//!
//! ```
//! let source = skein_tidy::Source::new("mesh/proto/src/id.rs", "fn main() { todo!() }");
//! let findings = skein_tidy::style::check(&source);
//! assert!(findings[0].to_string().starts_with("mesh/proto/src/id.rs:1: "));
//! ```

pub mod documents;
pub mod levels;
mod source;
pub mod style;

pub use source::Source;

/// A broken rule: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, from the top of the repository.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub advice: String,
}

impl Finding {
    /// A finding in a line of a file.
    pub fn new(file: &str, line: usize, advice: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, advice: advice.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.advice)
    }
}
