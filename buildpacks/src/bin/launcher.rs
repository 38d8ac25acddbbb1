//! Starts a process of an app: `launcher <app folder> <command> <process type>`.

use buildpacks::launch::{Environment, SCRIPT, SHELL, StagingInfo, environment};
use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let (Some(app), Some(command)) = (args.first(), args.get(1)) else {
        eprintln!("usage: launcher <app folder> <start command> <process type>");
        return ExitCode::from(1);
    };
    let app = std::path::absolute(app).unwrap_or_else(|_| PathBuf::from(app));
    let kind = args.get(2).map_or("web".into(), |kind| kind.to_string_lossy().into_owned());
    match start(&app, command, &kind, env::vars_os().collect()) {
        Ok(never) => match never {},
        Err((status, why)) => {
            eprintln!("{why}");
            ExitCode::from(status)
        }
    }
}

fn start(app: &Path, command: &OsString, kind: &str, env: Environment) -> Result<std::convert::Infallible, (u8, String)> {
    let info = StagingInfo::read(app).map_err(|e| (1, format!("Invalid staging info - {e}")))?;
    let mut command = command.clone();
    if command.is_empty() && kind == "web" {
        command = info.start_command.into();
    }
    if command.is_empty() {
        return Err((1, format!("no start command specified or detected in droplet for process type `{kind}`")));
    }
    let env = environment(env, app).map_err(|e| (3, format!("The environment of the process is broken: {e}")))?;
    let prefix = info.config.entrypoint_prefix.unwrap_or_default();
    let failed = Command::new(SHELL)
        .arg0("bash")
        .arg("-c")
        .arg(SCRIPT)
        .arg("launcher")
        .arg(app)
        .arg(command)
        .arg(prefix)
        .env_clear()
        .envs(env)
        .exec();
    Err((4, format!("Cannot start {SHELL}: {failed}")))
}
