//! A guest that was stopped and never comes back takes its process with it; one that is merely slow does not.

use std::{
    env, future,
    io::{self, PipeReader, PipeWriter, Write as _},
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_setfl};
use skein_engine::{
    Asked, Call, EXIT_CODE_LOST, Engine, EngineConfig, HttpRequest, HttpResponse, InvokeRequest, RunError, Services,
};
use skein_proto::{Digest, Grants, Manifest};

use crate::support::{LONG, SHORT, call, code, plain};

/// Set in the process that a test starts of itself.
const IS_CHILD: &str = "SKEIN_TEST_LOST";
/// Much longer than a stopped guest sleeps here who comes back.
const LOST_AFTER: Duration = Duration::from_millis(600);

/// Keeps the guest's own thread, as a lock of the host's would.
struct Keeps(fn());

impl Services for Keeps {
    fn invoke(&self, _: InvokeRequest) -> Asked<Bytes> {
        (self.0)();
        Box::pin(future::pending())
    }

    fn http(&self, _: HttpRequest) -> Asked<HttpResponse> {
        Box::pin(future::pending())
    }
}

#[test]
fn a_process_whose_stopped_guest_never_comes_back_says_whose_it_is_and_ends() {
    let keep = || loop {
        thread::park();
    };
    let Some(ended) = in_a_process_of_its_own("says_whose_it_is_and_ends", keep) else { return };
    assert_eq!(ended.status.code(), Some(i32::from(EXIT_CODE_LOST)), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("the function default/test was stopped and its thread does not come back"), "{said}");
}

#[test]
fn a_process_whose_stopped_guest_is_slow_goes_on() {
    // Three times as long as one may be away that does nothing.
    let keep = || (0..180).for_each(|_| thread::park_timeout(LOST_AFTER / 60));
    let Some(ended) = in_a_process_of_its_own("is_slow_goes_on", keep) else { return };
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn a_process_whose_guest_is_lost_ends_though_nobody_reads_what_it_says() {
    let keep = || loop {
        thread::park();
    };
    let Some(mut child) = again("though_nobody_reads_what_it_says") else { return keep_a_guest(keep) };
    let (reader, writer) = full_pipe();
    let mut child = child.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait().unwrap()));
    let ended = ended.recv_timeout(LONG).expect("it ends, and does not wait for its reader");
    assert_eq!(ended.code(), Some(i32::from(EXIT_CODE_LOST)));
    drop(reader);
}

/// A pipe that takes no byte more; whoever writes to it waits.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

/// Starts the test of this name again, and says how that process ended. There, runs a guest whose thread is kept until
/// after its deadline, and says nothing.
fn in_a_process_of_its_own(test: &str, keep: fn()) -> Option<Output> {
    let Some(mut child) = again(test) else {
        keep_a_guest(keep);
        return None;
    };
    Some(child.output().unwrap())
}

/// What starts the test of this name again; `None` in the process that was started so.
fn again(test: &str) -> Option<Command> {
    if env::var_os(IS_CHILD).is_some() {
        return None;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([test, "--nocapture"]).env(IS_CHILD, "1");
    Some(child)
}

/// Runs a guest whose thread is kept until after its deadline.
fn keep_a_guest(keep: fn()) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.lost_after = LOST_AFTER;
    let engine = Engine::open(config).unwrap();
    let code = code(
        r#"(module
            (import "skein" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "skein" "wait" (func $wait (param i64) (result i32)))
            (memory (export "memory") 1) (data (i32.const 16) "shop/price")
            (func (export "handle")
                (drop (call $invoke (i32.const 16) (i32.const 10) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
                (drop (call $wait (i64.const -1)))))"#,
    );
    let grants = Grants { invoke: vec!["*".to_owned()], ..Grants::default() };
    let manifest = Manifest { grants, ..plain() };
    let program = engine.load(Digest::of(&code), &manifest, || Ok(code.clone())).unwrap();
    let ended = program.run(Call { services: Some(Arc::new(Keeps(keep))), ..call(SHORT) });
    assert!(matches!(ended, Err(RunError::Deadline { .. })), "{ended:?}");
}
