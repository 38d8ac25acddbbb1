//! Hostile and honest archives. Case numbers are those of the project's list of fault cases.

use super::*;
use std::io::Cursor;
use tempfile::TempDir;

type Made = ZipWriter<Cursor<Vec<u8>>>;

fn zip(make: impl FnOnce(&mut Made)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(vec![]));
    make(&mut writer);
    writer.finish().unwrap().into_inner()
}
fn file(name: &'static str, content: &'static str) -> impl FnOnce(&mut Made) {
    move |zip| {
        zip.start_file(name, options(0o644)).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
}
fn link(zip: &mut Made, name: &str, target: &str) {
    zip.add_symlink(name, target, options(0o777)).unwrap();
}
fn check_bytes(bytes: &[u8]) -> Result<Checked, ArchiveError> {
    check_with(bytes, Limits::default())
}
fn check_with(bytes: &[u8], limits: Limits) -> Result<Checked, ArchiveError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.zip");
    std::fs::write(&path, bytes).unwrap();
    check(&path, limits)
}
fn refusal(bytes: &[u8]) -> String {
    match check_bytes(bytes) {
        Err(ArchiveError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}
/// Changes the external attributes of every entry in the central directory.
fn with_mode(mut bytes: Vec<u8>, mode: u32) -> Vec<u8> {
    let magic = b"PK\x01\x02";
    let places: Vec<_> = bytes.windows(4).enumerate().filter(|(_, w)| w == magic).map(|(at, _)| at).collect();
    for at in places {
        bytes[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
    }
    bytes
}
fn unpacked(bytes: &[u8], matched: &[Matched]) -> Vec<(String, u32, String)> {
    let folder = TempDir::new().unwrap();
    let out = File::options().read(true).write(true).create_new(true).open(folder.path().join("out.zip")).unwrap();
    let packed = pack(Some(&mut check_bytes(bytes).unwrap()), matched, out.try_clone().unwrap(), Limits::default()).unwrap();
    assert_eq!(packed.size, out.metadata().unwrap().len());
    let mut archive = ZipArchive::new(out).unwrap();
    let mut found = vec![];
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        found.push((file.name().unwrap().into_owned(), file.unix_mode().unwrap_or(0), text));
    }
    found
}

#[test]
fn an_honest_archive_keeps_names_modes_links_and_empty_folders() {
    let bytes = zip(|zip| {
        zip.add_directory("logs", options(0o755)).unwrap();
        zip.start_file("./bin/run", options(0o755)).unwrap();
        zip.write_all(b"#!/bin/sh").unwrap();
        link(zip, "bin/go", "run");
        file("empty", "")(zip);
    });
    let found = unpacked(&bytes, &[]);
    let names: Vec<_> = found.iter().map(|(name, mode, text)| (name.as_str(), mode & 0o777, text.as_str())).collect();
    assert_eq!(names, [("logs/", 0o755, ""), ("bin/run", 0o755, "#!/bin/sh"), ("bin/go", 0o777, "run"), ("empty", 0o644, "")]);
    assert_eq!(found[2].1 & TYPE_MASK, TYPE_LINK);
}

#[test]
fn matched_files_are_merged_with_the_upload() {
    let folder = TempDir::new().unwrap();
    let kept = folder.path().join("kept");
    std::fs::write(&kept, "from the pool").unwrap();
    let matched = [Matched { path: "public/big.js".into(), mode: 0o640, file: kept.clone() }];
    let found = unpacked(&zip(file("index.html", "hi")), &matched);
    assert_eq!(found[1], ("public/big.js".into(), TYPE_FILE | 0o640, "from the pool".into()));
    for path in ["../etc/passwd", "/etc/passwd", "index.html", "index.html/x", ""] {
        let matched = [Matched { path: path.into(), mode: 0o644, file: kept.clone() }];
        let out = tempfile::tempfile().unwrap();
        let mut upload = check_bytes(&zip(file("index.html", "hi"))).unwrap();
        assert!(matches!(pack(Some(&mut upload), &matched, out, Limits::default()), Err(ArchiveError::Refused(_))), "{path}");
    }
    assert_eq!(pack(None, &matched, tempfile::tempfile().unwrap(), Limits::default()).unwrap().entries, 1);
}

#[test]
fn big_files_are_offered_to_the_pool_with_both_digests() {
    let content = vec![b'x'; 70_000];
    let bytes = zip(|zip| {
        zip.start_file("big", options(0o644)).unwrap();
        zip.write_all(&content).unwrap();
        file("small", "s")(zip);
    });
    let mut checked = check_bytes(&bytes).unwrap();
    let [one] = checked.poolable.as_slice() else { panic!("{:?}", checked.poolable) };
    assert_eq!((one.size, one.sha1.as_str()), (70_000, hex(&Sha1::digest(&content)).as_str()));
    assert_eq!(one.sha256, hex(&Sha256::digest(&content)));
    let (index, mut out) = (one.index, vec![]);
    checked.unpack(index, &mut out).unwrap();
    assert_eq!(out, content);
}

#[test]
fn a69_names_that_lead_out_are_refused() {
    for name in ["../x", "a/../../x", "/etc/passwd", "..\\x", "\\x", "a/../"] {
        let bytes = zip(|zip| {
            zip.start_file("placeholder-name-of-enough-length", options(0o644)).unwrap();
        });
        // The writer cleans some names itself: put the bytes in place.
        let mut raw = name.as_bytes().to_vec();
        let placeholder = b"placeholder-name-of-enough-length";
        raw.resize(placeholder.len(), b'x');
        let text = refusal(&replace(bytes, placeholder, &raw));
        assert!(text.contains("leads out") || text.contains("absolute"), "{name}: {text}");
    }
}

fn replace(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> = bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn a69_links_out_and_files_through_links_are_refused() {
    for target in ["/etc/passwd", "../x", "a/../../x", "../../proc/1/root"] {
        assert!(refusal(&zip(|zip| link(zip, "l", target))).contains("leads out"), "{target}");
    }
    assert!(refusal(&zip(|zip| link(zip, "d/l", "../../x"))).contains("leads out"));
    assert!(check_bytes(&zip(|zip| link(zip, "d/l", "../x"))).is_ok(), "inside the app");
    let through = zip(|zip| {
        link(zip, "l", "d");
        file("l/x", "through")(zip);
    });
    assert_eq!(refusal(&through), "`l/x` lies below the link `l`");
    let below_file = zip(|zip| {
        file("f", "")(zip);
        file("f/x", "")(zip);
    });
    assert_eq!(refusal(&below_file), "`f/x` lies below the file `f`");
}

#[test]
fn a69_devices_pipes_and_sockets_are_refused() {
    for kind in [0o020_000, 0o060_000, 0o010_000, 0o140_000] {
        let text = refusal(&with_mode(zip(file("dev", "")), kind | 0o666));
        assert_eq!(text, "`dev` is neither a file, nor a folder, nor a link");
    }
}

#[test]
fn a69_set_uid_bits_are_taken_off() {
    let bytes = with_mode(zip(file("su", "x")), TYPE_FILE | 0o6755);
    assert_eq!(unpacked(&bytes, &[])[0].1, TYPE_FILE | 0o755);
}

#[test]
fn a70_an_archive_that_reads_in_two_ways_is_refused() {
    let honest = zip(|zip| {
        file("a", "1")(zip);
        file("b", "2")(zip);
    });
    // Local header says another name than the directory.
    let local = honest.windows(4).position(|w| w == b"PK\x03\x04").unwrap();
    let mut lying = honest.clone();
    lying[local + 30] = b'z';
    assert!(matches!(check_bytes(&lying), Err(ArchiveError::Refused(_))));
    // Two entries of one name.
    let twice = replace(
        zip(|zip| {
            file("same-a", "1")(zip);
            file("same-b", "2")(zip);
        }),
        b"same-b",
        b"same-a",
    );
    assert!(matches!(check_bytes(&twice), Err(ArchiveError::Refused(_))));
    // The same name in two spellings.
    let spelled = replace(
        zip(|zip| {
            file("d/fxx", "1")(zip);
            file("d/f..", "2")(zip);
        }),
        b"d/fxx",
        b"d/./f",
    );
    assert!(check_bytes(&spelled).is_ok(), "`d/f` and `d/f..` are two names");
    // Bytes before the first entry.
    assert!(refusal(&[b"#!/bin/sh\n".as_slice(), &honest].concat()).contains("before its first entry"));
    assert!(matches!(check_bytes(b"not a zip"), Err(ArchiveError::Refused(_))));
    assert!(matches!(check_bytes(&honest[..honest.len() - 10]), Err(ArchiveError::Refused(_))));
}

#[test]
fn a70_a_wrong_checksum_or_size_is_refused() {
    let honest = zip(|zip| {
        zip.start_file("f", SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
        zip.write_all(b"canary-content").unwrap();
    });
    assert!(matches!(check_bytes(&replace(honest, b"canary-content", b"canary-CONTENT")), Err(ArchiveError::Refused(_))));
}

#[test]
fn a71_bombs_are_refused_while_they_are_read() {
    let zeros = zip(|zip| {
        zip.start_file("zeros", options(0o644)).unwrap();
        let block = vec![0; 1 << 20];
        (0..160).for_each(|_| zip.write_all(&block).unwrap());
    });
    assert!(refusal(&zeros).contains("200 times its size"));
    let tight = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    assert!(matches!(check_with(&zeros, tight), Err(ArchiveError::Refused(text)) if text.contains("more than 1 MB")));
    let many = zip(|zip| (0..50).for_each(|n| zip.start_file(format!("f{n}"), options(0o644)).unwrap()));
    let few = Limits { entries: 49, ..Limits::default() };
    assert!(matches!(check_with(&many, few), Err(ArchiveError::Refused(text)) if text.contains("50 entries")));
    assert_eq!(count_headers(many.as_slice()).unwrap(), 50);
    let overlapping = zip(|zip| {
        file("a", "some content that is used twice")(zip);
        zip.shallow_copy_file("a", "b").unwrap();
    });
    assert!(matches!(check_bytes(&overlapping), Err(ArchiveError::Refused(_))));
}

#[test]
fn c24_a_full_disk_is_told_apart_from_a_bad_archive() {
    let folder = TempDir::new().unwrap();
    let kept = folder.path().join("kept");
    std::fs::write(&kept, vec![7; 1 << 20]).unwrap();
    let matched = [Matched { path: "f".into(), mode: 0o644, file: kept }];
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    assert!(matches!(pack(None, &matched, full, Limits::default()), Err(ArchiveError::Full(_))));
}

#[test]
fn a69_a_droplet_with_outer_names_or_devices_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.tgz");
    let make = |name: &str, kind: tar::EntryType| {
        let gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gz);
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        check_droplet(&path, Limits::default())
    };
    assert!(make("app/run", tar::EntryType::Regular).is_ok());
    assert!(make("../run", tar::EntryType::Regular).is_err());
    assert!(make("/run", tar::EntryType::Regular).is_err());
    assert!(make("app/dev", tar::EntryType::Char).is_err());
    std::fs::write(&path, "no archive").unwrap();
    assert!(matches!(check_droplet(&path, Limits::default()), Err(ArchiveError::Refused(_))));
}
