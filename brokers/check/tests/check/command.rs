//! The program from outside.

use super::{Flaw, broker};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Output, Stdio},
};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_check-broker"));
    command.args(args).env_remove("BROKER_USER").env_remove("BROKER_PASSWORD").stdin(Stdio::null());
    command
}

fn check(url: &str, args: &[&str]) -> Output {
    let mut command = program(&[&[url, "--service", "check-batch"], args].concat());
    command.env("BROKER_USER", broker::USER).env("BROKER_PASSWORD", broker::PASSWORD).output().unwrap()
}

fn output(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn exit_codes_say_passed_broken_or_could_not_run() {
    let base = broker::serve(&[Flaw::None, Flaw::UnknownIs404]);
    for (url, args, code, text) in [
        (format!("{base}/None"), &[][..], 0, "PASSED: 0 findings"),
        (format!("{base}/UnknownIs404"), &[], 1, "FINDING deprovision.unknown"),
        (format!("{base}/UnknownIs404"), &["--skip", "deprovision.unknown", "--skip", "deprovision.repeat"], 0, "PASSED"),
        ("http://127.0.0.1:1".to_owned(), &[], 2, "Nobody answers"),
        (format!("{base}/None"), &["--plan", "enormous"], 2, "No plan"),
        (format!("{base}/None"), &["--skip", "deprovision.unknwon"], 2, "there is no case `deprovision.unknwon`"),
        (format!("{base}/None"), &["--osb-version", "3.0"], 2, "3.0"),
        (format!("{base}/None"), &["--parameters", "/nowhere"], 2, "cannot read /nowhere"),
        ("http://me:secret@127.0.0.1:1".to_owned(), &[], 2, "--password-file"),
    ] {
        let output_of = check(&url, args);
        assert_eq!(output_of.status.code(), Some(code), "{url} {args:?}\n{}", output(&output_of));
        assert!(output(&output_of).contains(text), "{url} {args:?}\n{}", output(&output_of));
        assert!(!output(&output_of).contains('\u{1b}'), "colours although this is no terminal");
    }
}

#[test]
fn the_password_may_come_from_a_file_or_from_standard_input() {
    let url = format!("{}/None", broker::serve(&[Flaw::None]));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}\n", broker::PASSWORD)).unwrap();
    let choice = ["--service", "check-batch", "--user", broker::USER, "--password-file"];
    let from_file = program(&[&[url.as_str()], &choice[..], &[file.path().to_str().unwrap()]].concat()).output().unwrap();
    assert_eq!(from_file.status.code(), Some(0), "{}", output(&from_file));

    let mut child =
        program(&[&[url.as_str()], &choice[..], &["-"]].concat()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(broker::PASSWORD.as_bytes()).unwrap();
    let from_input = child.wait_with_output().unwrap();
    assert_eq!(from_input.status.code(), Some(0), "{}", output(&from_input));

    let without = program(&[&url, "--user", broker::USER]).output().unwrap();
    assert_eq!(without.status.code(), Some(2));
    assert!(output(&without).contains("BROKER_PASSWORD"), "{}", output(&without));
}

#[test]
fn reports_for_programs_are_written_beside_the_one_for_people() {
    let url = format!("{}/None", broker::serve(&[Flaw::None]));
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("report.xml");
    let output_of = check(&url, &["--json", "--junit", junit.to_str().unwrap()]);
    let value: serde_json::Value = serde_json::from_slice(&output_of.stdout).unwrap();
    assert_eq!((value["findings"].as_u64(), value["ending"].as_str()), (Some(0), Some("complete")));
    assert!(std::fs::read_to_string(junit).unwrap().contains("<testsuite name=\"check-batch/batch\""));
}

#[test]
fn an_interrupted_check_removes_what_it_made() {
    let url = format!("{}/NeverEnds", broker::serve(&[Flaw::NeverEnds]));
    let mut command = program(&[&url, "--plan", "large", "--verbose"]);
    command.env("BROKER_USER", broker::USER).env("BROKER_PASSWORD", broker::PASSWORD).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // the instance is being made from here on, and never will be
    assert!(lines.any(|line| line.unwrap().contains("concurrency.bind")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{rest:#?}");
    assert!(rest.iter().any(|line| line.starts_with("ok") && line.ends_with("run.clean-up")), "{rest:#?}");
}

#[test]
fn all_cases_can_be_listed() {
    let list = program(&["--list"]).output().unwrap();
    assert_eq!(list.status.code(), Some(0));
    assert_eq!(String::from_utf8(list.stdout).unwrap().lines().count(), broker_check::CASES.len());
}
