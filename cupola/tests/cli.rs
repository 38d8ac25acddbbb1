//! The program from outside, without a platform.

use std::process::{Command, Output};

fn cupola(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(arguments)
        .env_remove("CUPOLA_STATE")
        .output()
        .expect("the program was built with this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command() {
    let help = text(&cupola(&["--help"]).stdout);
    for command in ["up", "down", "status", "run"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} is missing in:\n{help}");
    }
}

#[test]
fn status_of_a_machine_without_a_node_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = cupola(&["status", "--state", folder.path().to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("`cupola up` makes one"), "{}", text(&output.stderr));
}

#[test]
fn a_setting_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cupola.toml"), "sistem_domain = \"cf.example\"\n").unwrap();
    let output = cupola(&["status", "--state", folder.path().to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("sistem_domain"), "{}", text(&output.stderr));
}

#[test]
fn a_part_that_does_not_exist_is_refused_with_the_list() {
    let output = cupola(&["run", "cloud_control", "--config", "/none"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("cloud_controller"), "{}", text(&output.stderr));
}

#[test]
fn a_part_with_unusable_settings_ends_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("dea.toml");
    std::fs::write(&config, "nonsense = true\n").unwrap();
    let output = cupola(&["run", "dea", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
}
