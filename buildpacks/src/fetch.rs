//! Buildpacks that the user names by URL.
//!
//! `git` and `curl` of the stack do the work: they honour the proxies, certificates and credentials that users set for them.

use crate::{
    archive::{Bounds, size_text, unzip},
    run::{self, Deadline},
};
use std::{ffi::OsString, fs, path::Path, process::Command, time::Duration};
use url::Url;

const TIME: Duration = Duration::from_secs(600);
const LARGEST_ZIP: u64 = 2 << 30;
const BOUNDS: Bounds = Bounds { bytes: 4 << 30, files: 200_000 };
const PROTOCOLS: [&str; 5] = ["https", "http", "git", "ssh", "file"];

/// Gets the buildpack at `text` into the folder `to`, which must not exist; `say` hears what happened.
pub(crate) fn fetch(
    text: &str,
    to: &Path,
    deadline: Deadline,
    command: &dyn Fn(&str) -> Command,
    say: &dyn Fn(&str),
) -> Result<(), String> {
    let url = Url::parse(text).map_err(|e| format!("it is not a URL: {e}"))?;
    if !PROTOCOLS.contains(&url.scheme()) {
        return Err(format!("`{}` URLs are not supported", url.scheme()));
    }
    let deadline = Deadline::after(deadline.left().min(TIME));
    if url.path().ends_with(".zip") { download(&url, to, deadline, command, say) } else { clone(url, to, deadline, command) }
}

fn download(
    url: &Url,
    to: &Path,
    deadline: Deadline,
    command: &dyn Fn(&str) -> Command,
    say: &dyn Fn(&str),
) -> Result<(), String> {
    let file = to.with_extension("zip");
    let mut curl = command("curl");
    curl.args(["--fail", "--silent", "--show-error", "--location", "--retry", "3", "--connect-timeout", "10"]);
    curl.args(["--proto", "=https,http,file", "--max-filesize", &LARGEST_ZIP.to_string(), "--output"])
        .arg(&file)
        .arg("--url")
        .arg(url.as_str());
    run::run(&mut curl, deadline).map_err(|e| format!("curl: {}", e.text()))?;
    let size = fs::metadata(&file).map_err(|e| e.to_string())?.len();
    say(&format!("Downloaded buildpack `{}` ({})", redacted(url), size_text(size)));
    unzip(&file, to, BOUNDS).map_err(|e| e.to_string())?;
    fs::remove_file(&file).map_err(|e| e.to_string())
}

fn clone(mut url: Url, to: &Path, deadline: Deadline, command: &dyn Fn(&str) -> Command) -> Result<(), String> {
    let branch = url.fragment().map(str::to_owned).filter(|branch| !branch.is_empty());
    if branch.as_deref().is_some_and(|branch| branch.starts_with('-')) {
        return Err("a branch cannot begin with `-`".into());
    }
    url.set_fragment(None);
    let git = |args: &[OsString]| {
        let mut git = command("git");
        git.env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS.join(":"))
            .args(["-c", "advice.detachedHead=false"])
            .args(args);
        run::run(&mut git, deadline)
    };
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut shallow = words(&["clone", "--quiet", "--depth", "1", "--recursive"]);
    if let Some(branch) = &branch {
        shallow.push(format!("--branch={branch}").into());
    }
    shallow.extend(words(&["--", url.as_str()]));
    shallow.push(to.into());
    match git(&shallow) {
        Ok(()) => return Ok(()),
        Err(run::Error::Timeout) => return Err("git: out of time".into()),
        Err(e @ run::Error::Start(..)) => return Err(e.text()),
        Err(_) => {}
    }
    // Servers without shallow clones, and commits instead of branches.
    if to.exists() {
        fs::remove_dir_all(to).map_err(|e| e.to_string())?;
    }
    let mut whole = words(&["clone", "--quiet", "--recursive", "--", url.as_str()]);
    whole.push(to.into());
    git(&whole).map_err(|e| format!("git clone: {}", e.text()))?;
    if let Some(branch) = branch {
        let mut checkout = words(&["-C"]);
        checkout.push(to.into());
        checkout.extend(words(&["checkout", "--quiet", &branch]));
        git(&checkout).map_err(|e| format!("git checkout {branch}: {}", e.text()))?;
    }
    Ok(())
}

/// Without the user's name and password.
pub(crate) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail for URLs that cannot have them, which is as good.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}
