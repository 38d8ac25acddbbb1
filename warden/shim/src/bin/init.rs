//! Process 1 of a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    match warden_shim::init::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // nobody could read a message: the keeper sees the end of the socket
    }
}
