//! Measures Skein, each figure beside a floor or a rival of the same run, as a ratio.
//!
//! `cargo run --release -p skein-bench -- all`; `bench/README.md` says what each measures and what was found.

use clap::{Parser, Subcommand};

mod cage;
mod callers;
mod closed_loop;
mod cold;
mod commit;
mod density;
mod engine;
mod etcd;
mod functions;
mod gateway;
mod imbalance;
mod leaving;
mod loads;
mod nodes;
mod overload;
mod publish;
mod report;
mod restart;
mod rivals;
mod script;
mod single;
mod soak;
mod transport;

/// Benchmarks of Skein beside floors and rivals.
#[derive(Debug, Parser)]
struct Cli {
    /// The skein binary to measure
    #[arg(long, default_value = "target/release/skein", global = true)]
    binary: String,
    /// Interleaved rounds; medians are shown
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// A smoke run: one short round of everything
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Instances, calls, replies, payloads, compute and cold starts, beside wasmtime, plain wasmer and native code
    Engine {
        /// Of these only one
        #[arg(long, value_enum)]
        only: Option<engine::Part>,
    },
    /// A thousand functions on one node: memory and mappings of each, loaded and idle
    Functions,
    /// 10,000 functions on three nodes of 1 GiB: memory, cold starts, evictions, latency, beside those that fit
    Density,
    /// All load on one of three nodes, then spread by the mesh: throughput, latency, moves, beside an even placement
    Imbalance {
        /// Callers, each with one call at a time
        #[arg(long, default_value_t = IMBALANCE_CALLERS)]
        callers: usize,
        /// Of these only one
        #[arg(long, value_enum)]
        only: Option<imbalance::Demand>,
    },
    /// Five times more calls than a mesh can run: goodput, refusals, memory, and how soon it is itself again
    Overload {
        /// How long it lasts
        #[arg(long, default_value_t = OVERLOAD_SECONDS)]
        seconds: u64,
    },
    /// Calls and changes on five nodes while nodes are killed, stopped, drained, moved and replaced: fails if a call does
    /// that no fault explains, or if something is left over
    Soak {
        /// How long it lasts
        #[arg(long, default_value_t = SOAK_MINUTES)]
        minutes: f64,
        /// Calls a second
        #[arg(long, default_value_t = SOAK_RATE)]
        rate: u32,
        /// Decides which faults come when
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Each node of three is told to end, killed, and moved, under load by the client library and by HTTP: lost answers
    Leaving {
        /// Calls a second each way
        #[arg(long, default_value_t = LEAVING_RATE)]
        rate: u32,
        /// Of the faults only one
        #[arg(long, value_enum)]
        only: Option<leaving::Fault>,
    },
    /// A script's start, calls and memory, beside Node's http server and workerd
    Script,
    /// Gateway echo, beside a bare axum echo
    Gateway,
    /// A call to a peer, 100 B and 64 KiB, beside the same framing on a bare quinn stream and a tonic unary call
    Transport,
    /// First call of a function whose compiled code is on disk
    Cold,
    /// A committed, fsynced change on three nodes, beside etcd
    Commit,
    /// Publish to serving on three nodes, split
    Publish,
    /// A node's start after 10, 100 and 1,000 MiB of log: time and memory, beside reading the same bytes
    Restart,
    /// All of them
    All,
    /// Open the log in a directory once, and print what that took
    #[command(hide = true)]
    RestartOnce {
        /// The directory of the group
        dir: std::path::PathBuf,
        /// Read the bytes only
        #[arg(long)]
        floor: bool,
    },
    /// Serve the bare axum echo until stdin ends
    #[command(hide = true)]
    AxumEcho,
}

/// Two at each of three gateways: fewer than the calls by which a node must be busier before the router spreads a version.
const IMBALANCE_CALLERS: usize = 6;
/// 500 in all.
const LEAVING_RATE: u32 = 250;
/// As long as is promised.
const OVERLOAD_SECONDS: u64 = 60;

const SOAK_MINUTES: f64 = 30.0;
const SOAK_RATE: u32 = 90;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if !matches!(cli.bench, Bench::AxumEcho | Bench::RestartOnce { .. }) {
        report::machine();
    }
    let (binary, quick) = (cli.binary.as_str(), cli.quick);
    let rounds = if quick { 1 } else { cli.rounds };
    match cli.bench {
        Bench::Engine { only } => engine::run(rounds, quick, only),
        Bench::Density => density::run(binary, quick),
        Bench::Imbalance { callers, only } => imbalance::run(binary, quick, callers, only),
        Bench::Overload { seconds } => overload::run(binary, quick, seconds),
        Bench::Leaving { rate, only } => leaving::run(binary, quick, rate, only),
        Bench::Functions => functions::run(binary, quick),
        Bench::Soak { minutes, rate, seed } => soak::run(binary, if quick { 1.0 } else { minutes }, rate, seed),
        Bench::Script => script::run(binary, rounds, quick),
        Bench::Gateway => gateway::run(binary, rounds),
        Bench::Transport => transport::run(rounds),
        Bench::Cold => cold::run(binary),
        Bench::AxumEcho => rivals::axum_echo::serve(),
        Bench::Commit => commit::run(binary, rounds),
        Bench::Publish => publish::run(binary),
        Bench::Restart => restart::run(quick),
        Bench::RestartOnce { dir, floor } => restart::run_once(&dir, floor),
        Bench::All => {
            engine::run(rounds, quick, None)?;
            transport::run(rounds)?;
            gateway::run(binary, rounds)?;
            cold::run(binary)?;
            functions::run(binary, quick)?;
            density::run(binary, quick)?;
            imbalance::run(binary, quick, IMBALANCE_CALLERS, None)?;
            overload::run(binary, quick, OVERLOAD_SECONDS)?;
            leaving::run(binary, quick, LEAVING_RATE, None)?;
            script::run(binary, rounds, quick)?;
            publish::run(binary)?;
            restart::run(quick)?;
            commit::run(binary, rounds)
        }
    }
}
