//! How buildpacks' scripts are called.
//!
//! Source: buildpackapplifecycle, `buildpackrunner/runner.go`.

use super::{Failure, Places};
use crate::{
    buildpack::Buildpack,
    launch::Environment,
    order::Order,
    run::{self, Deadline},
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

const WARNING: &str = "**WARNING**";

pub(super) struct Scripts<'a> {
    places: &'a Places,
    seconds: u64,
    env: Environment,
    deadline: Deadline,
}

impl<'a> Scripts<'a> {
    pub(super) fn new(places: &'a Places, order: &Order, env: &Environment, deadline: Deadline) -> Self {
        let mut env = env.clone();
        env.insert("HOME".into(), places.home.clone().into());
        env.insert("USER".into(), "vcap".into());
        env.insert("STAGING_TIMEOUT".into(), order.timeout_s.to_string().into());
        let defaults = [
            ("CF_STACK", order.stack.as_str()),
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("MEMORY_LIMIT", "1024m"),
        ];
        for (name, value) in defaults {
            env.entry(name.into()).or_insert_with(|| value.into());
        }
        env.entry("TMPDIR".into()).or_insert_with(|| places.work.clone().into());
        Self { places, seconds: order.timeout_s, env, deadline }
    }

    /// A command in the environment of the staging.
    pub(super) fn command(&self, program: &str) -> Command {
        self.command_of(Path::new(program), &[])
    }

    fn command_of(&self, program: &Path, args: &[OsString]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.places.home).env_clear().envs(&self.env);
        command
    }

    fn app(&self) -> OsString {
        self.places.home.join("app").into()
    }

    fn deps(&self) -> PathBuf {
        self.places.home.join("deps")
    }

    /// What the buildpack's `detect` says, if the app is one for it.
    pub(super) fn detect(&self, buildpack: &Buildpack) -> Result<Option<String>, Failure> {
        let Some(script) = buildpack.script("detect") else { return Ok(None) };
        if !Buildpack::executable(&script) {
            eprintln!("{WARNING} buildpack script '/bin/detect' is not executable: {}", buildpack.name);
            return Ok(None);
        }
        match run::capture(&mut self.command_of(&script, &[self.app()]), self.deadline) {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output);
                Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
            }
            Err(run::Error::Timeout) => Err(self.timeout(buildpack, "detect")),
            Err(e @ run::Error::Start(..)) => {
                eprintln!("{WARNING} {}: {}", buildpack.name, e.text());
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    /// A buildpack that is not the last supplies.
    pub(super) fn supply(&self, buildpack: &Buildpack, cache: &Path, index: &str) -> Result<(), Failure> {
        let script = buildpack.script("supply").ok_or_else(|| Failure::NoSupply(buildpack.name.clone()))?;
        match run::run(&mut self.command_of(&script, &self.supply_args(cache, index)), self.deadline) {
            Ok(()) => Ok(()),
            Err(run::Error::Timeout) => Err(self.timeout(buildpack, "supply")),
            Err(cause) => Err(Failure::Supply { buildpack: buildpack.name.clone(), cause }),
        }
    }

    /// The last buildpack does its work: supply and finalize, or compile.
    pub(super) fn finalize(&self, buildpack: &Buildpack, cache: &Path, index: &str, others: bool) -> Result<(), Failure> {
        let Some(finalize) = buildpack.script("finalize") else { return self.compile(buildpack, cache, index, others) };
        if let Some(supply) = buildpack.script("supply") {
            self.last(buildpack, "supply", &supply, &self.supply_args(cache, index))?;
        }
        let mut args = self.supply_args(cache, index);
        args.push(self.places.home.join("profile.d").into());
        self.last(buildpack, "finalize", &finalize, &args)
    }

    fn compile(&self, buildpack: &Buildpack, cache: &Path, index: &str, others: bool) -> Result<(), Failure> {
        if others {
            println!("{WARNING} The final buildpack has no bin/finalize: what the other buildpacks supply may be missing.");
        }
        let unused = self.deps().join(index);
        std::fs::remove_dir_all(&unused).map_err(|e| Failure::File(unused, e))?;
        let script = buildpack.script("compile").ok_or_else(|| Failure::Compile {
            buildpack: buildpack.name.clone(),
            script: "compile",
            cause: run::Error::Start("bin/compile".into(), std::io::ErrorKind::NotFound.into()),
        })?;
        self.last(buildpack, "compile", &script, &[self.app(), cache.into()])
    }

    fn last(&self, buildpack: &Buildpack, name: &'static str, script: &Path, args: &[OsString]) -> Result<(), Failure> {
        match run::run(&mut self.command_of(script, args), self.deadline) {
            Ok(()) => Ok(()),
            Err(run::Error::Timeout) => Err(self.timeout(buildpack, name)),
            Err(cause) => Err(Failure::Compile { buildpack: buildpack.name.clone(), script: name, cause }),
        }
    }

    /// What the last buildpack's `release` prints.
    pub(super) fn release(&self, buildpack: &Buildpack) -> Result<String, Failure> {
        let failed = |cause| Failure::Release { buildpack: buildpack.name.clone(), cause };
        let missing = || failed(run::Error::Start("bin/release".into(), std::io::ErrorKind::NotFound.into()));
        let script = buildpack.script("release").ok_or_else(missing)?;
        match run::capture(&mut self.command_of(&script, &[self.app()]), self.deadline) {
            Ok(output) => Ok(String::from_utf8_lossy(&output).into_owned()),
            Err(run::Error::Timeout) => Err(self.timeout(buildpack, "release")),
            Err(cause) => Err(failed(cause)),
        }
    }

    fn supply_args(&self, cache: &Path, index: &str) -> Vec<OsString> {
        vec![self.app(), cache.into(), self.deps().into(), index.into()]
    }

    fn timeout(&self, buildpack: &Buildpack, script: &str) -> Failure {
        Failure::Timeout { seconds: self.seconds, doing: format!("bin/{script} of {}", buildpack.name) }
    }
}
