//! A shim after its container exists.
#![expect(unsafe_code, reason = "descriptors are inherited by number")]

use std::{
    fs::File,
    os::fd::{FromRawFd, OwnedFd},
    process::ExitCode,
};
use warden_shim::keeper::{self, Inherited, inherited};

fn main() -> ExitCode {
    // SAFETY: the shim that ran this program left exactly these descriptors open (`keeper::inherited`), and each is taken once.
    let take = |number: i32| unsafe { OwnedFd::from_raw_fd(number) };
    let setup = match serde_json::from_reader(File::from(take(inherited::SETUP))) {
        Ok(setup) => setup,
        Err(e) => {
            eprintln!("the setup cannot be read: {e}");
            return ExitCode::FAILURE;
        }
    };
    let descriptors = Inherited {
        daemon: take(inherited::DAEMON),
        init: take(inherited::INIT),
        listener: take(inherited::LISTENER),
        upper: take(inherited::UPPER),
        oom_count: take(inherited::OOM_COUNT),
        oom_event: take(inherited::OOM_EVENT),
        host_mounts: take(inherited::HOST_MOUNTS),
    };
    match keeper::run(setup, descriptors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("the keeper cannot go on: {e}");
            ExitCode::FAILURE
        }
    }
}
