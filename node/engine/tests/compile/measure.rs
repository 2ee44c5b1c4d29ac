//! What compiling and loading take, for the files that `SKEIN_MEASURE` lists. Prints a table; claims nothing.
//!
//! ```text
//! SKEIN_MEASURE="a.wasm b.wasm" cargo test --release -p skein-engine --test compile measure -- --ignored --nocapture
//! ```

use std::time::Duration;

use tokio::time::Instant;

use skein_engine::{Engine, Tiering};
use skein_proto::Digest;

use crate::support::{config, load, manifest, prepare, worker};

const ROUNDS: usize = 5;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "it measures"]
fn measure() {
    let files = std::env::var("SKEIN_MEASURE").unwrap_or_default();
    println!("| module | bytes | compiler | in | compile | artefact bytes | cold load |");
    for file in files.split_whitespace() {
        let code = std::fs::read(file).unwrap();
        for tiering in [Tiering::Baseline, Tiering::Optimised] {
            for is_apart in [false, true] {
                let (mut compiles, mut loads, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
                for _ in 0..ROUNDS {
                    let dir = tempfile::tempdir().unwrap();
                    let mut config = config(dir.path());
                    (config.tiering, config.worker) = (tiering, is_apart.then(worker));
                    let engine = Engine::open(config).unwrap();
                    compiles.push(prepare(&engine, &code).unwrap().compile);
                    let files = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
                    let code_files = files.filter(|file| !file.file_name().to_string_lossy().ends_with(".img"));
                    bytes = code_files.map(|file| file.metadata().unwrap().len()).sum();
                    drop(load(&engine, &code));
                    let digest = Digest::of(&code);
                    for _ in 0..20 {
                        let begin = Instant::now();
                        let program = engine.load(digest, &manifest(), || panic!("it is cached")).unwrap();
                        loads.push(begin.elapsed());
                        drop(program);
                    }
                    engine.shutdown();
                }
                let place = if is_apart { "a process" } else { "this process" };
                let (compile, load) = (median(compiles), median(loads));
                println!("| {file} | {} | {tiering:?} | {place} | {compile:.1?} | {bytes} | {load:.1?} |", code.len());
            }
        }
    }
}
