//! wasmtime, in a process and a workspace of its own: the two engines' compilers do not fit one lock file.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::engine::{
    Subject,
    guests::root,
    job::{Done, Job},
};

/// A running rival. Ends with its stdin.
#[derive(Debug)]
pub(crate) struct Rival {
    child: Child,
    jobs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Rival {
    /// Builds the program, beside the benchmarks' own target directory.
    pub(crate) fn build() -> Result<PathBuf> {
        let target = std::env::var_os("SKEIN_BENCH_WASMTIME_TARGET")
            .map_or_else(|| root().join("target/bench-wasmtime"), PathBuf::from);
        let program = target.join("release/skein-bench-wasmtime");
        eprintln!("building the wasmtime rival in {} (minutes, the first time)", target.display());
        let status = Command::new("cargo")
            .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
            .arg(root().join("bench/wasmtime/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status()
            .context("cargo")?;
        ensure!(status.success(), "the wasmtime rival did not build: {status}");
        Ok(program)
    }

    /// Starts it. With `has_epochs`, its guests can be stopped, as ours can.
    pub(crate) fn start(program: &Path, has_epochs: bool) -> Result<Self> {
        let mut command = Command::new(program);
        if has_epochs {
            command.arg("--epochs");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let jobs = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("its stdout")?);
        Ok(Self { child, jobs, answers })
    }
}

impl Subject for Rival {
    fn run(&mut self, job: &Job) -> Result<Done> {
        let jobs = self.jobs.as_mut().context("its stdin")?;
        writeln!(jobs, "{}", serde_json::to_string(job)?)?;
        jobs.flush()?;
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the wasmtime rival ended");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _ = self.child.wait();
    }
}
