//! Publishes case after case as a node would, calls each, and holds the engine to what it promises of any module:
//! no panic and no abort, a typed refusal or a typed ending, in time, within bounded memory, and with nothing in it or
//! after it of the call before.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use skein_engine::{Call, Engine, EngineConfig, EngineError, Program, RunError, StopHandle};
use skein_proto::{AppName, Digest, ErrorCode, Failure, InstancePolicy, Limits, Manifest};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{cases, corpus};

/// Changes a module by a number, if it can.
pub(crate) type Mutate = fn(&[u8], u64) -> Option<Vec<u8>>;

/// How much later than its limit a call may end, in milliseconds, unless `SKEIN_FUZZ_GRACE_MS` says otherwise for a
/// machine that has much else to do. Who is late must be so again and again.
const GRACE_MS: u64 = 200;
const TRIES: usize = 4;
/// For programs of our own, which end by themselves.
const PLENTY_MS: u64 = 600_000;
/// Longest compilation, and how much longer a publish may take: compilers look at the clock between functions only.
const COMPILE_MAX: Duration = Duration::from_secs(5);
const PUBLISH_MAX: Duration = Duration::from_secs(60);
/// More memory than this, above what it was at the start, is memory that does not come back. The linker that wasmer uses
/// never frees some 2 KiB of each module (`libwild`, `ParsedInputObject`, by a heap profile): in an hour of compiling in
/// this process, 500 MiB. A node compiles in processes of their own.
const RESIDENT_GROWTH_MAX: u64 = 768 << 20;
const MAPPINGS_GROWTH_MAX: usize = 2_000;
/// So often memory is looked at, and the cache on disk emptied.
const CHECK_EVERY: u64 = 64;
/// So many findings end a run.
const FINDINGS_MAX: usize = 20;
/// In every word of the memory of the call before.
const CANARY: &[u8; 8] = b"\xc5SECRET\x5c";

/// A run of cases, each a function of the seed and its number.
pub(crate) struct Campaign {
    seed: u64,
    engine: Engine,
    sources: Vec<Bytes>,
    mutate: Option<Mutate>,
    grace: Duration,
    stain: Arc<Program>,
    clean: Arc<Program>,
    keep: HashSet<Digest>,
    before: (u64, usize),
    /// The bytes of the case under way, in a file that outlives an abort.
    last: PathBuf,
    endings: BTreeMap<String, u64>,
    cases: u64,
    latest: Duration,
    longest_publish: Duration,
    _dir: TempDir,
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, mappings) = footprint();
        let (seed, cases) = (self.seed, self.cases);
        write!(f, "seed {seed}: {cases} cases, latest end {:?} after its limit, ", self.latest)?;
        write!(f, "longest publish {:?}, {} MiB in {mappings} mappings; ", self.longest_publish, bytes >> 20)?;
        write!(f, "endings {:?}", self.endings)
    }
}

impl Campaign {
    /// Opens an engine of its own in a temporary directory.
    pub(crate) fn open(seed: u64, mutate: Option<Mutate>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = EngineConfig::new(dir.path());
        config.compile_time_max = COMPILE_MAX;
        let engine = Engine::open(config).unwrap();
        let sources = corpus::read().into_iter().map(|hostile| hostile.code).filter(|code| code.len() < 32 << 10);
        let (stain, stain_digest) = load(&engine, &stain());
        let (clean, clean_digest) = load(&engine, CLEAN);
        let grace = std::env::var("SKEIN_FUZZ_GRACE_MS").map_or(GRACE_MS, |text| text.parse().unwrap());
        let grace = Duration::from_millis(grace);
        let last = std::env::temp_dir().join(format!("skein-fuzz-{seed}.wasm"));
        eprintln!("seed {seed}; the module under way is {}", last.display());
        Self {
            seed,
            engine,
            sources: sources.collect(),
            mutate,
            grace,
            stain,
            clean,
            keep: HashSet::from([stain_digest, clean_digest]),
            before: footprint(),
            last,
            endings: BTreeMap::new(),
            cases: 0,
            latest: Duration::ZERO,
            longest_publish: Duration::ZERO,
            _dir: dir,
        }
    }

    /// Case after case for a time; what was found.
    pub(crate) fn run(&mut self, time: Duration) -> Vec<String> {
        let (begin, mut findings, mut said) = (Instant::now(), Vec::new(), Instant::now());
        while begin.elapsed() < time && findings.len() < FINDINGS_MAX {
            findings.extend(self.replay(self.cases));
            if said.elapsed() > Duration::from_secs(60) {
                said = Instant::now();
                println!("{} findings; {self}", findings.len());
            }
        }
        if findings.is_empty() {
            let _ = fs::remove_file(&self.last);
        }
        findings
    }

    /// One case; what was found.
    pub(crate) fn replay(&mut self, number: u64) -> Vec<String> {
        let mut rng = StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let code: Bytes = cases::generate(&mut rng, &self.sources, self.mutate).into();
        fs::write(&self.last, &code).unwrap();
        let manifest = manifest(&mut rng);
        let ended = catch_unwind(AssertUnwindSafe(|| self.one(&code, &manifest)));
        self.cases += 1;
        let mut found = match ended {
            Ok(Ok(ending)) => {
                *self.endings.entry(ending).or_default() += 1;
                None
            }
            Ok(Err(what)) => Some(what),
            Err(_) => Some("the engine panicked".to_owned()),
        };
        if self.cases.is_multiple_of(CHECK_EVERY) {
            found = found.or_else(|| self.keeps_memory());
        }
        let Some(what) = found else { return Vec::new() };
        let kept = self.last.with_extension(format!("{number}.wasm"));
        fs::write(&kept, &code).unwrap();
        let finding =
            format!("SKEIN_FUZZ_SEED={} SKEIN_FUZZ_CASE={number}: {what}; kept as {}", self.seed, kept.display());
        println!("{finding}");
        vec![finding]
    }

    /// Publishes and calls; how it ended, or what is wrong with how it did.
    fn one(&mut self, code: &Bytes, manifest: &Manifest) -> Result<String, String> {
        // What the call before leaves behind.
        self.stain.run(call(plenty())).map_err(|error| format!("the stain: {error}"))?;
        let begin = Instant::now();
        let inspected = self.engine.inspect(code, manifest);
        let loaded = self.engine.load(Digest::of(code), manifest, || Ok(code.clone()));
        let publish = begin.elapsed();
        self.longest_publish = self.longest_publish.max(publish);
        if publish > PUBLISH_MAX {
            return Err(format!("its publish took {publish:?}"));
        }
        let program = match (inspected, loaded) {
            (_, Ok(program)) => program,
            (Err(inspected), Err(EngineError::Module(_) | EngineError::TooLarge { .. })) => {
                return match inspected {
                    EngineError::Module(message) => Ok(format!("refused: {}", kind_of(&message))),
                    EngineError::TooLarge { .. } => Ok("refused: too large".to_owned()),
                    other => Err(format!("inspected: {other:?}")),
                };
            }
            (Ok(_), Err(EngineError::Module(message))) => {
                let known =
                    message.contains("takes longer") || message.contains("initialis") || message.contains("compil");
                return if known { Ok("refused late".to_owned()) } else { Err(format!("refused late: {message}")) };
            }
            (_, Err(other)) => return Err(format!("the engine fails: {other:?}")),
        };
        let mut ending = Ok(String::new());
        for attempt in 1..=TRIES {
            let begin = Instant::now();
            let ended = program.run(call(manifest.limits));
            let late = begin.elapsed().saturating_sub(Duration::from_millis(manifest.limits.deadline_ms));
            ending = judge(ended, &manifest.limits);
            if late <= self.grace || ending.is_err() {
                self.latest = self.latest.max(late);
                break;
            }
            if attempt == TRIES {
                ending = Err(format!("it ends {late:?} after its limit, each of {TRIES} times"));
            }
        }
        drop(program);
        let clean = self.clean.run(call(plenty()));
        clean.map_err(|error| format!("the call after it sees something: {error}"))?;
        ending
    }

    fn keeps_memory(&self) -> Option<String> {
        self.engine.retain(&self.keep).unwrap();
        let ((bytes, mappings), (bytes_before, mappings_before)) = (footprint(), self.before);
        let is_kept = bytes > bytes_before + RESIDENT_GROWTH_MAX || mappings > mappings_before + MAPPINGS_GROWTH_MAX;
        is_kept.then(|| {
            format!("{} MiB in {mappings} mappings, {} in {mappings_before} at first", bytes >> 20, bytes_before >> 20)
        })
    }
}

/// The beginning of a message, without numbers: there are few.
fn kind_of(message: &str) -> String {
    message.chars().filter(|letter| !letter.is_ascii_digit()).take(56).collect()
}

/// What a call left, held to its limits; its ending in a word.
fn judge(ended: Result<skein_engine::Output, RunError>, limits: &Limits) -> Result<String, String> {
    let output = match &ended {
        Ok(output) => Some(output),
        Err(error) => error.output(),
    };
    if let Some(output) = output {
        let is_over = output.payload.len() as u64 > limits.payload_bytes
            || output.log.len() as u64 > limits.log_bytes
            || output.memory_bytes > limits.memory_bytes;
        if is_over {
            return Err(format!("it had more than its limits: {} bytes of memory", output.memory_bytes));
        }
        let has_canary = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY);
        if has_canary(&output.payload) || has_canary(&output.log) {
            return Err("it wrote what the call before it had in memory".to_owned());
        }
    }
    let Err(error) = ended else { return Ok("returned".to_owned()) };
    let kind = if let RunError::Trap { kind, .. } = &error { format!(" {kind:?}") } else { String::new() };
    let failure = Failure::from(error);
    match failure.code {
        ErrorCode::Internal | ErrorCode::Overloaded => Err(format!("{}: {}", failure.code, failure.message)),
        code => Ok(format!("{code}{kind}")),
    }
}

/// Tight limits, and now and then another way to be called.
fn manifest(rng: &mut StdRng) -> Manifest {
    let limits = Limits {
        deadline_ms: 50,
        memory_bytes: 4 << 20,
        payload_bytes: 16 << 10,
        log_bytes: 4 << 10,
        stack_bytes: 256 << 10,
        table_elements: 10_000,
        ..Limits::default()
    };
    let instance = if rng.random_ratio(1, 8) { InstancePolicy::Reuse } else { InstancePolicy::Fresh };
    Manifest { limits, instance, ..Manifest::named(AppName::default(), "fuzz".parse().unwrap()) }
}

fn plenty() -> Limits {
    Limits { deadline_ms: PLENTY_MS, ..Limits::default() }
}

fn call(limits: Limits) -> Call<'static> {
    let deadline = Instant::now() + Duration::from_millis(PLENTY_MS);
    Call { payload: Bytes::from_static(b"some input"), ..Call::new(limits, deadline, StopHandle::new()) }
}

fn load(engine: &Engine, text: &str) -> (Arc<Program>, Digest) {
    let code = Bytes::from(wat::parse_str(text).unwrap());
    let digest = Digest::of(&code);
    let manifest = Manifest::named(AppName::default(), "own".parse().unwrap());
    (engine.load(digest, &manifest, || Ok(code.clone())).unwrap(), digest)
}

/// Writes the canary to every word of four MiB.
fn stain() -> String {
    let word = i64::from_le_bytes(*CANARY);
    format!(
        r#"(module (memory 64) (func (export "_start") (local $at i32)
            (loop $l
                (i64.store (local.get $at) (i64.const {word}))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $l (i32.lt_u (local.get $at) (i32.const 4194304))))))"#
    )
}

/// Traps unless four MiB of new memory are zero.
const CLEAN: &str = r#"(module (memory 1) (func (export "_start") (local $at i32)
    (drop (memory.grow (i32.const 63)))
    (loop $l
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $l (i32.lt_u (local.get $at) (i32.const 4194304))))))"#;

/// Bytes of memory and mappings of this process.
fn footprint() -> (u64, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    (kib << 10, fs::read_to_string("/proc/self/maps").unwrap().lines().count())
}
