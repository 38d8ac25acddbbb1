//! `cf`: the command line client, with the verbs, flags and output of the official one.
//!
//! It talks to the API like any other client and knows nothing that the API does not say. One file for each group of
//! commands.
//!
//! - `cli`: the words and flags. - `commands`: what they do. - `push`: the longest of them.
//! - `api`: requests, tokens, jobs, pages. - `config`: target and tokens in `$CF_HOME/.cf/cupola.json`.
//! - `ui`: tables, colours, times, sizes. - `logs`: reading the log cache. - `problem`: errors that say what to do.

mod api;
mod cli;
mod commands;
mod config;
mod logs;
mod net;
mod problem;
mod push;
mod ui;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return cli::explain(e),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(e) => {
            problem::show(&e);
            ExitCode::FAILURE
        }
    };
    // a look-up or read that still hangs must not keep the shell waiting
    runtime.shutdown_background();
    code
}
