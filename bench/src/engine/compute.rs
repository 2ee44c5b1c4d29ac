//! Compute-bound guests: what the checks cost by which a guest can be stopped, and how far native code is.

use anyhow::Result;

use crate::{
    engine::{
        Engines,
        contest::Entrant,
        job::{Clock, Job, Start},
        native::Native,
    },
    report::Goal,
};

/// The kernels of `bench/guests/c/compute.c`, each with a size that takes some tens of milliseconds.
const KERNELS: [&str; 8] =
    ["fib 34", "xorshift 20000000", "sieve 12", "matmul 40", "sha256 100", "sort 4", "interpret 40000", "scan 400"];
/// Stopping may cost this much more time, over all kernels.
const STOPPING_RATIO: f64 = 1.12;

/// One kernel's times in nanoseconds.
struct Times {
    native: f64,
    on: f64,
    off: f64,
    wasmtime: f64,
    epochs: f64,
}

pub(super) fn run(engines: &mut Engines) -> Result<()> {
    let mut native = Native::new(engines.guests.native("compute"));
    println!("compute-bound guests: ms on the processor, and ratios; off is the same compiler without the checks");
    println!(
        "  {:<20} {:>8} {:>8} {:>8} {:>8} {:>8}   {:>7} {:>8} {:>8}",
        "", "native", "Skein", "off", "wasmtime", "epochs", "on/off", "/native", "epochs ×"
    );
    let mut all: Vec<Times> = Vec::new();
    for kernel in KERNELS {
        let module = engines.guests.module("compute")?;
        let (entry, payload) = ("_start".to_owned(), kernel.to_owned());
        let job = Job { start: Start::Fresh, module, entry, payload, turns: 0, clock: Clock::Cpu };
        let mut contest = engines
            .contest(kernel)
            .entrant(Entrant::new("native", &mut native, job.clone()))
            .entrant(Entrant::new("Skein", &mut engines.ours, job.clone()))
            .entrant(Entrant::new("stopping off", &mut engines.plain, job.clone()))
            .entrant(Entrant::new("wasmtime", &mut engines.wasmtime, job.clone()))
            .entrant(Entrant::new("wasmtime, epochs", &mut engines.epochs, job));
        contest.measure();
        let (figures, problems) = (contest.figures(), contest.problems());
        engines.failed += problems.len();
        if !problems.is_empty() {
            println!("  {kernel:<20} FAILED {}", problems.join("; "));
            continue;
        }
        let times =
            Times { native: figures[0], on: figures[1], off: figures[2], wasmtime: figures[3], epochs: figures[4] };
        row(kernel, &times);
        all.push(times);
    }
    summary(&all);
    Ok(())
}

fn row(kernel: &str, times: &Times) {
    let Times { native, on, off, wasmtime, epochs } = times;
    print!("  {kernel:<20}");
    for nanos in [native, on, off, wasmtime, epochs] {
        print!(" {:>8.1}", nanos / 1e6);
    }
    println!("   {:>7.2} {:>8.2} {:>8.2}", on / off, on / native, epochs / wasmtime);
}

fn summary(all: &[Times]) {
    let mean = |ratio: fn(&Times) -> f64| {
        let sum: f64 = all.iter().map(|times| ratio(times).ln()).sum();
        (sum / all.len() as f64).exp()
    };
    let stopping = mean(|times| times.on / times.off);
    let (native, epochs) = (mean(|times| times.on / times.native), mean(|times| times.epochs / times.wasmtime));
    println!("  {:<64}   {stopping:>7.2} {native:>8.2} {epochs:>8.2}", "geometric mean");
    println!("  stopping: {}\n", Goal::Ratio(STOPPING_RATIO).judge(f64::NAN, stopping));
}
