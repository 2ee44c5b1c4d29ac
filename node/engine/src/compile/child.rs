//! The parent's side of a compiler's process: starts it, feeds it, waits for no longer than it may, ends it, and says
//! what came of it. No process outlives the call that started it.

use std::{
    ffi::OsString,
    io::{self, Read, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use super::{
    Cause, Failed,
    frame::{self, ARTEFACT_BYTES_MAX, Answer, Request},
    native::too_long,
    sys::{self, Wait},
};
use crate::clock;

/// The command that compiles one module: a program of this very build, which calls
/// [`serve_compilation`](crate::serve_compilation).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCommand {
    /// The program, by an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl WorkerCommand {
    /// `program` with these arguments.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { program: program.into(), args: args.into_iter().map(Into::into).collect() }
    }

    /// The program that runs now, with these arguments; also when its file has been replaced meanwhile, as in an
    /// upgrade.
    pub fn this_program(args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self::new("/proc/self/exe", args)
    }
}

/// What a process made.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) artefact: Vec<u8>,
    /// What it could not have of its sandbox.
    pub(super) missing: Vec<String>,
}

/// Has `code` compiled by a process of its own. Ends early, and the process with it, when `cancelled` is closed at its
/// other end.
pub(super) fn compile(
    command: &WorkerCommand,
    request: &Request,
    code: &[u8],
    cancelled: BorrowedFd<'_>,
) -> Result<Compiled, Failed> {
    let header = frame::encode(request).map_err(|error| Failed::new(Cause::Garbage, error.to_string()))?;
    let wall = Duration::from_millis(request.time_ms) + GRACE;
    let mut child = spawn(command)?;
    let mut talk = Talk { unsent: [&header, code], answer: Vec::new(), answer_bytes: None, stderr: Vec::new() };
    let end = talk.run(&mut child, clock::now() + wall, cancelled);
    // One that has ended is not touched by it, and keeps the status it ended with.
    let _ = child.kill();
    let status = child.wait();
    let io = |error: io::Error| Failed::new(Cause::Lost, format!("the compiler's process: {error}"));
    match end.map_err(io)? {
        End::Silent => talk.judge(status.map_err(io)?, request),
        End::Late => Err(too_long(Duration::from_millis(request.time_ms))),
        End::Cancelled => Err(Failed::new(Cause::Shutdown, "the engine is shut down")),
        End::Garbage => Err(garbage("what cannot be read")),
    }
}

fn spawn(command: &WorkerCommand) -> Result<Child, Failed> {
    Command::new(&command.program)
        .args(&command.args)
        // Nothing of ours is its business: no variable, no directory; and the terminal's Ctrl-C is not its.
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let message = format!("cannot start the compiler's process {}: {error}", command.program.display());
            Failed::new(Cause::Lost, message)
        })
}

/// How the talk with a process ended.
enum End {
    /// It closed its side.
    Silent,
    /// Its time was up.
    Late,
    /// Nobody wants the answer any more.
    Cancelled,
    /// What it answers is no answer.
    Garbage,
}

/// The talk with one process.
struct Talk<'r> {
    unsent: [&'r [u8]; 2],
    answer: Vec<u8>,
    /// How long the answer is, once its header is there.
    answer_bytes: Option<u64>,
    /// The end of what it complained of.
    stderr: Vec<u8>,
}

impl Talk<'_> {
    fn run(&mut self, child: &mut Child, deadline: Instant, cancelled: BorrowedFd<'_>) -> io::Result<End> {
        let mut input = child.stdin.take();
        let (Some(mut output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("it has no pipes"));
        };
        if let Some(input) = &input {
            sys::set_nonblocking(input.as_fd())?;
        }
        let (mut is_talking, mut is_complaining) = (true, true);
        let mut buffer = vec![0; BUFFER_BYTES];
        while is_talking || is_complaining {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(End::Late);
            }
            let waits = [
                input.as_ref().map_or(Wait::Not, |input| Wait::Write(input.as_fd())),
                if is_talking { Wait::Read(output.as_fd()) } else { Wait::Not },
                if is_complaining { Wait::Read(errors.as_fd()) } else { Wait::Not },
                Wait::Read(cancelled),
            ];
            let [can_send, has_answer, has_errors, is_cancelled] = sys::wait(waits, left)?;
            if is_cancelled {
                return Ok(End::Cancelled);
            }
            if can_send && !input.as_mut().is_some_and(|input| self.send(input)) {
                input = None;
            }
            if has_answer {
                is_talking = pull(&mut output, &mut buffer, &mut self.answer)?;
                if !self.is_sound() {
                    return Ok(End::Garbage);
                }
            }
            if has_errors {
                is_complaining = pull(&mut errors, &mut buffer, &mut self.stderr)?;
                let surplus = self.stderr.len().saturating_sub(STDERR_BYTES_MAX);
                self.stderr.drain(..surplus);
            }
        }
        Ok(End::Silent)
    }

    /// Sends what the pipe takes; false when there is nothing left to send, or nobody who reads it.
    fn send(&mut self, input: &mut ChildStdin) -> bool {
        for part in &mut self.unsent {
            while !part.is_empty() {
                match input.write(part) {
                    Ok(0) => return false,
                    Ok(sent) => *part = &part[sent..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Whoever does not read has ended, or will answer all the same.
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            }
        }
        false
    }

    /// False if what came so far is not the beginning of an answer.
    fn is_sound(&mut self) -> bool {
        if self.answer_bytes.is_none() {
            let mut rest = self.answer.as_slice();
            match frame::read::<Answer>(&mut rest) {
                Ok(answer) => {
                    let header_bytes = (self.answer.len() - rest.len()) as u64;
                    let artefact_bytes = match answer {
                        Answer::Compiled { artefact_bytes, .. } => artefact_bytes,
                        Answer::Failed(_) => 0,
                    };
                    self.answer_bytes = header_bytes.checked_add(artefact_bytes);
                    return artefact_bytes <= ARTEFACT_BYTES_MAX
                        && self.answer.len() as u64 <= header_bytes + artefact_bytes;
                }
                Err(error) => return error.kind() == io::ErrorKind::UnexpectedEof,
            }
        }
        self.answer_bytes.is_some_and(|most| self.answer.len() as u64 <= most)
    }

    fn judge(mut self, status: ExitStatus, request: &Request) -> Result<Compiled, Failed> {
        if let Some(signal) = status.signal() {
            return Err(self.judge_signal(signal, request));
        }
        if !status.success() && self.answer.is_empty() {
            let message = format!("the compiler's process failed ({status}): {}", self.complaint());
            return Err(Failed::new(Cause::Lost, message));
        }
        let mut rest = self.answer.as_slice();
        match frame::read::<Answer>(&mut rest).map_err(|_| garbage("what cannot be read"))? {
            Answer::Failed(failed) => Err(failed),
            Answer::Compiled { artefact_bytes, missing }
                if artefact_bytes == rest.len() as u64 && artefact_bytes > 0 =>
            {
                let header_bytes = self.answer.len() - rest.len();
                self.answer.drain(..header_bytes);
                Ok(Compiled { artefact: self.answer, missing })
            }
            Answer::Compiled { .. } => Err(garbage("too much or too little")),
        }
    }

    fn judge_signal(&self, signal: i32, request: &Request) -> Failed {
        let complaint = self.complaint();
        let is_memory = ["memory allocation of", "Cannot allocate memory", "out of memory", "WouldBlock"];
        match signal {
            libc::SIGXCPU => too_long(Duration::from_millis(request.cpu_ms)),
            libc::SIGABRT if is_memory.iter().any(|word| complaint.contains(word)) => {
                let mib = request.memory_bytes >> 20;
                let message = format!("compiling the module needs more than {mib} MiB of memory; split the module");
                Failed::new(Cause::Memory, message)
            }
            libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT => {
                let message =
                    format!("the compiler's process was ended by signal {signal}, not by the node; try again");
                Failed::new(Cause::Lost, message)
            }
            _ => {
                let message = format!("the compiler crashes on this module (signal {signal})");
                tracing::warn!(signal, complaint, "a compiler's process crashed");
                Failed::new(Cause::Crashed, message)
            }
        }
    }

    fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        text.trim().chars().filter(|letter| !letter.is_control() || *letter == '\n').collect()
    }
}

fn garbage(what: &str) -> Failed {
    Failed::new(Cause::Garbage, format!("the compiler's process answers {what}"))
}

/// Reads what there is; false at the end.
fn pull(source: &mut impl Read, buffer: &mut [u8], target: &mut Vec<u8>) -> io::Result<bool> {
    match source.read(buffer) {
        Ok(read) => {
            target.extend_from_slice(&buffer[..read]);
            Ok(read > 0)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}

/// What a process gets on top of its time: to start, to link, and to send.
const GRACE: Duration = Duration::from_secs(2);
const BUFFER_BYTES: usize = 64 << 10;
const STDERR_BYTES_MAX: usize = 4 << 10;
