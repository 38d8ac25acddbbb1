//! Uploads that are hostile, cut, or find no room: a clear error, and nothing is lost.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

use serde_json::{Value, json};
use specs::{Client, Platform, app, unique};
use std::{
    fs,
    io::{Cursor, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use zip::{ZipWriter, write::SimpleFileOptions};

const SOON: Duration = Duration::from_secs(90);
const PIPE: u32 = 0o010_644;
const DEVICE: u32 = 0o020_666;

/// An app of its own and who uploads for it.
struct World {
    platform: &'static Platform,
    cf: Client,
    app: String,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Option<Self> {
        let platform = Platform::shared()?;
        let cf = platform.cf();
        let space = cf.curl(&format!("/v3/spaces?names={}", cf.space()))["resources"][0]["guid"].clone();
        let body = json!({ "name": unique("upload"), "relationships": { "space": { "data": { "guid": space } } } });
        let outcome = cf.ok(&["curl", "-X", "POST", "/v3/apps", "-d", &body.to_string()]);
        let app: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let app = app["guid"].as_str().unwrap_or_else(|| panic!("{app}")).to_owned();
        Some(Self { platform, cf, app, folder: tempfile::tempdir().unwrap() })
    }

    fn new_package(&self) -> String {
        let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": self.app } } } }).to_string();
        let outcome = self.cf.ok(&["curl", "-X", "POST", "/v3/packages", "-d", &body]);
        let package: Value = serde_json::from_str(&outcome.stdout).unwrap();
        package["guid"].as_str().unwrap_or_else(|| panic!("{package}")).to_owned()
    }

    fn state(&self, package: &str) -> String {
        self.cf.curl(&format!("/v3/packages/{package}"))["state"].as_str().unwrap().to_owned()
    }

    fn token(&self) -> String {
        self.cf.ok(&["oauth-token"]).stdout.trim().to_owned()
    }

    /// Uploads an archive to a new package: the package, the status, the error's text.
    fn upload(&self, archive: &[u8]) -> (String, u16, String) {
        let package = self.new_package();
        let path = self.folder.path().join(format!("{package}.zip"));
        fs::write(&path, archive).unwrap();
        let (status, said) = send(self.platform, &self.token(), &package, &path);
        (package, status, said)
    }

    /// Uploads an archive that must be refused in these words.
    #[track_caller]
    fn refused(&self, archive: &[u8], because: &str) {
        let (package, status, said) = self.upload(archive);
        assert_eq!(status, 400, "{because}: {said}");
        assert!(said.contains("app package is invalid") && said.contains(because), "{because}: {said}");
        assert_eq!(self.state(&package), "FAILED");
    }
}

fn send(platform: &Platform, token: &str, package: &str, archive: &Path) -> (u16, String) {
    let url = format!("http://api.{}:{}/v3/packages/{package}/upload", platform.system_domain(), platform.http_port());
    let output = Command::new("curl")
        .args(["-s", "-w", "\n%{http_code}", "--noproxy", "*", "--max-time", "60", "-H", &format!("Authorization: {token}")])
        .args(["-F", &format!("bits=@{}", archive.display()), &url])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    let document: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.parse().unwrap(), document["errors"][0]["detail"].as_str().unwrap_or(body).to_owned())
}

fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default().unix_permissions(mode)
}

fn zip(make: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(vec![]));
    make(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn with_file(name: &str) -> Vec<u8> {
    zip(|zip| {
        zip.start_file(name, options(0o644)).unwrap();
        zip.write_all(b"content").unwrap();
    })
}

/// The archive with another file type for its only entry, as the central directory says it.
fn with_mode(mut archive: Vec<u8>, mode: u32) -> Vec<u8> {
    let at = archive.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    archive[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
    archive
}

#[test]
fn a69_entries_that_lead_out_of_the_app_are_refused_and_the_app_can_be_uploaded_again() {
    let Some(world) = World::new() else { return };
    for name in ["../outside", "inner/../../outside"] {
        world.refused(&with_file(name), "leads out of the app");
    }
    world.refused(&with_file("/etc/cron.d/mine"), "is an absolute name");
    let link = |target: &str| zip(|zip| zip.add_symlink("link", target, options(0o777)).unwrap());
    world.refused(&link("../../etc/shadow"), "link");
    world.refused(&link("/etc/shadow"), "link");
    let (package, status, said) = world.upload(&with_file("index.html"));
    assert_eq!(status, 200, "{said}");
    assert_eq!(world.state(&package), "READY");
}

#[test]
fn a69_devices_and_pipes_are_refused() {
    let Some(world) = World::new() else { return };
    world.refused(&with_mode(with_file("device"), DEVICE), "neither a file");
    world.refused(&with_mode(with_file("pipe"), PIPE), "neither a file");
}

#[test]
fn a71_a_bomb_is_refused_before_it_fills_anything() {
    let Some(world) = World::new() else { return };
    let bomb = zip(|zip| {
        zip.start_file("zeros", options(0o644)).unwrap();
        let block = vec![0_u8; 1 << 20];
        for _ in 0..256 {
            zip.write_all(&block).unwrap();
        }
    });
    assert!(bomb.len() < 1 << 20, "the bomb is to be small: {}", bomb.len());
    world.refused(&bomb, "unpacks to more than");
}

#[test]
fn what_is_no_archive_is_refused() {
    let Some(world) = World::new() else { return };
    world.refused(b"this is not a zip file", "zip");
    let mut cut = with_file("index.html");
    cut.truncate(cut.len() - 10);
    world.refused(&cut, "zip");
}

#[test]
fn an_upload_cut_in_the_middle_leaves_the_package_ready_for_the_next_try() {
    let Some(world) = World::new() else { return };
    let package = world.new_package();
    let host = format!("api.{}", world.platform.system_domain());
    let archive = with_file("index.html");
    let head =
        "--line\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"app.zip\"\r\nContent-Type: application/zip\r\n\r\n";
    let mut stream = TcpStream::connect(("127.0.0.1", world.platform.http_port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(
        stream,
        "POST /v3/packages/{package}/upload HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\nContent-Type: multipart/form-data; boundary=line\r\nContent-Length: 5000000\r\n\r\n{head}",
        world.token()
    )
    .unwrap();
    stream.write_all(&archive).unwrap();
    stream.write_all(&vec![7; 1_000_000]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    drop(stream);
    specs::wait_for("the package to take bits again", SOON, || (world.state(&package) == "AWAITING_UPLOAD").then_some(()));
    let path = world.folder.path().join("app.zip");
    fs::write(&path, archive).unwrap();
    let (status, said) = send(world.platform, &world.token(), &package, &path);
    assert_eq!((status, world.state(&package).as_str()), (200, "READY"), "{said}");
    let left = Command::new("find").arg(world.platform.state()).args(["-name", "*#*", "-type", "f"]).output().unwrap();
    assert!(left.stdout.is_empty(), "parts of the cut upload stay: {}", String::from_utf8_lossy(&left.stdout));
}

/// A small file system laid over a folder.
struct Small(PathBuf);

impl Small {
    fn over(folder: &Path, size: &str) -> Self {
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder).unwrap());
        let options = format!("size={size},mode=0700,uid={owner},gid={owner}");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &folder.display().to_string()]);
        let small = Self(folder.to_owned());
        for inner in ["kept", "under-way"] {
            fs::create_dir(folder.join(inner)).unwrap();
            std::os::unix::fs::chown(folder.join(inner), Some(owner), Some(owner)).unwrap();
        }
        small
    }
    fn grow(&self, size: &str) {
        run("mount", &["-o", &format!("remount,size={size}"), &self.0.display().to_string()]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &["--lazy", &self.0.display().to_string()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn c24_a_full_blob_store_is_told_and_passes_and_running_apps_do_not_notice() {
    let Some(platform) = Platform::own("") else { return };
    let cf = platform.cf();
    cf.ok_in(&app("static"), &["push", "before", "-m", "64M"]);
    let small = Small::over(&platform.state().join("cloud_controller/blobs"), "1M");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Staticfile"), "").unwrap();
    fs::write(folder.path().join("index.html"), "after").unwrap();
    let mut noise = vec![0; 4_000_000];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    fs::write(folder.path().join("noise"), noise).unwrap();
    let push = ["push", "after", "-m", "64M"];
    let outcome = cf.run_in(folder.path(), &push);
    assert_ne!(outcome.status, 0);
    assert!(outcome.all().contains("no space left to store the upload"), "{}\n{}", outcome.all(), platform.logs());
    assert_eq!(platform.get("before", "/").status, 200, "the app that ran before still serves");
    small.grow("64M");
    cf.ok_in(folder.path(), &push);
    assert_eq!(platform.wait_for_status("after", "/", 200, SOON).body, "after");
}
