//! `docs/write-a-broker.md` is true: every command in it is run, in its order, in one folder.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

use specs::{Platform, root};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// The commands of a document: the text of each block of `sh`.
fn commands(document: &str) -> Vec<&str> {
    let blocks = document.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// `cf` as the reader has it: logged in, with an org and a space.
fn client(platform: &Platform, cf: &specs::Client, folder: &Path) {
    let home = cf.command(folder, &[]).get_envs().find(|(key, _)| *key == "CF_HOME").unwrap().1.unwrap().to_owned();
    let script = format!(
        "#!/bin/sh\nCF_HOME={} CF_CA_FILE={} exec {} \"$@\"\n",
        home.to_string_lossy(),
        platform.ca().display(),
        platform.bin().join("cf").display()
    );
    fs::write(folder.join("cf"), script).unwrap();
    fs::set_permissions(folder.join("cf"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_guide_for_brokers_leads_from_cargo_new_to_a_service() {
    let Some(platform) = Platform::shared() else { return };
    let cf = platform.cf();
    let (tools, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    client(platform, &cf, tools.path());
    let guide = fs::read_to_string(root().join("docs/write-a-broker.md")).unwrap();
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let mut said = String::new();
    for command in commands(&guide) {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(work.path())
            .env("CUPOLA", root())
            .env("PATH", &path)
            // What the compiler takes is not what the guide is about.
            .envs([("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")])
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{command}\n{}{}", text(&output.stdout), text(&output.stderr));
        said += &text(&output.stdout);
    }
    assert!(said.contains("A number that only grows"), "the marketplace shows the offering: {said}");
    assert!(said.contains("\"file\":"), "the key has credentials: {said}");
}
