//! Skein's engine, as the runtime uses it.

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, Program, StopHandle, Tiering};
use skein_proto::{Abi, Digest, FunctionName, InstancePolicy, Limits, Manifest};
use tempfile::TempDir;

use crate::engine::{
    Subject,
    job::{Done, Job, Start},
};

/// Longest run of one turn.
const DEADLINE: Duration = Duration::from_secs(60);

/// An engine with a cache of its own, and what it has loaded.
#[derive(Debug)]
pub(crate) struct Ours {
    engine: Engine,
    versions: HashMap<(PathBuf, Start), Version>,
    _cache: TempDir,
}

/// One module as a version that is called in one way.
#[derive(Debug, Clone)]
struct Version {
    digest: Digest,
    manifest: Manifest,
    program: Arc<Program>,
}

impl Ours {
    pub(crate) fn open() -> Result<Self> {
        let cache = tempfile::tempdir()?;
        let mut config = EngineConfig::new(cache.path());
        // What a large module runs on from its second second on; the rivals have no other code.
        config.tiering = Tiering::Optimised;
        let engine = Engine::open(config)?;
        Ok(Self { engine, versions: HashMap::new(), _cache: cache })
    }

    fn version(&mut self, job: &Job) -> Result<Version> {
        let key = (job.module.clone(), job.start);
        if let Some(version) = self.versions.get(&key) {
            return Ok(version.clone());
        }
        let code = Bytes::from(fs::read(&job.module).with_context(|| job.module.display().to_string())?);
        let digest = Digest::of(&code);
        let mut manifest = Manifest::named(Default::default(), "bench".parse::<FunctionName>()?);
        manifest.limits = limits();
        if job.module.extension().is_some_and(|extension| extension == "js") {
            manifest.abi = Abi::Script;
        }
        if job.start == Start::Warm {
            manifest.instance = InstancePolicy::Reuse;
        }
        let program = self.engine.load(digest, &manifest, || Ok(code.clone()))?;
        let version = Version { digest, manifest, program };
        self.versions.insert(key, version.clone());
        Ok(version)
    }
}

fn limits() -> Limits {
    Limits { deadline_ms: DEADLINE.as_millis() as u64, memory_bytes: 128 << 20, ..Limits::default() }
}

fn call(program: &Program, payload: &Bytes) -> Result<Vec<u8>> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut call = Call::new(limits(), deadline, StopHandle::new());
    call.payload = payload.clone();
    Ok(program.run(call)?.payload.to_vec())
}

impl Subject for Ours {
    fn run(&mut self, job: &Job) -> Result<Done> {
        let version = self.version(job)?;
        let payload = Bytes::from(job.payload.clone());
        if job.start != Start::Disk {
            return job.time(|| call(&version.program, &payload));
        }
        // Nothing may be loaded, or its code would be shared.
        self.versions.retain(|(module, _), _| *module != job.module);
        let Version { digest, manifest, program } = version;
        drop(program);
        job.time(|| {
            let code =
                || Err(skein_proto::Failure::not_executed(skein_proto::ErrorCode::Internal, "it is not on disk"));
            let program = self.engine.load(digest, &manifest, code)?;
            call(&program, &payload)
        })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.versions.clear();
        self.engine.shutdown();
    }
}
