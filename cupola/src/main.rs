//! The one shipped binary: supervisor of a node (`up`, `down`, `status`) and every part of the platform (`run <part>`).
//!
//! - `settings`, `secrets`, `certificates`, `node`: what a node is; made at first boot.
//! - `configs`, `nats`, `brokers`: the configuration of each part, written anew at every boot.
//! - `process`, `supervisor`: parts as child processes that outlive their supervisor.
//! - `up`, `down`, `status`, `control`, `hosts`: the commands; `check-broker` is `broker_check`'s own.

mod brokers;
mod capacity;
mod certificates;
mod configs;
mod control;
mod down;
mod files;
mod hosts;
mod nats;
mod node;
mod ports;
mod process;
mod secrets;
mod settings;
mod status;
mod supervisor;
mod up;

use clap::{Args, Parser, Subcommand};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// A platform for other people's apps on one machine: push an app, get a route.
#[derive(Parser)]
#[command(name = "cupola", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the platform of this machine, or take its parts back after the supervisor was lost
    Up(up::UpArgs),
    /// Stop the platform: apps, parts, network; `--purge` also removes its state
    Down(down::DownArgs),
    /// Show each part: process, since when, restarts, memory
    Status(status::StatusArgs),
    /// Check a service broker against the contract of the Open Service Broker API
    ///
    /// Makes instances and bindings of each plan, and removes them again. Exit code: 0 if the broker keeps all rules, 1 if it breaks
    /// any, 2 if the check could not be made to its end.
    CheckBroker(broker_check::Args),
    /// Run one part in the foreground (the supervisor does this)
    Run {
        /// Which part
        #[arg(value_parser = ["uaa", "cloud_controller", "health_manager", "dea", "warden", "gorouter", "loggregator_agent", "log_cache",
            "postgres_broker", "mysql_broker", "redis_broker", "rabbitmq_broker"])]
        part: String,
        /// Its configuration file
        #[arg(long)]
        config: PathBuf,
    },
}

/// Which node a command is about.
#[derive(Args, Clone, Debug)]
struct NodeArgs {
    /// Folder with all state of the node
    #[arg(long, value_name = "FOLDER", env = "CUPOLA_STATE", default_value = settings::DEFAULT_STATE)]
    state: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Up(args) => up::up(args),
        Command::Down(args) => down::down(args),
        Command::Status(args) => status::status(args),
        Command::CheckBroker(args) => return broker_check::main(args),
        Command::Run { part, config } => return run(&part, &config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cupola: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(part: &str, config: &Path) -> ExitCode {
    match part {
        "uaa" => uaa::run(config),
        "cloud_controller" => cloud_controller::run(config),
        "health_manager" => health_manager::run(config),
        "dea" => dea::run(config),
        "warden" => warden::run(config),
        "gorouter" => gorouter::run(config),
        "loggregator_agent" => loggregator::run_agent(config),
        "log_cache" => loggregator::run_log_cache(config),
        "postgres_broker" => postgres_broker::run(config),
        "mysql_broker" => mysql_broker::run(config),
        "redis_broker" => redis_broker::run(config),
        "rabbitmq_broker" => rabbitmq_broker::run(config),
        other => {
            eprintln!("cupola: there is no part `{other}`");
            ExitCode::FAILURE
        }
    }
}

/// Runs the future of a short command.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    foundation::tls::install_crypto();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn must_be_root(what: &str) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("{what} needs root, because it makes users' sandboxes, networks and mounts; try: sudo cupola ...");
    }
    Ok(())
}
