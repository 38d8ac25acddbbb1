//! Workspace chores: documents that are made from what the tests show.
//!
//! `cargo run -p xtask -- compatibility` writes `docs/compatibility.md`; with `--check` it only says whether it is true.

use anyhow::{Context, bail};
use std::{collections::BTreeMap, fmt::Write, path::Path};

const COMMANDS: &str = "specs/compatibility/commands.txt";
const SUITE: &str = "specs/tests/official_client";
const DOCUMENT: &str = "docs/compatibility.md";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["compatibility"] => compatibility(false),
        ["compatibility", "--check"] => compatibility(true),
        _ => bail!("usage: xtask compatibility [--check]"),
    }
}

fn compatibility(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let read = |file: &str| std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"));
    let document = document(&read(COMMANDS)?, &suite(&root.join(SUITE))?)?;
    if check {
        if read(DOCUMENT)? != document {
            bail!("{DOCUMENT} is not what the suite shows; write it with: cargo run -p xtask -- compatibility");
        }
        return Ok(());
    }
    std::fs::write(root.join(DOCUMENT), document).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// All files of the suite, one after the other.
fn suite(folder: &Path) -> anyhow::Result<String> {
    let files = std::fs::read_dir(folder).with_context(|| format!("cannot read {SUITE}"))?;
    let mut paths = files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let texts = paths.iter().map(std::fs::read_to_string).collect::<std::io::Result<Vec<_>>>()?;
    Ok(texts.concat())
}

/// Which test shows which command. A test says so in a line `// commands: push, app` above its attribute.
fn shown_by(suite: &str) -> anyhow::Result<BTreeMap<&str, Vec<&str>>> {
    let mut shown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut pending: Vec<&str> = vec![];
    for line in suite.lines().map(str::trim) {
        if let Some(list) = line.strip_prefix("// commands: ") {
            pending.extend(list.split(',').map(str::trim));
        } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
            let test = rest.split('(').next().unwrap_or(rest);
            pending.drain(..).for_each(|command| shown.entry(command).or_default().push(test));
        }
    }
    if !pending.is_empty() {
        bail!("{SUITE}: `// commands: {}` stands above no test", pending.join(", "));
    }
    Ok(shown)
}

fn document(commands: &str, suite: &str) -> anyhow::Result<String> {
    let mut shown = shown_by(suite)?;
    let (mut rows, mut works, mut all) = (String::new(), 0, 0);
    for line in commands.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (tier, command) = line.split_once(' ').with_context(|| format!("{COMMANDS}: `{line}` is not `tier command`"))?;
        let name = command.split(' ').next().unwrap_or(command);
        all += 1;
        match shown.remove(name) {
            Some(tests) => {
                works += 1;
                writeln!(rows, "| {command} | {tier} | works | `{}` |", tests.join("`, `"))?;
            }
            None => writeln!(rows, "| {command} | {tier} | not yet | |")?,
        }
    }
    if let Some((unknown, tests)) = shown.pop_first() {
        bail!("{SUITE}: `{unknown}`, shown by {tests:?}, is no command of {COMMANDS}");
    }
    Ok(format!(
        "# The official client's commands\n\nMade from the suite `{SUITE}`, which drives the unmodified official client against a running \
         platform; never edited by hand (`cargo run -p xtask -- compatibility`). {works} of {all} commands work. A command counts as working \
         when the named test uses it; tiers go from 1 (every developer, day one) to 4 (rare).\n\n\
         | command | tier | today | shown by |\n|---|---|---|---|\n{rows}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_suite_shows() {
        compatibility(true).unwrap();
    }

    #[test]
    fn a_command_works_only_when_a_test_names_it() {
        let text = document("1 push (p)\n2 ssh", "// commands: push\n#[test]\nfn pushes_an_app() {}").unwrap();
        assert!(text.contains("| push (p) | 1 | works | `pushes_an_app` |"));
        assert!(text.contains("| ssh | 2 | not yet | |"));
        assert!(text.contains("1 of 2 commands work"));
    }

    #[test]
    fn a_command_that_the_client_does_not_have_is_refused() {
        assert!(document("1 push", "// commands: psuh\nfn a() {}").unwrap_err().to_string().contains("psuh"));
    }
}
