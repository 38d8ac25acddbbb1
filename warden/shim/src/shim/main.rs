//! Makes one container, then becomes its keeper; or unpacks one layer.

mod create;
mod files;
mod filter;
mod kernel;
mod layer;
mod network;
mod oci;
mod rootfs;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => create::run(),
        Some("layer") => layer::run(),
        Some(other) => {
            eprintln!("no such role: {other}");
            ExitCode::from(64)
        }
    }
}
