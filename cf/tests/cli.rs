//! The program from outside, without a platform.

use std::process::{Command, Output};

fn cf(home: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cf"))
        .args(arguments)
        .env("CF_HOME", home)
        .output()
        .expect("the program was built with this test")
}

fn all(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_command_before_login_says_how_to_log_in_and_fails_with_1() {
    let home = tempfile::tempdir().unwrap();
    let output = cf(home.path(), &["apps"]);
    assert_eq!(output.status.code(), Some(1));
    let said = all(&output);
    assert!(said.contains("cf api") || said.contains("cf login"), "{said}");
}

#[test]
fn help_names_the_commands_of_a_push() {
    let home = tempfile::tempdir().unwrap();
    let said = all(&cf(home.path(), &["help"]));
    for command in ["push", "logs", "scale", "map-route"] {
        assert!(said.contains(command), "{command} is missing in:\n{said}");
    }
}
