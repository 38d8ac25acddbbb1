//! The platform's own names in `/etc/hosts`, for clients that do not resolve `*.localhost` by themselves.
//!
//! Lines of one node stand between two marks with its name. Edits are locked, so that several platforms may share a machine.

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    net::{IpAddr, Ipv4Addr, ToSocketAddrs},
    os::unix::fs::MetadataExt,
};

const HOSTS: &str = "/etc/hosts";

/// True if a name of the domain leads to this machine already.
pub(crate) fn resolves(name: &str, to: Ipv4Addr) -> bool {
    (name, 0).to_socket_addrs().is_ok_and(|mut found| found.any(|address| address.ip() == IpAddr::V4(to)))
}

/// Adds the names of a node, or replaces them.
pub(crate) fn add(node: &str, address: Ipv4Addr, names: &[String]) -> anyhow::Result<()> {
    let block = format!("{}{address} {}\n{}", begin(node), names.join(" "), end(node));
    edit(node, &block)
}

/// Takes the names of a node out.
pub(crate) fn remove(node: &str) -> anyhow::Result<()> {
    edit(node, "")
}

fn begin(node: &str) -> String {
    format!("# cupola begin {node}\n")
}
fn end(node: &str) -> String {
    format!("# cupola end {node}\n")
}

fn edit(node: &str, block: &str) -> anyhow::Result<()> {
    let mut file = locked()?;
    let mut old = String::new();
    file.read_to_string(&mut old).with_context(|| format!("cannot read {HOSTS}"))?;
    let new = replaced(&old, node, block);
    if new != old {
        // Written in place: in containers `/etc/hosts` is often a mount that cannot be renamed over.
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(new.as_bytes()));
        written.and_then(|()| file.sync_all()).with_context(|| format!("cannot write {HOSTS}"))?;
    }
    Ok(())
}

/// The file itself is the lock, so that none stays behind; one that was replaced meanwhile is opened anew.
fn locked() -> anyhow::Result<Flock<File>> {
    loop {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(HOSTS);
        let file = open.with_context(|| format!("cannot open {HOSTS}"))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).with_context(|| format!("cannot lock {HOSTS}"))?;
        if std::fs::metadata(HOSTS).is_ok_and(|now| lock.metadata().is_ok_and(|ours| ours.ino() == now.ino())) {
            return Ok(lock);
        }
    }
}

fn replaced(old: &str, node: &str, block: &str) -> String {
    let (begin, end) = (begin(node), end(node));
    let mut rest = old.to_owned();
    while let (Some(from), Some(to)) = (rest.find(&begin), rest.find(&end)) {
        if to < from {
            break;
        }
        rest.replace_range(from..to + end.len(), "");
    }
    if !block.is_empty() && !rest.is_empty() && !rest.ends_with('\n') {
        rest.push('\n');
    }
    rest + block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_stay_as_they_are() {
        let before = "127.0.0.1 localhost\n# cupola begin other\n127.0.0.1 api.other\n# cupola end other\n";
        let block = format!("{}127.0.0.1 api.cf.localhost\n{}", begin("here"), end("here"));
        let with = replaced(before, "here", &block);
        assert!(with.starts_with(before));
        assert_eq!(replaced(&with, "here", &block), with, "adding again changes nothing");
        assert_eq!(replaced(&with, "here", ""), before, "taking out restores the file");
    }
}
