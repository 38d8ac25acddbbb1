//! The files that a server starts from: configuration, users, and the data of a restore.

use crate::{
    acl,
    plans::InForce,
    record::{Folder, Record},
};
use engines::{Error, User, files};
use foundation::config::TlsSection;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{fs, io, net::Ipv4Addr, path::Path};

/// What all servers have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Where they listen.
    pub address: Ipv4Addr,
    /// What they show.
    pub tls: TlsSection,
    /// Whom they run as.
    pub user: User,
}

/// Writes what the server starts from. It may run already: then it does not look at these files any more.
pub fn prepare(folder: &Folder, record: &Record, force: &InForce, common: &Common) -> Result<(), Error> {
    files::write(&folder.configuration(), configuration(folder, record, force, common).as_bytes(), common.user)?;
    write_users(folder, record, common.user)?;
    if !record.plan.keeps_data() && !folder.restored().exists() {
        // Left of a backup: old data must not come back.
        remove_file(&folder.snapshot())?;
    }
    Ok(())
}

/// Keeps the users as the record has them; a running server is told apart.
pub fn write_users(folder: &Folder, record: &Record, user: User) -> Result<(), Error> {
    files::write(&folder.users(), acl::file(record.admin_password.expose(), &record.users).as_bytes(), user)
}

fn configuration(folder: &Folder, record: &Record, force: &InForce, common: &Common) -> String {
    let quoted = |path: &Path| format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""));
    let append_only = if force.keeps_data { "yes" } else { "no" };
    [
        "# Made at every start; changes here are lost.".to_owned(),
        "port 0".to_owned(),
        format!("tls-port {}", record.port),
        format!("bind {}", common.address),
        "protected-mode no".to_owned(),
        format!("unixsocket {}", quoted(&folder.socket())),
        "unixsocketperm 700".to_owned(),
        format!("tls-cert-file {}", quoted(&common.tls.certificate)),
        format!("tls-key-file {}", quoted(&common.tls.key)),
        format!("tls-ca-cert-file {}", quoted(&common.tls.ca)),
        "tls-auth-clients no".to_owned(),
        "tls-protocols \"TLSv1.2 TLSv1.3\"".to_owned(),
        format!("aclfile {}", quoted(&folder.users())),
        format!("dir {}", quoted(&folder.data())),
        "dbfilename dump.rdb".to_owned(),
        "save \"\"".to_owned(),
        format!("appendonly {append_only}"),
        "appendfsync everysec".to_owned(),
        format!("maxmemory {}mb", force.memory_mb),
        format!("maxmemory-policy {}", force.eviction),
        // Output and query buffers of the clients count apart from the data.
        "maxmemory-clients 25%".to_owned(),
        // One more for the broker: at the limit it could not unbind.
        format!("maxclients {}", force.connections + 1),
        "tcp-keepalive 60".to_owned(),
        "timeout 0".to_owned(),
        "databases 16".to_owned(),
        "enable-debug-command no".to_owned(),
        "enable-module-command no".to_owned(),
        "enable-protected-configs no".to_owned(),
        "daemonize no".to_owned(),
        "supervised no".to_owned(),
        "loglevel notice".to_owned(),
        "always-show-logo no".to_owned(),
        "set-proc-title no".to_owned(),
        "crash-log-enabled no\n".to_owned(),
    ]
    .join("\n")
}

/// Replaces the data by a snapshot: the server finds the old data or the new, never a mixture. It must not run.
pub fn install(folder: &Folder, record: &Record, snapshot: &Path, user: User) -> Result<(), Error> {
    let fresh = folder.fresh_data();
    files::remove_folder(&fresh)?;
    files::folder(&fresh, user)?;
    if record.plan.keeps_data() {
        // An append-only file may begin with a snapshot; with it in place the server needs no second step.
        let parts = fresh.join("appendonlydir");
        files::folder(&parts, user)?;
        copy(snapshot, &parts.join("appendonly.aof.1.base.rdb"), user)?;
        files::write(&parts.join("appendonly.aof.1.incr.aof"), b"", user)?;
        let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
        files::write(&parts.join("appendonly.aof.manifest"), manifest.as_bytes(), user)?;
    } else {
        copy(snapshot, &fresh.join("dump.rdb"), user)?;
        files::write(&fresh.join("restored"), b"", user)?;
    }
    if !folder.data().exists() {
        return files::rename(&fresh, &folder.data());
    }
    let exchanged = renameat_with(CWD, &fresh, CWD, folder.data(), RenameFlags::EXCHANGE);
    exchanged.map_err(|e| Error::File("exchange", folder.data(), e.into()))?;
    files::remove_folder(&fresh)
}

/// After a start: what was restored is loaded, and must not be loaded again.
pub fn settle(folder: &Folder) -> Result<(), Error> {
    if folder.restored().exists() {
        remove_file(&folder.snapshot())?;
        remove_file(&folder.restored())?;
    }
    Ok(())
}

/// Copies a snapshot so that it is there as a whole or not at all.
pub fn copy(from: &Path, to: &Path, user: User) -> Result<u64, Error> {
    let fresh = to.with_added_extension("copying");
    let fault = |e: io::Error| Error::File("copy", from.to_owned(), e);
    let mut options = fs::OpenOptions::new();
    let mut source = fs::File::open(from).map_err(fault)?;
    // Made empty with the right owner and mode first.
    files::write(&fresh, b"", user)?;
    let mut target = options.write(true).open(&fresh).map_err(fault)?;
    let size = io::copy(&mut source, &mut target).map_err(fault)?;
    target.sync_all().map_err(fault)?;
    files::rename(&fresh, to)?;
    Ok(size)
}

/// Removes a file that may not be there.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::File("remove", path.to_owned(), e)),
        _ => Ok(()),
    }
}
