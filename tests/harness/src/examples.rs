//! The examples, built once a test run from their sources by their own script.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// One example: what to publish, what to send, what to expect.
#[derive(Debug, Clone)]
pub struct Example {
    /// Its name, which is its function's.
    pub name: String,
    /// Its directory, with `function.toml`.
    pub dir: PathBuf,
    /// What is sent.
    pub input: Vec<u8>,
    /// What comes back; none where another engine has to say.
    pub expected: Option<Vec<u8>>,
}

/// All examples, built. The first call of a machine installs their compilers, which takes minutes.
///
/// # Panics
/// If they cannot be built.
pub fn examples() -> &'static [Example] {
    static EXAMPLES: OnceLock<Vec<Example>> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let root = examples_dir();
        let built = Command::new("bash").arg(root.join("build.sh")).status().expect("bash runs");
        assert!(built.success(), "examples/build.sh failed: {built}");
        let mut examples: Vec<Example> =
            fs::read_dir(&root).expect("the examples").filter_map(|entry| read(&entry.ok()?.path())).collect();
        examples.sort_by(|a, b| a.name.cmp(&b.name));
        examples
    })
}

/// Where the examples are.
pub fn examples_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").canonicalize().expect("the examples")
}

fn read(dir: &Path) -> Option<Example> {
    dir.join("function.toml").exists().then(|| Example {
        name: dir.file_name().expect("a name").to_string_lossy().into_owned(),
        dir: dir.to_owned(),
        input: file(dir, "input.").expect("an input"),
        expected: file(dir, "expected."),
    })
}

/// The content of the file whose name begins with `prefix`.
fn file(dir: &Path, prefix: &str) -> Option<Vec<u8>> {
    let mut entries = fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))?;
    fs::read(found.path()).ok()
}
