//! The start of a process in an app's container.
//!
//! Source: buildpackapplifecycle, `launcher/` and `env/env.go`.

use crate::processes::AboutConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
};

/// What the environment is, by name.
pub type Environment = BTreeMap<OsString, OsString>;

/// The shell that starts everything.
pub const SHELL: &str = "/bin/bash";

/// Sources profile scripts, then becomes the command. Its arguments: the app's folder, the command, a prefix or nothing. Buildpacks' scripts come first,
/// the app's own after them, `.profile` last, in one shell, whose exports reach the app. The command is one argument all the way.
pub const SCRIPT: &str = r#"
cd "$1" || exit 4
__launcher_command=$2
__launcher_prefix=$3
__launcher_files=("$1"/../profile.d/* "$1"/.profile.d/* "$1"/.profile)
set --
echo "Invoking pre-start scripts."
for __launcher_file in "${__launcher_files[@]}"; do
  if [ -f "$__launcher_file" ]; then source "$__launcher_file"; fi
done
echo "Invoking start command."
if [ -n "$__launcher_prefix" ]; then
  exec /bin/bash -c "exec $__launcher_prefix \"\$@\"" bash /bin/bash -c "$__launcher_command"
fi
exec /bin/bash -c "$__launcher_command"
"#;

/// What staging tells the launcher, in `staging_info.yml` (JSON, which YAML contains).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StagingInfo {
    /// Of the final buildpack.
    #[serde(default)]
    pub detected_buildpack: String,
    /// Of the web process.
    #[serde(default)]
    pub start_command: String,
    /// From the final buildpack's `config.yml`.
    #[serde(default)]
    pub config: AboutConfig,
}

impl StagingInfo {
    /// The name of the file.
    pub const FILE: &str = "staging_info.yml";

    /// Reads the file beside the app's folder; a droplet without one is fine.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(app: &Path) -> io::Result<Self> {
        match fs::read(app.join("..").join(Self::FILE)) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }
}

/// An environment that an app cannot be started with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `VCAP_APPLICATION` is not a JSON object.
    #[error("VCAP_APPLICATION is not a JSON object")]
    Application,
    /// A number is none.
    #[error("{0} is not a number: `{1}`")]
    Number(&'static str, String),
}

/// The environment of a process of the app in `app`, made from what the container was started with.
///
/// # Errors
/// When `VCAP_APPLICATION` cannot be completed.
pub fn environment(mut env: Environment, app: &Path) -> Result<Environment, Error> {
    let home = app.parent().unwrap_or(app);
    complete_application(&mut env)?;
    env.remove(OsStr::new("VCAP_PLATFORM_OPTIONS"));
    for (name, value) in
        [("HOME", app.to_owned()), ("PWD", app.to_owned()), ("TMPDIR", home.join("tmp")), ("DEPS_DIR", home.join("deps"))]
    {
        env.insert(name.into(), value.into());
    }
    for (name, value) in [("USER", "vcap"), ("LANG", "en_US.UTF-8"), ("PATH", "/usr/local/bin:/usr/bin:/bin")] {
        env.entry(name.into()).or_insert_with(|| value.into());
    }
    Ok(env)
}

/// Adds to `VCAP_APPLICATION` what only the container knows.
fn complete_application(env: &mut Environment) -> Result<(), Error> {
    let Some(text) = env.get(OsStr::new("VCAP_APPLICATION")) else { return Ok(()) };
    let object: Option<serde_json::Map<String, Value>> = text.to_str().and_then(|text| serde_json::from_str(text).ok());
    let mut application = object.ok_or(Error::Application)?;
    application.insert("host".into(), "0.0.0.0".into());
    if let Some(id) = text_of(env, "CF_INSTANCE_GUID").or_else(|| text_of(env, "INSTANCE_GUID")) {
        application.insert("instance_id".into(), id.into());
    }
    for (field, variable) in [("instance_index", "CF_INSTANCE_INDEX"), ("port", "PORT")] {
        if let Some(number) = text_of(env, variable) {
            let number: u32 = number.parse().map_err(|_| Error::Number(variable, number))?;
            application.insert(field.into(), number.into());
        }
    }
    env.insert("VCAP_APPLICATION".into(), Value::Object(application).to_string().into());
    Ok(())
}

fn text_of(env: &Environment, name: &str) -> Option<String> {
    Some(env.get(OsStr::new(name))?.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
