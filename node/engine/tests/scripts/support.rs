//! One engine for all scripts, which share its compiled runtime, and short forms of calling them.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use skein_engine::{Call, Engine, EngineConfig, EngineError, Output, Program, RunError, StopHandle};
use skein_proto::{Abi, AppName, Digest, FunctionName, Limits, Manifest};
use skein_script::Bundle;
use tokio::time::Instant;

/// Longer than any test takes.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) fn engine() -> &'static Engine {
    &shared().0
}

/// Another engine that finds the compiled runtime where the first has put it.
pub(crate) fn engine_with(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let (engine, dir) = shared();
    engine.inspect(b"export default () => 1;", &manifest()).unwrap();
    let mut config = EngineConfig::new(dir.path());
    change(&mut config);
    Engine::open(config).unwrap()
}

fn shared() -> &'static (Engine, tempfile::TempDir) {
    static ENGINE: OnceLock<(Engine, tempfile::TempDir)> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        (Engine::open(EngineConfig::new(dir.path())).unwrap(), dir)
    })
}

pub(crate) fn manifest() -> Manifest {
    let name: FunctionName = "test".parse().unwrap();
    let limits = Limits { deadline_ms: LONG.as_millis() as u64, ..Limits::default() };
    Manifest { abi: Abi::Script, limits, ..Manifest::named(AppName::default(), name) }
}

pub(crate) fn call(payload: &str) -> Call<'static> {
    let mut call = Call::new(manifest().limits, Instant::now() + LONG, StopHandle::new());
    call.payload = payload.to_owned().into();
    call
}

pub(crate) fn load_as(code: Vec<u8>, manifest: &Manifest) -> Result<Arc<Program>, EngineError> {
    engine().load(Digest::of(&code), manifest, || Ok(code.into()))
}

pub(crate) fn load(text: &str) -> Arc<Program> {
    load_as(text.into(), &manifest()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A script of several files, each `path` and text; it begins with `index.js`.
pub(crate) fn bundle(files: &[(&str, &str)]) -> Vec<u8> {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).into())).collect();
    Bundle::new("index.js", files).unwrap().to_bytes()
}

pub(crate) fn text(result: Result<Output, RunError>) -> String {
    match result {
        Ok(output) => String::from_utf8_lossy(&output.payload).into_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

/// Runs a script whose handler is `body`, a function's text, with a payload.
pub(crate) fn run(body: &str, payload: &str) -> String {
    text(load(&format!("export default {body};")).run(call(payload)))
}
