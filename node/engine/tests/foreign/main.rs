//! Modules that nobody here wrote, with interfaces of their own: hash kernels and formatters, as published on npm.
//!
//! `tests/foreign/fetch.sh` fetches them and has another engine say what they give. Here each is linked to a `_start`
//! that speaks its interface, and published and called as the command it is then: every byte must be the same.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

mod drivers;
#[path = "../common/wrap.rs"]
#[allow(dead_code, reason = "each of its users needs a part")]
mod wrap;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, RunError, StopHandle};
use skein_proto::{AppName, Digest, Limits, Manifest};
use tokio::time::Instant;

use drivers::HashSettings;

/// One line of `cases.tsv`.
struct Case {
    interface: String,
    module: String,
    settings: [String; 3],
    input: Vec<u8>,
    expected: Vec<u8>,
}

fn fetched() -> (PathBuf, Vec<Case>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let ran = Command::new("bash").arg(root.join("tests/foreign/fetch.sh")).status().unwrap();
    assert!(ran.success(), "tests/foreign/fetch.sh failed: {ran}");
    let folder = root.join("target/foreign");
    let cases = fs::read_to_string(folder.join("cases.tsv")).unwrap();
    let case = |line: &str| {
        let [interface, module, a, b, c, input, expected] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let settings = [a, b, c].map(str::to_owned);
        Case {
            interface: interface.to_owned(),
            module: module.to_owned(),
            settings,
            input: bytes(input),
            expected: bytes(expected),
        }
    };
    (folder, cases.lines().map(case).collect())
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn modules_nobody_here_wrote_give_the_bytes_that_another_engine_gives() {
    let (folder, cases) = fetched();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineConfig::new(dir.path())).unwrap();
    let limits = Limits { deadline_ms: 60_000, ..Limits::default() };
    let manifest = Manifest { limits, ..Manifest::named(AppName::default(), "foreign".parse().unwrap()) };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        let module = fs::read(folder.join(&case.module)).unwrap();
        let (command, payload) = match case.interface.as_str() {
            "hash" => (drivers::hash(&module, &hash_settings(&case.settings)), case.input.clone()),
            "dprint" => (drivers::formatter(&module), document(case)),
            other => panic!("there is no driver for {other}"),
        };
        let command = Bytes::from(command.unwrap_or_else(|refused| panic!("{}: {}", case.module, refused.0)));
        let program = engine.load(Digest::of(&command), &manifest, || Ok(command.clone()));
        let program = program.unwrap_or_else(|error| panic!("{}: {error}", case.module));
        let deadline = Instant::now() + Duration::from_secs(60);
        let call = Call { payload: payload.into(), ..Call::new(limits, deadline, StopHandle::new()) };
        let result = match program.run(call) {
            Ok(output) => output.payload.to_vec(),
            // How the driver of formatters says that there was an error, whose text is the log.
            Err(RunError::Exit { code: 1, output }) => [b"!", &output.log[..]].concat(),
            Err(error) => panic!("{}: {error}", case.module),
        };
        let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let (ours, theirs) = (show(&result), show(&case.expected));
        assert!(result == case.expected, "{}: the engines differ: {ours:?} here, {theirs:?} there", case.module);
        *seen.entry(&case.module).or_default() += 1;
    }
    println!("{seen:?}");
    assert!(seen.len() >= 20 && cases.len() >= 70, "{seen:?}");
}

fn hash_settings(settings: &[String; 3]) -> HashSettings {
    HashSettings {
        init: settings[0].parse::<u32>().unwrap(),
        last: settings[1].parse::<u32>().unwrap(),
        digest_bytes: settings[2].parse::<u32>().unwrap(),
    }
}

/// What the driver of formatters reads: two lengths, the configuration, the path, the text.
fn document(case: &Case) -> Vec<u8> {
    let (config, path) = (bytes(&case.settings[0]), bytes(&case.settings[1]));
    let length = |part: &[u8]| (part.len() as u32).to_le_bytes();
    [&length(&config)[..], &length(&path), &config, &path, &case.input].concat()
}
