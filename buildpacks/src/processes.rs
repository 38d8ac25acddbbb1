//! Which processes an app has: buildpacks' `launch.yml`, release output and the app's Procfile, later ones winning by type.
//!
//! Source: buildpackapplifecycle, `buildpackrunner/runner.go` and `resources/launch.go`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A helper that runs beside processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Its name.
    pub name: String,
    /// Beside which processes.
    pub process_types: Vec<String>,
    /// Its command.
    pub command: String,
    /// Its share of the memory in MB, if it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
}

/// Processes and sidecars, merged as they come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processes {
    /// Type to command.
    pub types: BTreeMap<String, String>,
    /// By name.
    pub sidecars: BTreeMap<String, Sidecar>,
}

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("invalid YAML: {0}")]
pub struct Invalid(String);

impl Processes {
    /// Adds a buildpack's `launch.yml`.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn add_launch(&mut self, text: &str) -> Result<(), Invalid> {
        for process in yaml::<Option<Launch>>(text)?.unwrap_or_default().processes {
            let sidecar_for = process.platforms.cloudfoundry.sidecar_for;
            if sidecar_for.is_empty() {
                self.types.insert(process.kind, process.command);
            } else {
                let sidecar = Sidecar {
                    name: process.kind.clone(),
                    process_types: sidecar_for,
                    command: process.command,
                    memory: process.limits.memory,
                };
                self.sidecars.insert(process.kind, sidecar);
            }
        }
        Ok(())
    }

    /// Adds what a buildpack's `release` printed.
    ///
    /// # Errors
    /// When it is not such a text.
    pub fn add_release(&mut self, text: &str) -> Result<(), Invalid> {
        let release = yaml::<Option<Release>>(text)?.unwrap_or_default();
        self.add(release.default_process_types.unwrap_or_default());
        Ok(())
    }

    /// Adds the app's Procfile: a map of type to command.
    ///
    /// # Errors
    /// When it is not such a map.
    pub fn add_procfile(&mut self, text: &str) -> Result<(), Invalid> {
        let processes = yaml::<Option<BTreeMap<String, Option<String>>>>(text)?.unwrap_or_default();
        self.add(processes);
        Ok(())
    }

    fn add(&mut self, processes: BTreeMap<String, Option<String>>) {
        let given = processes.into_iter().filter_map(|(kind, command)| Some((kind, command?)));
        self.types.extend(given.filter(|(_, command)| !command.trim().is_empty()));
    }
}

#[derive(Default, Deserialize)]
struct Launch {
    #[serde(default)]
    processes: Vec<LaunchProcess>,
}

#[derive(Deserialize)]
struct LaunchProcess {
    #[serde(rename = "type")]
    kind: String,
    command: String,
    #[serde(default)]
    limits: LaunchLimits,
    #[serde(default)]
    platforms: Platforms,
}

#[derive(Default, Deserialize)]
struct LaunchLimits {
    #[serde(default)]
    memory: Option<u32>,
}

#[derive(Default, Deserialize)]
struct Platforms {
    #[serde(default)]
    cloudfoundry: CloudFoundry,
}

#[derive(Default, Deserialize)]
struct CloudFoundry {
    #[serde(default)]
    sidecar_for: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Release {
    #[serde(default)]
    default_process_types: Option<BTreeMap<String, Option<String>>>,
}

/// What a buildpack says of itself in `deps/<index>/config.yml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct About {
    /// Its own name.
    #[serde(default)]
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: Option<String>,
    /// For the launcher.
    #[serde(default)]
    pub config: AboutConfig,
}

/// Settings of a buildpack for the launcher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AboutConfig {
    /// A program in front of the start command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint_prefix: Option<String>,
}

impl About {
    /// Reads a `config.yml`.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Ok(yaml::<Option<Self>>(text)?.unwrap_or_default())
    }
}

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Invalid> {
    // The first line says what and where; a drawing of the place follows, which no log line needs.
    serde_saphyr::from_str(text).map_err(|e| Invalid(e.to_string().lines().next().unwrap_or("unreadable").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(kind, command)| ((*kind).to_owned(), (*command).to_owned())).collect()
    }

    #[test]
    fn later_sources_win_by_type() {
        let mut all = Processes::default();
        all.add_launch("processes:\n- {type: web, command: from-supply}\n- {type: extra, command: kept}\n").unwrap();
        all.add_release("---\ndefault_process_types:\n  web: from-release\n  console: irb\nconfig_vars: {}\n").unwrap();
        all.add_procfile("web: from-procfile --port $PORT\nworker: work\n").unwrap();
        let expected = [("console", "irb"), ("extra", "kept"), ("web", "from-procfile --port $PORT"), ("worker", "work")];
        assert_eq!(all.types, types(&expected));
    }

    #[test]
    fn empty_release_means_no_default() {
        for text in ["", "---\n", "--- {}\n", "default_process_types:\n", "default_process_types: {web: }\n"] {
            let mut all = Processes::default();
            all.add_release(text).unwrap();
            assert_eq!(all, Processes::default(), "{text:?}");
        }
    }

    #[test]
    fn procfile_values_are_text_whatever_they_look_like() {
        let mut all = Processes::default();
        all.add_procfile("web: 123\nworker: true\nquoted: \"a: b\"\n").unwrap();
        assert_eq!(all.types, types(&[("quoted", "a: b"), ("web", "123"), ("worker", "true")]));
    }

    #[test]
    fn broken_procfile_is_refused_with_its_line() {
        for text in ["just a command", "- a\n- b\n", "web: [a, b]\n", "web: a: b\n", "web: a\nweb: b\n", "web: {a: b}\n"] {
            let read = Processes::default().add_procfile(text);
            let Err(error) = read else { panic!("{text:?} is taken") };
            let error = error.to_string();
            assert!(error.starts_with("invalid YAML: "), "{text:?}: {error}");
            assert!(error.contains("line"), "{text:?}: {error}");
        }
    }

    #[test]
    fn sidecars_are_no_processes() {
        let mut all = Processes::default();
        let text = "processes:\n- type: proxy\n  command: ./proxy\n  limits: {memory: 16}\n  platforms: {cloudfoundry: {sidecar_for: [web]}}\n";
        all.add_launch(text).unwrap();
        assert!(all.types.is_empty());
        let proxy = &all.sidecars["proxy"];
        assert_eq!((proxy.command.as_str(), proxy.memory, proxy.process_types.len()), ("./proxy", Some(16), 1));
    }

    #[test]
    fn buildpack_tells_its_name_and_version() {
        let about = About::parse("name: nodejs\nversion: 1.2\nconfig:\n  entrypoint_prefix: dumb-init --\n").unwrap();
        assert_eq!(about.name, "nodejs");
        assert_eq!(about.version.as_deref(), Some("1.2"));
        assert_eq!(about.config.entrypoint_prefix.as_deref(), Some("dumb-init --"));
        assert_eq!(About::parse("").unwrap(), About::default());
    }
}
