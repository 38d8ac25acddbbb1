//! Stages an app; see the crate's documentation. Its options are for tests.

use buildpacks::{
    launch::Environment,
    stage::{self, Places},
};
use clap::Parser;
use std::{env, path::PathBuf, process::ExitCode};

/// Stages an app inside a staging container
#[derive(Parser)]
struct Options {
    /// The app, a zip
    #[arg(long, default_value = "/tmp/package.zip")]
    package: PathBuf,
    /// Folder of unpacked admin buildpacks
    #[arg(long, default_value = "/tmp/buildpacks")]
    buildpacks: PathBuf,
    /// The cache of an earlier staging; may be absent
    #[arg(long, default_value = "/tmp/cache.tgz")]
    cache: PathBuf,
    /// What to do
    #[arg(long, default_value = "/tmp/staging.json")]
    order: PathBuf,
    /// Folder for droplet.tgz, cache.tgz and result.json
    #[arg(long, default_value = "/tmp/output")]
    output: PathBuf,
    /// Where app, deps, tmp and logs lie
    #[arg(long, default_value = "/home/vcap")]
    home: PathBuf,
    /// Folder for buildpacks from URLs and for the unpacked cache
    #[arg(long, default_value = "/tmp")]
    work: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let places = Places {
        package: options.package,
        buildpacks: options.buildpacks,
        cache: options.cache,
        order: options.order,
        output: options.output,
        home: options.home,
        work: options.work,
    };
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let env: Environment = env::vars_os().collect();
    ExitCode::from(stage::main(&places, &env))
}
