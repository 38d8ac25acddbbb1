//! Backup, restore and clone: PostgreSQL's own tools, with a tenant's rights.
//!
//! What a tenant put into its database (functions in indexes, checks, defaults) runs while tools read and fill it. So they log
//! in as a member of the tenant's owner role, made for this one run, and never as the broker.

use crate::{
    cluster::{PostgresCluster, Tool},
    engine,
};
use engines::{
    Error, Input, Program,
    backups::{Note, Writer},
};
use sql_broker::Database;
use std::fs::File;
use types::Timestamp;

/// Writes the database into the store.
pub(crate) async fn dump(
    cluster: &PostgresCluster,
    database: &Database,
    mut writer: Writer,
    now: Timestamp,
) -> Result<Note, Error> {
    let made_by = format!("postgres {}", engine::version(&cluster.settings, cluster.data.as_deref()).await?);
    let tool = cluster.make_tool(&database.name, &database.name).await?;
    let program = program(cluster, "pg_dump", &tool, &database.name)?
        .args(["--format=custom", "--compress=6", "--no-owner", "--no-acl", "--lock-wait-timeout=60000", "--role"])
        .arg(&database.name);
    let dumped = program.stream_to(Input::Empty, |piece| writer.write(piece)).await;
    cluster.drop_tool(&tool, &database.name).await?;
    dumped?;
    let finished = tokio::task::spawn_blocking(move || writer.finish(&made_by, now));
    finished.await.map_err(Error::server)?
}

/// Puts the content of a dump in the place of what the database has. Either all of it, or nothing changes.
pub(crate) async fn restore(cluster: &PostgresCluster, database: &Database, dump: File) -> Result<(), Error> {
    let successor = cluster.make_successor(database).await?;
    match fill(cluster, database, &successor, dump).await {
        Ok(()) => cluster.swap(database, &successor).await,
        Err(e) => {
            cluster.discard(&successor).await?;
            Err(e)
        }
    }
}

async fn fill(cluster: &PostgresCluster, database: &Database, successor: &str, dump: File) -> Result<(), Error> {
    let tool = cluster.make_tool(successor, &database.name).await?;
    let program = program(cluster, "pg_restore", &tool, successor)?
        .args(["--no-owner", "--no-acl", "--exit-on-error", "--single-transaction", "--role"])
        .arg(&database.name);
    let filled = program.output(Input::File(dump)).await;
    cluster.drop_tool(&tool, &database.name).await?;
    filled.map(|_| ())
}

fn program(cluster: &PostgresCluster, name: &str, tool: &Tool, database: &str) -> Result<Program, Error> {
    let settings = &cluster.settings;
    let program = Program::new(engine::programs(settings, cluster.data.as_deref())?.join(name), settings.user);
    Ok(cluster.way.log_in(program, &tool.login, &tool.password, database))
}
