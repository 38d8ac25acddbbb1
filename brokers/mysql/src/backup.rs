//! Backup, restore and clone: MariaDB's own tools, with a tenant's rights.
//!
//! A dump is text that holds what a tenant made, so it is read by an account that can only read this one database, and run by
//! an account that can only write this one database, with a client that runs no commands of the shell. Views, triggers and
//! routines name the account in whose name they run; that is left out on the way in, so that they run in the owner's name.

use crate::cluster::{MariaDbCluster, Tool};
use engines::{
    Error, Input, Program,
    backups::{Note, Writer},
};
use sql_broker::{Cluster, Database};
use std::{
    fs::File,
    io::{BufRead, BufReader, Seek},
};
use tokio::sync::mpsc;
use types::Timestamp;

/// Writes the database into the store.
pub(crate) async fn dump(
    cluster: &MariaDbCluster,
    database: &Database,
    mut writer: Writer,
    now: Timestamp,
) -> Result<Note, Error> {
    let made_by = format!("mysql {}", cluster.version().await?);
    let tool = cluster.make_reader(&database.name).await?;
    let program = program(cluster, "mariadb-dump", &tool)
        .args([
            "--single-transaction",
            "--quick",
            "--routines",
            "--triggers",
            "--hex-blob",
            "--no-tablespaces",
            "--skip-comments",
        ])
        .args(["--default-character-set=utf8mb4", "--max-allowed-packet=64M"])
        .arg(&database.name);
    let dumped = program.stream_to(Input::Empty, |piece| writer.write(piece)).await;
    cluster.drop_reader(&tool).await?;
    dumped?;
    let finished = tokio::task::spawn_blocking(move || writer.finish(&made_by, now));
    finished.await.map_err(Error::server)?
}

/// Puts the content of a dump in the place of what the database has. A dump that cannot be loaded changes nothing: it is
/// loaded into a scratch database first.
pub(crate) async fn restore(cluster: &MariaDbCluster, database: &Database, mut dump: File) -> Result<(), Error> {
    let again = || -> Result<File, Error> { dump.try_clone().map_err(Error::server) };
    let (scratch, tool) = cluster.make_scratch(&database.collation).await?;
    let tried = load(cluster, &scratch, &tool, again()?).await;
    cluster.drop_scratch(&scratch, &tool).await?;
    tried?;
    dump.rewind().map_err(Error::server)?;
    let tool = cluster.empty(database).await?;
    let loaded = load(cluster, &database.name, &tool, dump).await;
    cluster.open(database).await?;
    loaded
}

/// Fills a new, empty database that nobody else uses.
pub(crate) async fn fill(cluster: &MariaDbCluster, database: &Database, dump: File) -> Result<(), Error> {
    let tool = cluster.empty(database).await?;
    let loaded = load(cluster, &database.name, &tool, dump).await;
    cluster.open(database).await?;
    loaded
}

async fn load(cluster: &MariaDbCluster, database: &str, tool: &Tool, dump: File) -> Result<(), Error> {
    let (sender, pieces) = mpsc::channel(8);
    let reading = tokio::task::spawn_blocking(move || read(dump, &sender));
    let program = program(cluster, "mariadb", tool)
        .args(["--sandbox", "--batch", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=64M"])
        .args(["--init-command=SET SESSION max_statement_time = 0"])
        .arg(database);
    program.output(Input::Pieces(pieces)).await?;
    reading.await.map_err(Error::server)?
}

/// Hands the dump on, without the names of definers.
fn read(dump: File, sender: &mpsc::Sender<Vec<u8>>) -> Result<(), Error> {
    let mut dump = BufReader::with_capacity(256 << 10, dump);
    let mut piece = vec![];
    loop {
        let begin = piece.len();
        let length = dump.read_until(b'\n', &mut piece).map_err(Error::server)?;
        if let Some(line) = without_definer(&piece[begin..]) {
            piece.truncate(begin);
            piece.extend_from_slice(&line);
        }
        if length == 0 || piece.len() > 128 << 10 {
            // Nobody listens: the client ended, and says why
            if sender.blocking_send(std::mem::take(&mut piece)).is_err() || length == 0 {
                return Ok(());
            }
        }
    }
}

/// A line that creates a view, trigger or routine, without ``DEFINER=`name`@`host` ``; `None` for every other line.
fn without_definer(line: &[u8]) -> Option<Vec<u8>> {
    let starts = [b"CREATE DEFINER=".as_slice(), b"/*!50013 DEFINER=", b"/*!50003 CREATE*/ /*!50017 DEFINER="];
    let start = starts.iter().find(|start| line.starts_with(start))?;
    let at = start.len() - b"DEFINER=".len();
    let mut rest = &line[start.len()..];
    for separator in [b"@".as_slice(), b""] {
        // A quoted name; our own names hold no quotes
        let end = rest.strip_prefix(b"`")?.iter().position(|byte| *byte == b'`')? + 2;
        rest = rest[end..].strip_prefix(separator)?;
    }
    Some([&line[..at], rest].concat())
}

fn program(cluster: &MariaDbCluster, name: &str, tool: &Tool) -> Program {
    let settings = &cluster.settings;
    let program = match &settings.programs {
        Some(folder) => Program::new(folder.join(name), settings.user),
        None => Program::new(name, settings.user),
    };
    cluster.way.log_in(program.arg("--no-defaults"), &tool.login, &tool.password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definers_are_left_out_where_something_is_created_and_nowhere_else() {
        let out = |line: &str| without_definer(line.as_bytes()).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(out("CREATE DEFINER=`u1`@`%` PROCEDURE `p`()\n").unwrap(), "CREATE  PROCEDURE `p`()\n");
        assert_eq!(out("/*!50013 DEFINER=`u1`@`%` SQL SECURITY DEFINER */\n").unwrap(), "/*!50013  SQL SECURITY DEFINER */\n");
        let trigger = "/*!50003 CREATE*/ /*!50017 DEFINER=`u1`@`%`*/ /*!50003 TRIGGER t\n";
        assert_eq!(out(trigger).unwrap(), "/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER t\n");
        assert_eq!(out("INSERT INTO `t` VALUES ('CREATE DEFINER=`u1`@`%` ')\n"), None);
        assert_eq!(out("CREATE DEFINER=broken\n"), None);
    }
}
