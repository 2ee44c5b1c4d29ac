//! The engine beside plain wasmer, wasmtime with its pooling allocator, and native code: one thread, no network.

mod compute;
mod contest;
mod guests;
mod job;
mod native;
mod ours;
mod plain;
mod plain_host;
mod rival;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::ValueEnum as _;

pub(crate) use crate::engine::guests::{Guests, root};
use crate::{
    engine::{
        contest::{Contest, Entrant},
        job::{Clock, Done, Job, Start},
        ours::Ours,
        plain::Plain,
        rival::Rival,
    },
    report::Goal,
};

/// Something that can run a guest.
pub(crate) trait Subject {
    /// Does what it is asked, and says how long each turn took.
    fn run(&mut self, job: &Job) -> Result<Done>;
}

/// What the JSON guests are sent, and what they answer.
pub(crate) const JSON: &str = r#"{"name":"Ada","values":[3,1,4,1,5,9,2,6]}"#;
pub(crate) const JSON_ANSWER: &str = r#"{"greeting":"hello Ada","count":8,"sum":31}"#;

/// All engines of this run.
struct Engines {
    guests: Guests,
    ours: Ours,
    plain: Plain,
    wasmtime: Rival,
    epochs: Rival,
    rounds: usize,
    is_quick: bool,
    /// Rows that could not be measured.
    failed: usize,
}

/// The parts of the bench, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Instances,
    Calls,
    FirstReplies,
    Payloads,
    Disk,
    Compute,
}

pub(crate) fn run(rounds: usize, is_quick: bool, only: Option<Part>) -> Result<()> {
    let guests = Guests::build()?;
    let program = Rival::build()?;
    let mut engines = Engines {
        ours: Ours::open()?,
        plain: Plain::new(),
        wasmtime: Rival::start(&program, false)?,
        epochs: Rival::start(&program, true)?,
        guests,
        rounds,
        is_quick,
        failed: 0,
    };
    for part in Part::value_variants().iter().filter(|part| only.is_none_or(|only| only == **part)) {
        match part {
            Part::Instances => engines.instances()?,
            Part::Calls => engines.calls()?,
            Part::FirstReplies => engines.first_replies()?,
            Part::Payloads => engines.payloads()?,
            Part::Disk => engines.disk()?,
            Part::Compute => compute::run(&mut engines)?,
        }
    }
    ensure!(engines.failed == 0, "{} rows could not be measured", engines.failed);
    Ok(())
}

impl Engines {
    fn contest(&self, title: impl Into<String>) -> Contest<'static> {
        Contest::new(title.into(), self.rounds, self.is_quick)
    }

    /// The same job for the three engines, wasmtime first: ratios are to it.
    fn three(&mut self, contest: Contest<'static>, job: Job, goals: Vec<Goal>) {
        self.failed += contest
            .entrant(Entrant::new("wasmtime, pooled", &mut self.wasmtime, job.clone()))
            .entrant(Entrant::new("plain wasmer", &mut self.plain, job.clone()))
            .entrant(Entrant::new("Skein", &mut self.ours, job).goals(goals))
            .run();
    }

    fn instances(&mut self) -> Result<()> {
        let small = self.guests.text("small", include_str!("../guests/wat/small.wat"))?;
        let goals = vec![Goal::Ratio(2.5), Goal::Micros(15.0)];
        let contest = self.contest("instance made, called, dropped: 64 KiB of memory, 3 imports");
        self.three(contest, text_job(Start::Fresh, small, "_start"), goals);
        let data = "\\aa".repeat(16 << 20);
        let large = self.guests.text("large", &include_str!("../guests/wat/large.wat").replace("DATA", &data))?;
        let contest =
            self.contest("instance made, called, dropped: 16 MiB of memory, all data; 16 pages read, 4 written");
        self.three(contest, text_job(Start::Fresh, large, "_start"), vec![Goal::Ratio(2.5)]);
        Ok(())
    }

    fn calls(&mut self) -> Result<()> {
        let small = self.guests.text("small-reactor", include_str!("../guests/wat/small-reactor.wat"))?;
        let contest = self.contest("warm call of a function that returns at once");
        self.three(contest, text_job(Start::Warm, small, "handle"), vec![Goal::Micros(1.0)]);
        let imports = self.guests.text("imports", include_str!("../guests/wat/imports.wat"))?;
        let contest = self.contest("10,000 calls of a host function (args_sizes_get)").per("call", 10_000);
        self.three(contest, text_job(Start::Fresh, imports, "_start"), vec![]);
        Ok(())
    }

    /// A fresh instance to its reply, and a warm call beside it.
    fn first_replies(&mut self) -> Result<()> {
        let guests = [("C", "json-c", 25.0), ("Rust", "json-rust", 25.0), ("Go, 4 MB", "json-go", 400.0)];
        for (what, guest, goal) in guests {
            let contest = self.contest(format!("first reply of a fresh instance: JSON in, JSON out, {what}"));
            let job = self.job(Start::Fresh, guest, JSON)?;
            self.three(contest, job.clone(), vec![Goal::Micros(goal)]);
            let contest = self.contest(format!("warm call: JSON in, JSON out, {what}"));
            self.three(contest, Job { start: Start::Warm, ..job }, vec![]);
        }
        let fresh = script_job(Start::Fresh, "json.js", JSON);
        let contest = self.contest("JSON in, JSON out by a script (beside Node and workerd: the bench `script`)");
        self.failed += contest
            .entrant(Entrant::new("warm call", &mut self.ours, Job { start: Start::Warm, ..fresh.clone() }))
            .run();
        let contest = self.contest("first reply of a fresh instance: JSON in, JSON out by a script");
        self.failed +=
            contest.entrant(Entrant::new("Skein", &mut self.ours, fresh).goals(vec![Goal::Micros(200.0)])).run();
        Ok(())
    }

    fn payloads(&mut self) -> Result<()> {
        for bytes in [1 << 10, 64 << 10] {
            let payload = "0123456789abcdef".repeat(bytes / 16);
            let title = format!("echo of {} KiB, fresh instance", bytes >> 10);
            for (abi, guest) in
                [("WASI command", "echo-command"), ("WASI reactor", "echo-reactor"), ("Extism", "echo-extism")]
            {
                let contest = self.contest(format!("{title}: {abi}"));
                let job = self.job(Start::Fresh, guest, &payload)?;
                self.three(contest, job, vec![]);
            }
            let contest = self.contest(format!("{title}: script, a JSON string"));
            let job = script_job(Start::Fresh, "echo.js", &format!("\"{payload}\""));
            self.failed += contest.entrant(Entrant::new("Skein", &mut self.ours, job)).run();
        }
        Ok(())
    }

    fn disk(&mut self) -> Result<()> {
        let guests = [("C", "json-c", 100.0), ("Rust", "json-template", 500.0), ("Go", "json-go", 1_000.0)];
        for (what, guest, goal) in guests {
            let job = self.job(Start::Disk, guest, JSON)?;
            let kilobytes = std::fs::metadata(&job.module)?.len() / 1_000;
            let contest = self.contest(format!("compiled code on disk to first reply: {what}, {kilobytes} KB"));
            self.failed += contest
                .entrant(Entrant::new("wasmtime, pooled", &mut self.wasmtime, job.clone()))
                .entrant(Entrant::new("Skein", &mut self.ours, job).goals(vec![Goal::Micros(goal)]))
                .run();
        }
        Ok(())
    }

    fn job(&self, start: Start, guest: &str, payload: &str) -> Result<Job> {
        let module = self.guests.module(guest)?;
        let entry = if guest.ends_with("-command") { "_start" } else { "handle" }.to_owned();
        Ok(Job { start, module, entry, payload: payload.to_owned(), turns: 0, clock: Clock::Wall })
    }
}

/// A job without input for a module made from text.
fn text_job(start: Start, module: PathBuf, entry: &str) -> Job {
    Job { start, module, entry: entry.to_owned(), payload: String::new(), turns: 0, clock: Clock::Wall }
}

fn script_job(start: Start, file: &str, payload: &str) -> Job {
    Job {
        start,
        module: Guests::script(file),
        entry: String::new(),
        payload: payload.to_owned(),
        turns: 0,
        clock: Clock::Wall,
    }
}
