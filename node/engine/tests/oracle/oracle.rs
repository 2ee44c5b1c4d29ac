//! Case after case in every mode that a version can be called in, held to what the other engine says of a new instance.

use std::{
    collections::BTreeMap,
    fmt, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, Program, RunError, StopHandle, Tier, Tiering, TrapKind};
use skein_proto::{AppName, Digest, Grants, InstancePolicy, Limits, Manifest, Snapshot};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    modules::{self, CONSTRUCTS, Case},
    reference::{Ending, Given, Outcome, Reference},
};

/// So often each program is called.
const CALLS: usize = 4;
/// Ended by itself long before that.
const PLENTY: Duration = Duration::from_secs(600);
/// So often the cache on disk is emptied.
const TIDY_EVERY: u64 = 64;

/// One way in which a version's calls find their instances.
#[derive(Debug, Clone, Copy)]
struct Mode {
    snapshot: Snapshot,
    instance: InstancePolicy,
    /// Instances that are made before the first call.
    warm: usize,
}

/// Of each: with instances made in advance, and without.
const MODES: [Mode; 8] = [
    Mode { snapshot: Snapshot::Auto, instance: InstancePolicy::Fresh, warm: 0 },
    Mode { snapshot: Snapshot::Auto, instance: InstancePolicy::Fresh, warm: 2 },
    Mode { snapshot: Snapshot::Never, instance: InstancePolicy::Fresh, warm: 0 },
    Mode { snapshot: Snapshot::Never, instance: InstancePolicy::Fresh, warm: 2 },
    Mode { snapshot: Snapshot::Always, instance: InstancePolicy::Fresh, warm: 0 },
    Mode { snapshot: Snapshot::Always, instance: InstancePolicy::Fresh, warm: 2 },
    Mode { snapshot: Snapshot::Auto, instance: InstancePolicy::Reuse, warm: 0 },
    Mode { snapshot: Snapshot::Never, instance: InstancePolicy::Reuse, warm: 2 },
];

/// The engines, one for each tier, and what has been seen.
#[derive(Default)]
pub(crate) struct Oracle {
    tiers: Vec<(Engine, TempDir)>,
    cases: u64,
    calls: u64,
    /// Calls of baseline code: not every module can be compiled to such.
    baseline: u64,
    used: BTreeMap<&'static str, u64>,
    endings: BTreeMap<String, u64>,
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, calls, baseline, .. } = self;
        writeln!(f, "{cases} modules, {calls} calls, {baseline} of them of baseline code; a new instance's endings:")?;
        for (ending, count) in &self.endings {
            write!(f, " {ending} {count},")?;
        }
        writeln!(f, "\nmodules with:")?;
        CONSTRUCTS
            .iter()
            .try_for_each(|construct| writeln!(f, "{:>7}  {construct}", self.used.get(construct).copied().unwrap_or(0)))
    }
}

impl Oracle {
    pub(crate) fn open() -> Self {
        let tiers = [Tiering::Baseline, Tiering::Optimised].map(|tiering| {
            let dir = tempfile::tempdir().unwrap();
            let mut config = EngineConfig::new(dir.path());
            config.tiering = tiering;
            (Engine::open(config).unwrap(), dir)
        });
        Self { tiers: tiers.into(), ..Self::default() }
    }

    /// Counts what another has seen.
    pub(crate) fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.calls += other.calls;
        self.baseline += other.baseline;
        for (construct, count) in &other.used {
            *self.used.entry(construct).or_default() += count;
        }
        for (ending, count) in &other.endings {
            *self.endings.entry(ending.clone()).or_default() += count;
        }
    }

    /// As [`Oracle::one`]; what was found says how to see it again.
    pub(crate) fn replay(&mut self, seed: u64) -> Result<(), String> {
        let ended = catch_unwind(AssertUnwindSafe(|| self.one(seed)));
        ended.unwrap_or_else(|_| Err("panicked".to_owned())).map_err(|what| {
            let kept = std::env::temp_dir().join(format!("skein-oracle-{seed}.wat"));
            fs::write(&kept, modules::generate(seed).text).unwrap();
            let finding = format!(
                "seed {seed}: {what}\n{}; to see it again: SKEIN_ORACLE_SEED={seed} SKEIN_ORACLE_MODULES=1 cargo test -p \
                 skein-engine --test oracle -- --nocapture",
                kept.display()
            );
            println!("{finding}");
            finding
        })
    }

    /// What has never occurred.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let tier = (self.baseline == 0).then_some("baseline code");
        CONSTRUCTS.iter().copied().filter(|construct| !self.used.contains_key(construct)).chain(tier).collect()
    }

    /// The module of `seed` in all modes; what differs, if anything does.
    fn one(&mut self, seed: u64) -> Result<(), String> {
        let case = modules::generate(seed);
        let code: Bytes = wat::parse_str(&case.text).map_err(|error| format!("the generator: {error}"))?.into();
        let world = World::new(seed);
        let reference = Reference::new(&case, &code).map_err(|error| format!("the other engine: {error}"))?;
        let expected = Expected::of(&reference, &world);
        for (engine, _) in &self.tiers {
            for mode in MODES {
                if mode.instance == InstancePolicy::Reuse && case.entry == "_start" {
                    continue;
                }
                let manifest = world.manifest(&case, mode);
                let program = engine
                    .load(Digest::of(&code), &manifest, || Ok(code.clone()))
                    .map_err(|error| format!("{mode:?}: {error}"))?;
                program.keep_ready(mode.warm);
                for number in 0..CALLS {
                    let outcome = world.call(&program, &manifest, number);
                    let allowed = expected.allowed(mode, number);
                    if !allowed.iter().any(|allowed| outcome.is(allowed)) {
                        let tier = program.tier();
                        return Err(format!("{tier:?}, {mode:?}, call {number}:\n {outcome:?}\nnot\n {allowed:?}"));
                    }
                    self.calls += 1;
                    self.baseline += u64::from(program.tier() == Tier::Baseline);
                }
            }
        }
        self.count(&case, &expected);
        Ok(())
    }

    fn count(&mut self, case: &Case, expected: &Expected) {
        self.cases += 1;
        for construct in &case.used {
            *self.used.entry(construct).or_default() += 1;
        }
        for outcome in &expected.fresh {
            let kind = match &outcome.ending {
                Ending::Exit(_) => "exit".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            *self.endings.entry(kind).or_default() += 1;
        }
        if self.cases.is_multiple_of(TIDY_EVERY) {
            for (engine, _) in &self.tiers {
                engine.retain(&Default::default()).unwrap();
            }
        }
    }
}

/// What the other engine says of each call.
struct Expected {
    fresh: Vec<Outcome>,
    /// Of calls that may begin as an image says, under `snapshot = "always"`.
    imaged: Vec<Outcome>,
    reused: Vec<Outcome>,
}

impl Expected {
    fn of(reference: &Reference<'_>, world: &World) -> Self {
        let mut kept = None;
        let all = |of: &mut dyn FnMut(Given<'_>) -> Outcome| (0..CALLS).map(|number| of(world.given(number))).collect();
        Self {
            fresh: all(&mut |given| reference.fresh(given)),
            imaged: all(&mut |given| reference.imaged(given, &world.granted)),
            reused: all(&mut |given| reference.reused(&mut kept, given)),
        }
    }

    /// Not every module's state fits an image: `always` is a wish.
    fn allowed(&self, mode: Mode, number: usize) -> Vec<&Outcome> {
        match (mode.instance, mode.snapshot) {
            (InstancePolicy::Reuse, _) => vec![&self.reused[number]],
            (_, Snapshot::Always) => vec![&self.imaged[number], &self.fresh[number]],
            _ => vec![&self.fresh[number]],
        }
    }
}

/// What the calls of a case bring.
struct World {
    args: Vec<String>,
    granted: Vec<(String, String)>,
    /// By the number of the call.
    payloads: Vec<[u8; 8]>,
    envs: Vec<Vec<(String, String)>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let granted = vec![("CURRENCY".to_owned(), "EUR".to_owned())];
        let payload = |number: usize| (seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
        let env = |number: usize| {
            let own = ("HTTP_X".to_owned(), "x".repeat(number));
            granted.iter().cloned().chain([own]).collect()
        };
        Self {
            args: vec![format!("f{}", seed % 1_000)],
            payloads: (0..CALLS).map(payload).collect(),
            envs: (0..CALLS).map(env).collect(),
            granted,
        }
    }

    fn given(&self, number: usize) -> Given<'_> {
        Given { payload: &self.payloads[number], args: &self.args, env: &self.envs[number] }
    }

    fn manifest(&self, case: &Case, Mode { snapshot, instance, .. }: Mode) -> Manifest {
        let limits = Limits {
            deadline_ms: PLENTY.as_millis() as u64,
            cpu_ms: PLENTY.as_millis() as u64,
            memory_bytes: case.memory_bytes_max,
            table_elements: case.table_elements_max,
            ..Limits::default()
        };
        let grants = Grants { env: self.granted.iter().cloned().collect(), ..Grants::default() };
        let name = self.args[0].parse().expect("a name");
        Manifest { limits, grants, snapshot, instance, ..Manifest::named(AppName::default(), name) }
    }

    fn call(&self, program: &Arc<Program>, manifest: &Manifest, number: usize) -> Outcome {
        let call = Call {
            args: &self.args,
            env: &self.envs[number],
            payload: Bytes::copy_from_slice(&self.payloads[number]),
            ..Call::new(manifest.limits, Instant::now() + PLENTY, StopHandle::never())
        };
        let ended = program.run(call);
        let output = match &ended {
            Ok(output) => Some(output),
            Err(error) => error.output(),
        };
        let (payload, log) =
            output.map_or_else(Default::default, |output| (output.payload.to_vec(), output.log.to_vec()));
        Outcome { payload, log, ending: ended.map_or_else(ending, |_| Ending::Done) }
    }
}

fn ending(error: RunError) -> Ending {
    match error {
        RunError::Exit { code, .. } => Ending::Exit(code),
        RunError::Failed { message, .. } => Ending::Failed(message),
        RunError::Trap { kind, .. } => Ending::Trap(match kind {
            TrapKind::Unreachable => "unreachable",
            TrapKind::MemoryOutOfBounds => "memory",
            TrapKind::TableOutOfBounds => "table",
            TrapKind::DivisionByZero => "division",
            _ => "another trap",
        }),
        RunError::Memory { .. } => Ending::Memory,
        _ => Ending::Trap("no ending of a guest's"),
    }
}
