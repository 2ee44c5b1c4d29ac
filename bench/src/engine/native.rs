//! The compute kernels compiled natively: the floor.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::engine::{
    Subject,
    job::{Done, Job},
};

/// A program that reads a job on stdin, writes the answer to stdout and the nanoseconds it took to stderr.
#[derive(Debug)]
pub(crate) struct Native {
    program: PathBuf,
}

impl Native {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program }
    }
}

impl Subject for Native {
    fn run(&mut self, job: &Job) -> Result<Done> {
        let mut done = Done::default();
        for _ in 0..job.turns {
            let mut child = Command::new(&self.program)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            child.stdin.take().context("its stdin")?.write_all(job.payload.as_bytes())?;
            let ended = child.wait_with_output()?;
            ensure!(ended.status.success(), "{} {}: {}", self.program.display(), job.payload, ended.status);
            done.nanos.push(String::from_utf8(ended.stderr)?.trim().parse()?);
            done.output = String::from_utf8(ended.stdout)?;
        }
        Ok(done)
    }
}
