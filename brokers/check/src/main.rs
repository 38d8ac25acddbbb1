//! The check as a program of its own, for broker developers who do not want the whole platform; `cupola check-broker` is the same.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "check-broker", version)]
struct Cli {
    #[command(flatten)]
    args: broker_check::Args,
}

fn main() -> ExitCode {
    broker_check::main(Cli::parse().args)
}
