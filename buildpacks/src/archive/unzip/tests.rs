use super::*;
use proptest::prelude::*;
use std::{collections::BTreeMap, io::Write, os::unix::fs::PermissionsExt};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, files: 100 };

struct Made {
    dir: TempDir,
}

impl Made {
    fn new(fill: impl FnOnce(&mut ZipWriter<File>)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut zip = ZipWriter::new(File::create(dir.path().join("a.zip")).unwrap());
        fill(&mut zip);
        zip.finish().unwrap();
        Self { dir }
    }

    /// Replaces bytes of the archive wherever they stand.
    fn patched(self, from: &[u8], to: &[u8]) -> Self {
        assert_eq!(from.len(), to.len());
        let path = self.dir.path().join("a.zip");
        let mut bytes = fs::read(&path).unwrap();
        let mut found = 0;
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from) {
                bytes[at..at + from.len()].copy_from_slice(to);
                found += 1;
            }
        }
        assert!(found > 0, "nothing to patch");
        fs::write(path, bytes).unwrap();
        self
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn unzip(&self, bounds: Bounds) -> Result<Unzipped, Error> {
        unzip(&self.dir.path().join("a.zip"), &self.out(), bounds)
    }

    /// The refusal; what lies beside the target must be untouched.
    fn refused(&self) -> String {
        let text = self.unzip(BOUNDS).unwrap_err().to_string();
        let names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == "a.zip" || name == "out"), "{names:?}");
        text
    }
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
}

fn file(zip: &mut ZipWriter<File>, name: &str, content: &[u8]) {
    zip.start_file(name, options()).unwrap();
    zip.write_all(content).unwrap();
}

#[test]
fn files_folders_links_modes_and_times_come_out() {
    let time = zip::DateTime::from_date_and_time(2024, 2, 29, 12, 30, 8).unwrap();
    let made = Made::new(|zip| {
        zip.add_directory("empty/", options()).unwrap();
        zip.start_file("bin/run", options().unix_permissions(0o755).last_modified_time(time)).unwrap();
        zip.write_all(b"#!/bin/sh\n").unwrap();
        zip.start_file("secret", options().unix_permissions(0o400)).unwrap();
        zip.add_symlink("bin/link", "run", options()).unwrap();
        zip.add_symlink("bin/up", "../bin/./run", options()).unwrap();
        zip.add_symlink("dangling", "nowhere/at/all", options()).unwrap();
        zip.add_symlink("circle", "circle", options()).unwrap();
        file(zip, "grüße.txt", b"hello");
    });
    let done = made.unzip(BOUNDS).unwrap();
    assert_eq!(done, Unzipped { files: 8, bytes: 15 });
    let out = made.out();
    let meta = |name: &str| fs::metadata(out.join(name)).unwrap();
    assert!(meta("empty").is_dir());
    assert_eq!(meta("bin/run").permissions().mode() & 0o7777, 0o755);
    assert_eq!(meta("secret").permissions().mode() & 0o7777, 0o600);
    assert_eq!(meta("bin/run").modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_209_808));
    assert_eq!(fs::read_to_string(out.join("bin/up")).unwrap(), "#!/bin/sh\n");
    assert_eq!(fs::read_link(out.join("dangling")).unwrap(), Path::new("nowhere/at/all"));
    assert_eq!(fs::read_to_string(out.join("grüße.txt")).unwrap(), "hello");
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for (name, why) in [
        ("../evil", "entry `../evil` has `..` in its name"),
        ("a/../../evil", "entry `a/../../evil` has `..` in its name"),
        ("/etc/passwd", "entry `/etc/passwd` has an absolute name"),
        ("a\nb/../x", "entry `a\\nb/../x` has `..` in its name"),
    ] {
        // The writer cleans names up, so they are made dirty afterwards.
        let clean: String = "y".repeat(name.len());
        let made = Made::new(|zip| file(zip, &clean, b"x")).patched(clean.as_bytes(), name.as_bytes());
        assert_eq!(made.refused(), why);
    }
}

#[test]
fn links_that_leave_the_folder_are_refused() {
    let cases: [&[(&str, &str)]; 7] = [
        &[("link", "/etc/passwd")],
        &[("link", "../out.txt")],
        &[("deep/er/link", "../../../x")],
        &[("link", "a/b/../../../x")],
        // Each looks harmless alone: `l1` is the root, so `l1/..` lies above it, whatever its name suggests.
        &[("d/e/f/l1", "../../.."), ("d/e/f/l2", "l1/../..")],
        // The harmless one comes first and is bent by the second.
        &[("a", "b/../x"), ("b", "c"), ("c", ".")],
        &[("a", ""), ("b", "x")],
    ];
    for links in cases {
        let made = Made::new(|zip| {
            zip.add_directory("d/e/f/", options()).unwrap();
            for (name, target) in links {
                zip.add_symlink(*name, *target, options()).unwrap();
            }
        });
        let text = made.refused();
        assert!(text.contains("is a link"), "{links:?}: {text}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let made = Made::new(|zip| {
        zip.add_symlink("dir", "/tmp", options()).unwrap();
        file(zip, "dir/evil", b"x");
    });
    assert!(made.refused().contains("is both"));
    let made = Made::new(|zip| {
        zip.add_symlink("dir", "..", options()).unwrap();
        zip.add_symlink("dir/evil", "x", options()).unwrap();
    });
    assert!(made.refused().contains("link"));
}

#[test]
fn devices_and_pipes_are_refused() {
    for kind in [0o060_000_u32, 0o020_000, 0o010_000, 0o140_000] {
        let made = Made::new(|zip| zip.start_file("dev", options().unix_permissions(0o644)).unwrap());
        let attributes = |mode: u32| (mode << 16).to_le_bytes();
        let made = made.patched(&attributes(TYPE_FILE | 0o644), &attributes(kind | 0o644));
        assert_eq!(made.refused(), "entry `dev` is neither a file, nor a folder, nor a link");
    }
}

#[test]
fn set_user_id_is_dropped() {
    let made = Made::new(|zip| zip.start_file("su", options().unix_permissions(0o755)).unwrap());
    let attributes = |mode: u32| (mode << 16).to_le_bytes();
    let made = made.patched(&attributes(TYPE_FILE | 0o755), &attributes(TYPE_FILE | 0o6755));
    made.unzip(BOUNDS).unwrap();
    assert_eq!(fs::metadata(made.out().join("su")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn bombs_are_stopped_by_what_comes_out() {
    let made = Made::new(|zip| file(zip, "zeros", &vec![0; 4 << 20]));
    assert_eq!(made.unzip(BOUNDS).unwrap_err().to_string(), "it holds more than 1.0M");
    assert!(fs::metadata(made.out().join("zeros")).unwrap().len() <= BOUNDS.bytes + 1);

    let halves = Made::new(|zip| ["a", "b"].iter().for_each(|name| file(zip, name, &vec![0; 600 << 10])));
    assert!(matches!(halves.unzip(BOUNDS), Err(Error::TooMuch(_))));

    let many = Made::new(|zip| (0..101).for_each(|n| file(zip, &n.to_string(), b"")));
    assert_eq!(many.unzip(BOUNDS).unwrap_err().to_string(), "it holds more than 100 files");
}

#[test]
fn promised_sizes_are_not_believed() {
    let size = 4_u32 << 20;
    let made = Made::new(|zip| file(zip, "zeros", &vec![0; size as usize])).patched(&size.to_le_bytes(), &10_u32.to_le_bytes());
    assert!(made.unzip(BOUNDS).is_err());
}

#[test]
fn doubles_are_refused() {
    let made = Made::new(|zip| {
        file(zip, "name-a", b"1");
        file(zip, "name-b", b"2");
    });
    assert_eq!(made.patched(b"name-b", b"name-a").refused(), "an entry of it appears twice");
    let made = Made::new(|zip| {
        file(zip, "name-a", b"1");
        file(zip, "./ame-a", b"2");
    });
    assert_eq!(made.patched(b"./ame-a", b"name-a/").refused(), "entry `name-a/` is both a file and a folder");
    let made = Made::new(|zip| {
        file(zip, "a", b"1");
        file(zip, "a/b", b"2");
    });
    assert_eq!(made.refused(), "entry `a/b` is both a file and a folder");
}

#[test]
fn damaged_archives_are_named_as_such() {
    let made = Made::new(|zip| file(zip, "text", b"some text that is long enough to be found"));
    let path = made.dir.path().join("a.zip");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(made.refused(), "it is not a readable zip archive");

    fs::write(&path, "not a zip").unwrap();
    assert_eq!(made.refused(), "it is not a readable zip archive");

    let stored = Made::new(|zip| {
        zip.start_file("text", options().compression_method(zip::CompressionMethod::Stored)).unwrap();
        zip.write_all(b"some text that is damaged").unwrap();
    });
    assert!(stored.patched(b"damaged", b"DAMAGED").refused().starts_with("entry `text` is damaged"));
}

#[test]
fn target_must_be_empty() {
    let made = Made::new(|zip| file(zip, "a", b"1"));
    fs::create_dir(made.out()).unwrap();
    fs::write(made.out().join("old"), "x").unwrap();
    assert!(matches!(made.unzip(BOUNDS), Err(Error::File(..))));
}

/// Entries in the spirit of an attacker: few names, so that they meet.
fn entries() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let part = prop_oneof![Just("a"), Just("b"), Just("c"), Just(".."), Just(".")];
    let path = proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop_oneof![path.clone().prop_map(Some), Just(Some("/etc".to_owned())), Just(None), Just(None)];
    proptest::collection::vec((path, target), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_ever_appears_outside(entries in entries()) {
        let mut unique = BTreeMap::new();
        for (name, target) in entries {
            unique.entry(name).or_insert(target);
        }
        let made = Made::new(|zip| {
            for (name, target) in &unique {
                // Names that the writer itself refuses are no use here.
                let _ = match target {
                    Some(target) => zip.add_symlink(name.as_str(), target.as_str(), options()),
                    None => zip.start_file(name.as_str(), options()),
                };
            }
        });
        let unzipped = made.unzip(BOUNDS);
        let names: Vec<_> = fs::read_dir(made.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert!(names.len() <= 2, "{names:?}");
        if unzipped.is_ok() {
            let root = made.out().canonicalize().unwrap();
            for entry in walkdir::WalkDir::new(&root) {
                let entry = entry.unwrap();
                if entry.path_is_symlink() && let Ok(end) = entry.path().canonicalize() {
                    prop_assert!(end.starts_with(&root), "{} leads to {}", entry.path().display(), end.display());
                }
            }
        }
    }

    #[test]
    fn noise_is_never_more_than_an_error(noise in proptest::collection::vec(any::<(usize, u8)>(), 1..20)) {
        let made = Made::new(|zip| {
            file(zip, "a/b", b"some content");
            zip.add_symlink("a/l", "b", options()).unwrap();
            file(zip, "c", &[7; 3000]);
        });
        let path = made.dir.path().join("a.zip");
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in noise {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        fs::write(&path, bytes).unwrap();
        let _ = made.unzip(BOUNDS);
        let outside = fs::read_dir(made.dir.path()).unwrap().count();
        prop_assert!(outside <= 2);
    }
}
