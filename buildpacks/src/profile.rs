//! What buildpacks leave for the start of the app: folders of `deps` on the search paths, and profile scripts.
//!
//! Final buildpacks are expected to do this themselves; those that do are left alone, and the others work all the same.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

const PATHS: &str = "000_multi-supply.sh";

/// Completes the droplet's `profile.d`: `000_multi-supply.sh`, and `<index>_<file>` for every `deps/<index>/profile.d/<file>`.
pub(crate) fn complete(deps: &Path, profile: &Path) -> io::Result<()> {
    let indexes = folders(deps)?;
    let paths = profile.join(PATHS);
    let script = search_paths(&indexes);
    if !paths.exists() && !script.is_empty() {
        fs::write(paths, script)?;
    }
    for index in &indexes {
        let Some(name) = index.file_name().and_then(|name| name.to_str()) else { continue };
        let scripts = index.join("profile.d");
        if !scripts.is_dir() {
            continue;
        }
        for script in fs::read_dir(scripts)? {
            let script = script?;
            let to = profile.join(format!("{name}_{}", script.file_name().to_string_lossy()));
            if script.file_type()?.is_file() && !to.exists() {
                fs::copy(script.path(), to)?;
            }
        }
    }
    Ok(())
}

/// The folders of `deps`, the highest index first: the last buildpack wins on search paths.
fn folders(deps: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(deps)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

fn search_paths(indexes: &[PathBuf]) -> String {
    let mut script = String::new();
    for (variable, folder) in [("PATH", "bin"), ("LD_LIBRARY_PATH", "lib"), ("LIBRARY_PATH", "lib")] {
        let dirs: Vec<String> = indexes
            .iter()
            .filter(|index| index.join(folder).is_dir())
            .filter_map(|index| Some(format!("$DEPS_DIR/{}/{folder}", index.file_name()?.to_str()?)))
            .collect();
        if !dirs.is_empty() {
            let _ = writeln!(script, "export {variable}=\"{}${{{variable}:+:${variable}}}\"", dirs.join(":"));
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_buildpack_comes_first_on_the_search_path() {
        let dir = tempfile::tempdir().unwrap();
        let (deps, profile) = (dir.path().join("deps"), dir.path().join("profile.d"));
        for folder in ["0/bin", "0/lib", "0/profile.d", "1/bin", "1/profile.d", "2"] {
            fs::create_dir_all(deps.join(folder)).unwrap();
        }
        fs::create_dir(&profile).unwrap();
        fs::write(deps.join("0/profile.d/node.sh"), "export NODE=1\n").unwrap();
        fs::write(deps.join("1/profile.d/ruby.sh"), "by the buildpack").unwrap();
        fs::write(profile.join("1_ruby.sh"), "by itself").unwrap();

        complete(&deps, &profile).unwrap();

        let paths = fs::read_to_string(profile.join(PATHS)).unwrap();
        let expected = "export PATH=\"$DEPS_DIR/1/bin:$DEPS_DIR/0/bin${PATH:+:$PATH}\"\n\
             export LD_LIBRARY_PATH=\"$DEPS_DIR/0/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\"\n\
             export LIBRARY_PATH=\"$DEPS_DIR/0/lib${LIBRARY_PATH:+:$LIBRARY_PATH}\"\n";
        assert_eq!(paths, expected);
        assert_eq!(fs::read_to_string(profile.join("0_node.sh")).unwrap(), "export NODE=1\n");
        assert_eq!(fs::read_to_string(profile.join("1_ruby.sh")).unwrap(), "by itself");
    }
}
