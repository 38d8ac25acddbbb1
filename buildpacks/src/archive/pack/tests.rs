use super::*;
use std::{
    collections::BTreeMap,
    os::unix::fs::symlink,
    time::{Duration, SystemTime},
};

const ALL: u64 = u64::MAX;

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("app/sub")).unwrap();
    fs::create_dir_all(dir.join("tmp")).unwrap();
    fs::write(dir.join("app/sub/b"), "second").unwrap();
    fs::write(dir.join("app/a"), "first").unwrap();
    fs::set_permissions(dir.join("app/a"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("sub/b", dir.join("app/link")).unwrap();
    let long = "x".repeat(180);
    fs::create_dir(dir.join("app").join(&long)).unwrap();
    fs::write(dir.join("app").join(&long).join(&long), "long").unwrap();
}

struct Seen {
    mode: u32,
    time: u64,
    content: String,
}

fn read(archive: &Path) -> BTreeMap<String, Seen> {
    let mut tar = tar::Archive::new(GzDecoder::new(File::open(archive).unwrap()));
    let mut seen = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().uid().unwrap(), VCAP);
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if let Some(target) = entry.link_name().unwrap() {
            content = format!("-> {}", target.display());
        }
        let header = entry.header();
        let one = Seen { mode: header.mode().unwrap(), time: header.mtime().unwrap(), content };
        seen.insert(entry.path().unwrap().display().to_string(), one);
    }
    seen
}

#[test]
fn same_tree_gives_the_same_bytes_wherever_it_lies() {
    let names = ["app", "deps", "tmp"];
    let archives: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let dir = tempfile::tempdir().unwrap();
            tree(dir.path());
            let to = dir.path().join("out.tgz");
            let packed = pack(dir.path(), &names, &to, Times::Stable, ALL).unwrap();
            let bytes = fs::read(to).unwrap();
            assert_eq!(packed.bytes, bytes.len() as u64);
            bytes
        })
        .collect();
    assert!(archives[0] == archives[1]);
}

#[test]
fn everything_is_in_it_and_set_user_id_is_not() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let to = dir.path().join("out.tgz");
    pack(dir.path(), &["app", "tmp"], &to, Times::Stable, ALL).unwrap();
    let seen = read(&to);
    assert_eq!(seen["app/a"].mode, 0o755);
    assert_eq!(seen["app/sub/b"].content, "second");
    assert_eq!(seen["app/link"].content, "-> sub/b");
    assert!(seen.contains_key("tmp") || seen.contains_key("tmp/"));
    let long = "x".repeat(180);
    assert_eq!(seen[&format!("app/{long}/{long}")].content, "long");
}

#[test]
fn new_files_get_times_from_their_content_and_old_ones_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for (name, content, time) in [
        ("one", "aaaa", at(1_700_000_000) + Duration::from_nanos(7)),
        ("two", "bbbb", at(1_700_000_000) + Duration::from_nanos(7)),
        ("zip", "aaaa", at(1_700_000_000)),
        ("dos", "aaaa", at(315_532_800)),
    ] {
        fs::create_dir_all(dir.path().join("app")).unwrap();
        fs::write(dir.path().join("app").join(name), content).unwrap();
        File::options().write(true).open(dir.path().join("app").join(name)).unwrap().set_modified(time).unwrap();
    }
    let to = dir.path().join("out.tgz");
    pack(dir.path(), &["app"], &to, Times::Stable, ALL).unwrap();
    let seen = read(&to);
    assert_ne!(seen["app/one"].time, seen["app/two"].time);
    assert_eq!(seen["app/one"].time, seen["app/dos"].time);
    assert_eq!(seen["app/zip"].time, 1_700_000_000);
}

#[test]
fn limit_and_special_files() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let to = dir.path().join("out.tgz");
    let error = pack(dir.path(), &["app"], &to, Times::Kept, 100).unwrap_err();
    assert_eq!(error.to_string(), "it is larger than the limit of 100B");
    nix::unistd::mkfifo(&dir.path().join("app/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(pack(dir.path(), &["app"], &to, Times::Kept, ALL).unwrap().left_out, 1);
}

#[test]
fn cache_comes_back_and_cannot_leave_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let (archive, back) = (dir.path().join("out.tgz"), dir.path().join("back"));
    pack(dir.path(), &["app"], &archive, Times::Kept, ALL).unwrap();
    fs::create_dir(&back).unwrap();
    unpack_cache(&archive, &back).unwrap();
    assert_eq!(fs::read_to_string(back.join("app/link")).unwrap(), "second");

    let mut tar = tar::Builder::new(GzBuilder::new().write(File::create(&archive).unwrap(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "up", dir.path()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    tar.append_data(&mut header, "up/evil", &b"x"[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.as_mut_bytes()[..7].copy_from_slice(b"../evil");
    header.set_cksum();
    tar.append(&header, &b"x"[..]).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let again = dir.path().join("again");
    fs::create_dir(&again).unwrap();
    let _ = unpack_cache(&archive, &again);
    assert!(!dir.path().join("evil").exists());
    fs::write(&archive, "no archive").unwrap();
    assert!(unpack_cache(&archive, &again).is_err());
}
