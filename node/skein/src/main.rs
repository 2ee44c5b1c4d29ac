//! The `skein` binary: reads the command line, runs one command, turns its failure into an exit code.

#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use clap::Parser;

mod admin_client;
mod cli;
mod commands;
mod config;
mod contexts;
mod data_dir;
mod function_toml;
mod node;
mod output;
mod script;
mod telemetry;
mod terminal;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if matches!(cli.command, cli::Command::CompileWorker) {
        // Before threads are started and files opened: it holds the process to its bounds first.
        return skein_engine::serve_compilation();
    }
    let json = cli.common.json;
    // Brief guests run on its threads. Signals come to this one, which only waits.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.enable_all().on_thread_start(skein_engine::shield_thread).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(format_args!("error: the system gives no threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(commands::run(cli));
    // What is still blocked now (a read of a terminal, for one) is not worth waiting for.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(failure) => output::fail(&failure, json),
    }
}
