//! The contract between builder and buildpacks, with buildpacks of a few lines.

use crate::support::{Stage, Staged, write_scripts};
use buildpacks::result::ResultFile;
use serde_json::json;
use std::{fs, process::Command};

const YES: (&str, &str) = ("detect", "echo \"mine 1.0\"; echo more");
const NO: (&str, &str) = ("detect", "exit 1");
const RELEASE: (&str, &str) = ("release", "printf -- '---\\ndefault_process_types:\\n  web: run me\\n'");

fn staged(staged: Staged) -> ResultFile {
    assert_eq!(staged.status, 0, "{}", staged.log);
    assert_eq!(staged.result.error, None);
    staged.result
}

fn refused(staged: Staged, status: i32, id: &str) -> (String, String) {
    assert_eq!(staged.status, status, "{}", staged.log);
    let error = staged.result.error.unwrap();
    assert_eq!(error.id, id);
    (error.message, staged.log)
}

#[test]
fn first_buildpack_that_detects_is_taken() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    stage
        .buildpack("no", &[NO])
        .buildpack("first", &[YES, ("compile", "echo compiled > $1/made"), RELEASE])
        .buildpack("second", &[YES]);
    let result = staged(stage.run());
    assert_eq!(result.buildpack_key, "first");
    assert_eq!(result.detected_buildpack, "mine 1.0");
    assert_eq!(result.buildpacks.len(), 1);
    assert_eq!(result.process_types["web"], "run me");
    let droplet = stage.droplet();
    assert_eq!(droplet["app/made"], "compiled\n");
    assert_eq!(droplet["staging_info.yml"], r#"{"detected_buildpack":"mine 1.0","start_command":"run me","config":{}}"#);
    for folder in ["app", "deps", "logs", "tmp", "profile.d"] {
        assert!(droplet.keys().any(|name| name.trim_end_matches('/') == folder), "{folder} is missing");
    }
}

#[test]
fn nobody_detects() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    stage
        .buildpack("no", &[NO])
        .candidate(json!({"name": "gone", "key": "gone"}))
        .candidate(json!({"name": "../x", "key": "../x"}));
    let (message, log) = refused(stage.run(), 222, "NoAppDetectedError");
    assert_eq!(message, "None of the buildpacks detected a compatible application");
    assert!(log.contains("None of the buildpacks detected a compatible application"));
    assert!(log.contains("buildpack `gone` is not available"));
}

#[test]
fn detect_that_cannot_run_is_skipped_with_a_warning() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    stage.buildpack("odd", &[YES]).buildpack("good", &[YES, ("compile", ""), RELEASE]);
    let detect = stage.path("buildpacks/odd/bin/detect");
    fs::set_permissions(detect, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let run = stage.run();
    assert!(run.log.contains("is not executable: odd"));
    assert_eq!(staged(run).buildpack_key, "good");
}

#[test]
fn chosen_buildpacks_supply_in_order_and_the_last_finalizes() {
    let mut stage = Stage::new();
    stage.app(&[("Procfile", "worker: work hard\n")]);
    let supply = "mkdir -p $3/$4/bin $3/$4/profile.d; echo \"supply $4 of $(ls $3 | tr '\\n' ' ')\"; echo x > $3/$4/profile.d/own.sh; touch $2/kept-$4";
    let about = "printf 'name: first\\nversion: \"2.0\"\\nconfig: {}\\n' > $3/$4/config.yml; printf 'processes: [{type: web, command: of first}, {type: extra, command: of first}]' > $3/$4/launch.yml";
    stage.buildpack("first", &[("supply", &format!("{supply}\n{about}"))]);
    stage.buildpack(
        "last",
        &[NO, ("supply", supply), ("finalize", "echo \"finalize $4\"; [ -d \"$5\" ]; echo done > $1/done"), RELEASE],
    );
    stage.chosen();
    let run = stage.run();
    let steps: Vec<&str> = run.log.lines().filter(|line| line.starts_with("supply") || line.starts_with("finalize")).collect();
    assert_eq!(steps, ["supply 0 of 0 ", "supply 1 of 0 1 ", "finalize 1"]);
    let result = staged(run);
    assert_eq!((result.buildpacks[0].name.as_str(), result.buildpacks[0].version.as_str()), ("first", "2.0"));
    assert_eq!(result.buildpack_key, "last");
    let types: Vec<_> = result.process_types.iter().map(|(kind, command)| format!("{kind}={command}")).collect();
    assert_eq!(types, ["extra=of first", "web=run me", "worker=work hard"]);
    let droplet = stage.droplet();
    assert_eq!(droplet["app/done"], "done\n");
    assert!(droplet.contains_key("profile.d/0_own.sh") && droplet.contains_key("profile.d/1_own.sh"));
    assert!(droplet["profile.d/000_multi-supply.sh"].contains("$DEPS_DIR/1/bin:$DEPS_DIR/0/bin"));
}

#[test]
fn index_is_padded_to_one_width() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    for number in 0..11 {
        stage.buildpack(&format!("b{number}"), &[("supply", "echo index $4"), ("finalize", ""), RELEASE]);
    }
    stage.chosen();
    let run = stage.run();
    assert!(run.log.contains("index 00\nindex 01\n") && run.log.contains("index 10\n"), "{}", run.log);
    assert_eq!(staged(run).buildpacks.len(), 11);
}

#[test]
fn launch_yml_of_the_last_replaces_release() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    let launch = "printf 'processes: [{type: web, command: launched}, {type: side, command: s, platforms: {cloudfoundry: {sidecar_for: [web]}}}]' > $3/$4/launch.yml";
    stage.buildpack("last", &[("finalize", launch), ("release", "exit 9")]).chosen();
    let result = staged(stage.run());
    assert_eq!(result.process_types["web"], "launched");
    assert_eq!(result.sidecars[0].name, "side");
}

#[test]
fn failures_have_the_official_ids_and_name_the_buildpack() {
    let fail = |scripts: &[(&str, &str)], status, id| {
        let mut stage = Stage::new();
        stage.app(&[("a", "1")]).run();
        stage.buildpack("bad", scripts).chosen();
        refused(stage.run(), status, id)
    };
    let (message, log) = fail(&[("supply", "echo why >&2; exit 3"), ("finalize", ""), RELEASE], 223, "BuildpackCompileFailed");
    assert_eq!(message, "bad, bin/supply: exit status 3");
    assert!(log.contains("why\nFailed to compile droplet: Failed to run supply script: exit status 3"), "{log}");
    let (message, _) = fail(&[("compile", "kill -9 $$"), RELEASE], 223, "BuildpackCompileFailed");
    assert!(message.ends_with("bin/compile: ended by signal SIGKILL (probably out of memory)"), "{message}");
    let (message, log) = fail(&[("finalize", ""), ("release", "echo '- not: [what'")], 224, "BuildpackReleaseFailed");
    assert!(message.contains("bad: buildpack's release output invalid: invalid YAML"), "{message}");
    assert!(log.contains("Failed to build droplet release"));
    fail(&[("finalize", ""), ("release", "exit 1")], 224, "BuildpackReleaseFailed");
    fail(&[("finalize", "")], 224, "BuildpackReleaseFailed");
}

#[test]
fn supplying_buildpack_that_fails_or_cannot_is_a_staging_error() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    stage.buildpack("bad", &[("supply", "exit 3")]).buildpack("last", &[("finalize", ""), RELEASE]).chosen();
    let (message, _) = refused(stage.run(), 225, "StagingError");
    assert_eq!(message, "bad, bin/supply: exit status 3");

    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    stage.buildpack("old", &[("compile", "")]).buildpack("last", &[("finalize", ""), RELEASE]).chosen();
    let (message, _) = refused(stage.run(), 225, "StagingError");
    assert!(message.contains("`old` does not support multiple buildpacks"), "{message}");
}

#[test]
fn time_ends_everything() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    stage.buildpack("slow", &[("compile", "echo $STAGING_TIMEOUT s; sleep 600")]).chosen();
    stage.order["timeout_s"] = 1.into();
    let (message, log) = refused(stage.run(), 124, "StagingTimeExpired");
    assert_eq!(message, "1 s are allowed, and they ended during bin/compile of slow");
    assert!(log.contains("1 s\n"));
}

#[test]
fn package_and_procfile_that_are_no_good() {
    let mut stage = Stage::new();
    stage.buildpack("good", &[("compile", ""), RELEASE]).chosen();
    fs::write(stage.path("package.zip"), "no zip").unwrap();
    let (message, _) = refused(stage.run(), 1, "StagingError");
    assert!(message.starts_with("The app package cannot be used: it is not a readable zip archive"), "{message}");
    stage.app(&[("Procfile", "web: a: b")]);
    let (message, _) = refused(stage.run(), 1, "StagingError");
    assert!(message.starts_with("Failed to read command from Procfile: invalid YAML: "), "{message}");
    stage.app(&[("big", &"x".repeat(5000))]);
    stage.order["limits"] = json!({"app_bytes": 4999});
    let (message, _) = refused(stage.run(), 1, "StagingError");
    assert!(message.ends_with("it holds more than 4.8K"), "{message}");
    stage.order["limits"] = json!({"droplet_bytes": 100});
    let (message, _) = refused(stage.run(), 1, "StagingError");
    assert!(message.ends_with("Failed to write the droplet: it is larger than the limit of 100B"), "{message}");
    assert!(!stage.path("output/cache.tgz").exists());
}

#[test]
fn what_travels_is_of_sensible_size() {
    let mut stage = Stage::new();
    stage.app(&[("Procfile", &format!("web: {}\n", "x".repeat(70_000)))]);
    stage.buildpack("long", &[("detect", "printf %05000d 1"), ("compile", ""), RELEASE]);
    let (message, _) = refused(stage.run(), 1, "StagingError");
    assert!(message.contains("larger than 64 KiB"), "{message}");
    stage.app(&[("Procfile", &format!("web: {}\nworker: {}\n", "x".repeat(30_000), "y".repeat(30_000)))]);
    let result = staged(stage.run());
    assert_eq!(result.detected_buildpack.len(), 200);
    assert_eq!(result.process_types["worker"].len(), 30_000);
    stage.app(&[("a", "1")]);
    stage.order["buildpacks"] = json!([]);
    stage
        .buildpack("huge", &[("compile", ""), ("release", "echo 'default_process_types:'; echo \"  web: $(printf %070000d 1)\"")])
        .chosen();
    let (message, _) = refused(stage.run(), 224, "BuildpackReleaseFailed");
    assert!(message.contains("the start commands are larger than 64 KiB"), "{message}");
}

#[test]
fn cache_belongs_to_its_buildpack_and_comes_back() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    let count = "n=$(cat $2/n 2>/dev/null || echo 0); echo $((n + 1)) > $2/n; echo \"$4 was here $n times\"";
    stage.buildpack("one", &[("supply", count)]).buildpack("two", &[("supply", count), ("finalize", ""), RELEASE]).chosen();
    assert!(stage.run().log.contains("0 was here 0 times\n1 was here 0 times"));
    assert!(stage.run().log.contains("0 was here 1 times\n1 was here 1 times"));
    // Without the first one, its cache goes and the final one's stays.
    stage.order["buildpacks"].as_array_mut().unwrap().remove(0);
    assert!(stage.run().log.contains("0 was here 2 times"));
    assert_eq!(fs::read_dir(stage.path("work/cache")).unwrap().count(), 1);
    // A damaged cache is thrown away.
    fs::remove_file(stage.path("output/cache.tgz")).unwrap();
    fs::write(stage.path("cache.tgz"), "damaged").unwrap();
    let run = stage.run();
    assert!(run.log.contains("cannot be used and is thrown away") && run.log.contains("0 was here 0 times"), "{}", run.log);
    staged(run);
}

#[test]
fn same_package_gives_the_same_droplet() {
    let bytes = |stage: &Stage| fs::read(stage.path("output/droplet.tgz")).unwrap();
    let mut stage = Stage::new();
    stage.app(&[("a", "1"), ("bin/b", "#!/bin/sh\n")]);
    stage.buildpack("good", &[("compile", "echo made > $1/made; mkdir $1/dir; ln -s a $1/link"), RELEASE]).chosen();
    staged(stage.run());
    let first = bytes(&stage);
    staged(stage.run());
    assert!(first == bytes(&stage));
}

#[test]
fn scripts_see_the_users_values_as_they_are() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    stage.env.insert("NASTY".into(), crate::support::NASTY.into());
    stage.buildpack("good", &[("compile", "printenv NASTY CF_STACK STAGING_TIMEOUT HOME; cat"), RELEASE]).chosen();
    let run = stage.run();
    let expected = format!("{}\ndebian12\n500\n{}\n", crate::support::NASTY, stage.home().display());
    assert!(run.log.contains(&expected), "{}", run.log);
    staged(run);
}

#[test]
fn buildpacks_come_from_git_and_zip_urls() {
    let mut stage = Stage::new();
    stage.app(&[("a", "1")]);
    let repository = stage.path("repository");
    write_scripts(&repository, &[("supply", "echo from git"), ("finalize", ""), RELEASE]);
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .arg("-C")
            .arg(&repository)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "v1"]);
    write_scripts(&repository, &[("supply", "exit 1")]);
    git(&["commit", "-q", "-a", "-m", "two"]);

    let archive = stage.path("zipped.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
    for (name, text) in [("finalize", "#!/bin/sh\necho from zip\n"), ("release", "#!/bin/sh\necho '---'\n")] {
        zip.start_file(format!("top-1.0/bin/{name}"), zip::write::SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();

    let urls = [format!("file://{}#v1", repository.display()), format!("file://{}", archive.display())];
    for url in &urls {
        stage.candidate(json!({"name": url, "url": url}));
    }
    stage.chosen();
    let run = stage.run();
    assert!(run.log.contains("from git\nfrom zip\n"), "{}", run.log);
    assert!(run.log.contains("Downloaded buildpack `file://"), "{}", run.log);
    assert!(run.log.contains("No start command specified by buildpack or via Procfile."));
    assert_eq!(staged(run).buildpack_key, urls[1]);

    for (url, why) in
        [("ext::sh -c evil", "URL"), ("gopher://x/y", "`gopher` URLs are not supported"), ("file:///gone.git", "git")]
    {
        stage.order["buildpacks"] = json!([{"name": url, "url": url}]);
        let (message, _) = refused(stage.run(), 225, "StagingError");
        assert!(message.contains("cannot be fetched") && message.contains(why), "{message}");
    }
}

#[test]
fn launcher_says_what_is_missing() {
    let stage = Stage::new();
    fs::create_dir_all(stage.home().join("app")).unwrap();
    let launch = |args: &[&str], env: &[(&str, &str)]| {
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_launcher"));
        launcher.arg(stage.home().join("app")).args(args).env_clear().envs(env.iter().copied());
        let output = launcher.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, text) = launch(&["", "worker"], &[]);
    assert_eq!(status, 1);
    assert!(text.contains("no start command specified or detected in droplet for process type `worker`"), "{text}");
    assert_eq!(launch(&["true", "web"], &[("VCAP_APPLICATION", "junk")]).0, 3);
    assert_eq!(launch(&["exit 7", "web"], &[]).0, 7);
    assert_eq!(launch(&["./nothing-here", "web"], &[]).0, 127);
}
