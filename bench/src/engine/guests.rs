//! The guests: built from source by `bench/guests/build.sh`, or from text.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Where the modules are.
#[derive(Debug, Clone)]
pub(crate) struct Guests {
    dir: PathBuf,
}

/// The top of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

impl Guests {
    /// Builds what is not up to date. The script says what it installs and builds.
    pub(crate) fn build() -> Result<Self> {
        let script = root().join("bench/guests/build.sh");
        let status = Command::new("bash").arg(&script).status().context("bash")?;
        ensure!(status.success(), "{} failed: {status}", script.display());
        let dir = root().join("target/bench-guests").canonicalize()?;
        Ok(Self { dir })
    }

    /// A module that the script built.
    pub(crate) fn module(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.wasm"));
        ensure!(path.is_file(), "{} was not built", path.display());
        Ok(path)
    }

    /// A script.
    pub(crate) fn script(name: &str) -> PathBuf {
        root().join("bench/guests/js").join(name)
    }

    /// The native program of a name.
    pub(crate) fn native(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A module from its text.
    pub(crate) fn text(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.wasm"));
        let module = skein_harness::wasm(text);
        // Left alone if it is the same, so that what was compiled from it stays newer.
        if std::fs::read(&path).ok().as_deref() != Some(&module) {
            std::fs::write(&path, module)?;
        }
        Ok(path)
    }
}
