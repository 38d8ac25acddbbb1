use super::*;
use std::{fs, path::PathBuf, process::Command};

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn get<'a>(env: &'a Environment, name: &str) -> &'a str {
    env.get(OsStr::new(name)).unwrap_or_else(|| panic!("{name} is not there")).to_str().unwrap()
}

#[test]
fn container_knows_the_rest_of_vcap_application() {
    let given = env(&[
        ("VCAP_APPLICATION", r#"{"name":"app","limits":{"mem":64},"host":"old"}"#),
        ("CF_INSTANCE_GUID", "1b9b"),
        ("CF_INSTANCE_INDEX", "2"),
        ("PORT", "8080"),
        ("VCAP_PLATFORM_OPTIONS", "{}"),
        ("LANG", "C"),
        ("HOME", "/root"),
    ]);
    let made = environment(given, Path::new("/home/vcap/app")).unwrap();
    let application: Value = serde_json::from_str(get(&made, "VCAP_APPLICATION")).unwrap();
    let expected = r#"{"host":"0.0.0.0","instance_id":"1b9b","instance_index":2,"limits":{"mem":64},"name":"app","port":8080}"#;
    assert_eq!(application.to_string(), expected);
    let fixed =
        [("HOME", "/home/vcap/app"), ("PWD", "/home/vcap/app"), ("TMPDIR", "/home/vcap/tmp"), ("DEPS_DIR", "/home/vcap/deps")];
    for (name, value) in fixed.into_iter().chain([("USER", "vcap"), ("LANG", "C")]) {
        assert_eq!(get(&made, name), value);
    }
    assert!(!made.contains_key(OsStr::new("VCAP_PLATFORM_OPTIONS")));
}

#[test]
fn broken_environment_is_an_error() {
    let app = Path::new("/home/vcap/app");
    assert!(matches!(environment(env(&[("VCAP_APPLICATION", "[1]")]), app), Err(Error::Application)));
    let odd = env(&[("VCAP_APPLICATION", "{}"), ("PORT", "80a")]);
    assert_eq!(environment(odd, app).unwrap_err().to_string(), "PORT is not a number: `80a`");
    assert!(environment(env(&[]), app).is_ok());
}

/// A home with scripts that each add their name to `ORDER`.
fn home() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    for (file, name) in [
        ("profile.d/0_a.sh", "a"),
        ("profile.d/1_b.sh", "b"),
        ("app/.profile.d/c.sh", "c"),
        ("app/.profile.d/d e.sh", "d"),
        ("app/.profile", "p"),
    ] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("export ORDER=${{ORDER}}{name}\n")).unwrap();
    }
    (dir, app)
}

fn start(app: &Path, command: &str, prefix: &str, more: &[(&str, &str)]) -> (String, Option<i32>) {
    let env = environment(env(more), app).unwrap();
    let output = Command::new(SHELL)
        .arg("-c")
        .arg(SCRIPT)
        .args(["launcher", app.to_str().unwrap(), command, prefix])
        .env_clear()
        .envs(env)
        .output();
    let output = output.unwrap();
    (String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn profile_scripts_run_in_order_and_reach_the_command() {
    let (_dir, app) = home();
    let (text, status) = start(&app, "echo $ORDER $# in $(pwd); exit 5", "", &[]);
    let expected = format!("Invoking pre-start scripts.\nInvoking start command.\nabcdp 0 in {}\n", app.display());
    assert_eq!((text, status), (expected, Some(5)));
}

#[test]
fn values_are_never_read_by_a_shell() {
    let (_dir, app) = home();
    let nasty = "$(touch pwned) `touch pwned` \"; touch pwned; '";
    let (text, _) = start(&app, "printenv NASTY", "", &[("NASTY", nasty), ("PATH", "/usr/bin:/bin")]);
    assert!(text.ends_with(&format!("{nasty}\n")), "{text}");
    assert!(!app.join("pwned").exists());
}

#[test]
fn command_replaces_the_shell() {
    let (_dir, app) = home();
    let (text, _) = start(&app, "echo $PPID $$", "", &[]);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with(&format!("{} ", std::process::id())), "{last} is not a child of {}", std::process::id());
}

#[test]
fn prefix_wraps_the_command() {
    let (_dir, app) = home();
    let (text, _) = start(&app, "echo \"$WRAPPED $1\"", "env WRAPPED='a b'", &[("PATH", "/usr/bin:/bin")]);
    assert!(text.ends_with("a b \n"), "{text}");
}

#[test]
fn staging_info_is_optional_but_not_broken() {
    let (dir, app) = home();
    assert_eq!(StagingInfo::read(&app).unwrap(), StagingInfo::default());
    let info = StagingInfo { detected_buildpack: "go".into(), start_command: "./app".into(), config: AboutConfig::default() };
    fs::write(dir.path().join(StagingInfo::FILE), serde_json::to_vec(&info).unwrap()).unwrap();
    assert_eq!(StagingInfo::read(&app).unwrap(), info);
    fs::write(dir.path().join(StagingInfo::FILE), "- no\n").unwrap();
    assert!(StagingInfo::read(&app).is_err());
}
