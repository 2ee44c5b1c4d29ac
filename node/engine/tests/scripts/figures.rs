//! How long scripts take: printed, not judged. `cargo test -p skein-engine --test scripts -- --ignored --nocapture`

use std::time::Duration;

use tokio::time::Instant;

use skein_engine::{Engine, EngineConfig};
use skein_proto::{Digest, InstancePolicy, Manifest};

use crate::support::{call, manifest};

const SMALL: &str = "export default ({ name }, ctx) => ({ hello: name.toUpperCase(), version: ctx.version });";

fn median(mut times: Vec<Duration>) -> String {
    times.sort();
    format!("min {:.1?}, median {:.1?}", times[0], times[times.len() / 2])
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineConfig::new(dir.path())).unwrap();
    let timed = |run: &mut dyn FnMut()| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    };
    println!("runtime: {} bytes", skein_script::RUNTIME.len());
    let first = timed(&mut || drop(engine.inspect(SMALL.as_bytes(), &manifest()).unwrap()));
    println!("first inspection, which compiles the runtime: {first:.1?}");
    let again = (0..20).map(|_| timed(&mut || drop(engine.inspect(SMALL.as_bytes(), &manifest()).unwrap())));
    println!("inspection of a small script: {}", median(again.collect()));
    let digest = Digest::of(SMALL.as_bytes());
    let load = |manifest: &Manifest| engine.load(digest, manifest, || Ok(SMALL.into())).unwrap();
    println!("prepare and load: {:.1?}", timed(&mut || drop(load(&manifest()))));
    for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        let blocks = std::os::unix::fs::MetadataExt::blocks(&entry.metadata().unwrap()) * 512;
        println!(
            "  {} {} bytes, {blocks} on disk",
            entry.file_name().to_string_lossy(),
            entry.metadata().unwrap().len()
        );
    }
    let payload = r#"{"name": "ann"}"#;
    let cold = (0..20).map(|_| timed(&mut || drop(load(&manifest()).run(call(payload)).unwrap())));
    println!("load from the cache and first reply: {}", median(cold.collect()));
    let program = load(&manifest());
    let fresh = (0..500).map(|_| timed(&mut || drop(program.run(call(payload)).unwrap())));
    println!("fresh call (an instance that was reset): {}", median(fresh.collect()));
    let program = load(&Manifest { instance: InstancePolicy::Reuse, ..manifest() });
    let warm = (0..500).map(|_| timed(&mut || drop(program.run(call(payload)).unwrap())));
    println!("warm call (a reused instance): {}", median(warm.collect()));
    let made = (0..100).map(|_| {
        let program = load(&manifest());
        timed(&mut || drop(program.run(call(payload)).unwrap()))
    });
    println!("first reply of a new instance: {}", median(made.collect()));
    println!("memory of an instance: {} bytes", program.run(call(payload)).unwrap().memory_bytes);
}
