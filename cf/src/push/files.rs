//! What belongs to an app: its folder without what is ignored, or the members of a zip file.

use crate::problem::Problem;
use anyhow::{Context, bail};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sha1::{Digest, Sha1};
use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Never part of an app. Source: cloudfoundry/cli, `actor/sharedaction/resource.go`.
const IGNORED: &[&str] =
    &[".cfignore", ".DS_Store", ".git", ".gitignore", ".hg", ".svn", "_darcs", "manifest.yml", "manifest.yaml"];
/// In the folder of the app, in the form of .gitignore.
const IGNORE_FILE: &str = ".cfignore";

/// Where an app's files are.
pub(crate) enum Source {
    Folder(PathBuf),
    Zip(PathBuf),
}

/// One member of an app.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// With slashes, from the app's folder on.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Folder,
    File { size: u64, sha1: String },
    Link { target: String },
}

/// # Errors
/// When there is nothing at this path that can be pushed.
pub(crate) fn check(path: &Path) -> anyhow::Result<Source> {
    let Ok(meta) = std::fs::metadata(path) else {
        bail!(
            Problem::new(format!("The app's path {} does not exist.", path.display()))
                .tip("Name the folder with -p, or `path:` in the manifest.")
        );
    };
    if meta.is_dir() {
        return Ok(Source::Folder(path.to_owned()));
    }
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) if magic.starts_with(b"PK") => Ok(Source::Zip(path.to_owned())),
        _ => bail!(Problem::new(format!("{} is neither a folder nor a zip file (or jar, war).", path.display()))),
    }
}

/// Everything of a folder that is not ignored, folders before what is in them.
///
/// # Errors
/// When the folder is empty, or something cannot be read.
pub(super) fn of_folder(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let ignored = rules(folder)?;
    let keep =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !ignored.matched(entry.path(), entry.file_type().is_dir()).is_ignore();
    let mut entries = vec![];
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(keep) {
        let entry = entry.with_context(|| format!("cannot look through {}", folder.display()))?;
        if entry.depth() == 0 {
            continue;
        }
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let Some(path) = relative.to_str() else { bail!("the name of {} is not UTF-8", entry.path().display()) };
        let meta = entry.metadata().with_context(|| format!("cannot read {}", entry.path().display()))?;
        let kind = if meta.is_dir() {
            Kind::Folder
        } else if meta.is_symlink() {
            let target = std::fs::read_link(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            Kind::Link { target: target.to_string_lossy().into_owned() }
        } else if meta.is_file() {
            Kind::File { size: meta.len(), sha1: sha1_of(entry.path())? }
        } else {
            // sockets, pipes, devices: nothing that an app could want
            continue;
        };
        entries.push(Entry { path: path.to_owned(), kind, mode: meta.mode() & 0o777 });
    }
    if entries.is_empty() {
        bail!(
            Problem::new(format!("No app files found in '{}'", folder.display()))
                .tip("Is it the right folder, and does .cfignore leave anything?")
        );
    }
    Ok(entries)
}

fn rules(folder: &Path) -> anyhow::Result<Gitignore> {
    let mut rules = GitignoreBuilder::new(folder);
    for pattern in IGNORED {
        rules.add_line(None, pattern)?;
    }
    let path = folder.join(IGNORE_FILE);
    if path.is_file()
        && let Some(e) = rules.add(&path)
    {
        return Err(anyhow::Error::new(e).context(format!("{} cannot be used", path.display())));
    }
    // the client that writes traces into the folder must not push them
    if let Ok(trace) = std::env::var("CF_TRACE")
        && let Ok(relative) = Path::new(&trace).strip_prefix(folder)
    {
        rules.add_line(None, &format!("/{}", relative.display()))?;
    }
    Ok(rules.build()?)
}

fn sha1_of(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha1::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }
    fn paths(folder: &tempfile::TempDir) -> Vec<String> {
        of_folder(folder.path()).unwrap().into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn files_come_with_size_hash_mode_and_links_as_links() {
        let folder = folder(&[("run.sh", "hello"), ("lib/a", "")]);
        std::fs::set_permissions(folder.path().join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("run.sh", folder.path().join("start")).unwrap();
        let entries = of_folder(folder.path()).unwrap();
        let kinds: Vec<_> = entries.iter().map(|entry| (entry.path.as_str(), &entry.kind)).collect();
        assert_eq!(kinds[0], ("lib", &Kind::Folder));
        assert_eq!(
            entries[2],
            Entry {
                path: "run.sh".into(),
                kind: Kind::File { size: 5, sha1: "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d".into() },
                mode: 0o755
            }
        );
        assert_eq!(kinds[3], ("start", &Kind::Link { target: "run.sh".into() }));
    }

    #[test]
    fn what_nobody_wants_to_push_is_left_out() {
        let folder = folder(&[
            (".git/config", ""),
            ("manifest.yml", ""),
            ("sub/.DS_Store", ""),
            ("sub/a", ""),
            (".gitignore", "a"),
            ("_darcs/x", ""),
        ]);
        assert_eq!(paths(&folder), ["sub", "sub/a"]);
    }

    #[test]
    fn cfignore_works_like_gitignore() {
        let folder = folder(&[
            (".cfignore", "*.log\n/build\nnode_modules/\n!keep.log\n# a remark\n"),
            ("a.log", ""),
            ("keep.log", ""),
            ("build/x", ""),
            ("src/build/y", ""),
            ("src/node_modules/z", ""),
        ]);
        assert_eq!(paths(&folder), ["keep.log", "src", "src/build", "src/build/y"]);
    }

    #[test]
    fn an_empty_folder_and_a_missing_one_are_told() {
        let empty = folder(&[(".git/config", "")]);
        assert!(of_folder(empty.path()).unwrap_err().to_string().contains("No app files found"));
        assert!(check(&empty.path().join("nothing")).err().unwrap().to_string().contains("does not exist"));
        let file = folder(&[("a.txt", "text")]);
        assert!(check(&file.path().join("a.txt")).err().unwrap().to_string().contains("neither a folder nor a zip"));
    }
}
