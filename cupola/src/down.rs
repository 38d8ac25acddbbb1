//! `cupola down`: ordered stop, and nothing left behind.

use crate::{
    NodeArgs, block_on, brokers,
    control::{self, Ask},
    hosts, must_be_root,
    node::{Node, PARTS},
    process,
    settings::Settings,
    supervisor::Supervisor,
    up,
};
use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use std::{path::Path, time::Duration};
use tracing::{info, warn};

#[derive(Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Remove the state too: apps, users, droplets, databases. There is no way back
    #[arg(long)]
    purge: bool,
}

pub(crate) fn down(args: DownArgs) -> anyhow::Result<()> {
    must_be_root("`cupola down`")?;
    let state = &args.node.state;
    let Some(settings) = Settings::read(state)? else {
        if state.exists() && args.purge {
            bail!("{} holds no node of Cupola; nothing was removed", state.display());
        }
        println!("There is no node at {}; nothing to stop.", state.display());
        return Ok(());
    };
    println!("Stopping apps and parts...");
    block_on(async {
        tokio::select! {
            stopped = stop(state, &settings) => stopped,
            () = show_what_is_left(&settings) => Ok(()),
        }
    })?;
    hosts::remove(&state.display().to_string())?;
    clear_run_folder(&settings);
    if args.purge {
        remove(state)?;
        println!("Stopped, and removed {}.", state.display());
    } else {
        println!("Stopped. The state stays in {}; the next start brings everything back.", state.display());
    }
    Ok(())
}

/// Says every few seconds what is waited for; never ends by itself.
async fn show_what_is_left(settings: &Settings) {
    let began = std::time::Instant::now();
    let notes = crate::node::notes(settings);
    let mut shown = String::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left: Vec<_> = PARTS.iter().map(|part| part.name).filter(|name| process::runs(&notes, name)).collect();
        // In the order of stopping: the DEA ends once the last instance on this machine has, a broker after its servers.
        let brokers: Vec<_> = left.iter().copied().filter(|name| brokers::OwnBroker::of(name).is_some()).collect();
        let line = match () {
            () if left.contains(&"dea") => "instances of apps".to_owned(),
            () if !brokers.is_empty() => brokers.join(", "),
            () => left.join(", "),
        };
        if began.elapsed() > Duration::from_secs(2) && !line.is_empty() && line != shown {
            println!("{:5.1} s  waiting for {line}", began.elapsed().as_secs_f64());
            shown = line;
        }
    }
}

async fn stop(state: &Path, settings: &Settings) -> anyhow::Result<()> {
    control::ask(&crate::node::control_socket(settings), &Ask::Down).await?;
    // The answer comes when all has stopped; the lock is free a moment later. Where the supervisor was killed, its parts
    // may still run: then they are stopped from here.
    let mut lock = up::lock(state);
    for _ in 0..100 {
        if lock.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        lock = up::lock(state);
    }
    let _held = lock?;
    let node = Node::prepare(state, settings.clone())?;
    let supervisor = Supervisor::new(&node)?;
    stop_everything(&node, &supervisor).await
}

/// Stops what takes work, then the containers, then the rest in reverse order of starting.
pub(crate) async fn stop_everything(node: &Node, supervisor: &Supervisor) -> anyhow::Result<()> {
    supervisor.stop("health_manager").await;
    // Evacuation: the DEA takes routes away and stops its instances in order; TERM then waits for that.
    supervisor.signal("dea", Signal::SIGUSR2);
    for part in ["dea", "gorouter"] {
        supervisor.stop(part).await;
    }
    let warden_runs = supervisor.runs("warden");
    if warden_runs || warden::has_remains(&node.config_of("warden")) {
        if !warden_runs {
            supervisor.keep("warden");
        }
        if let Err(error) = clear_containers(node).await {
            warn!(error = &*error, "not every container could be cleared away");
        }
    }
    futures::future::join_all(brokers::OWN.iter().map(|broker| stop_broker(node, supervisor, broker.part))).await;
    for part in PARTS.iter().rev() {
        supervisor.stop(part.name).await;
        info!(service = part.name, "stopped");
    }
    warden::clean_host(&node.config_of("warden")).context("the host is not clean")
}

/// Stops a broker, which stops its engine. An engine whose broker was killed goes on, so whatever is left of its user ends too.
async fn stop_broker(node: &Node, supervisor: &Supervisor, part: &str) {
    supervisor.stop(part).await;
    for (signal, time) in [(Signal::SIGTERM, Duration::from_secs(30)), (Signal::SIGKILL, Duration::from_secs(5))] {
        let end = std::time::Instant::now() + time;
        let mut left = process::of_user(node.uid(part));
        for pid in &left {
            let _ = kill(*pid, signal);
        }
        while !left.is_empty() && std::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
            left = process::of_user(node.uid(part));
        }
    }
}

async fn clear_containers(node: &Node) -> anyhow::Result<()> {
    let client = warden_client::Client::connect(node.warden_socket()).await?;
    let containers = client.list(&Default::default()).await?;
    info!(containers = containers.len(), "clearing containers away");
    let stops = containers.iter().map(|container| async {
        // A clean end first: TERM, ten seconds, KILL.
        if container.exit.is_none() {
            let _ = client.stop(&container.handle, Duration::from_secs(10)).await;
        }
        client.destroy(&container.handle).await
    });
    let failed = futures::future::join_all(stops).await.into_iter().filter(Result::is_err).count();
    if failed > 0 {
        bail!("{failed} of {} containers could not be destroyed", containers.len());
    }
    Ok(())
}

/// Removes what a node keeps in its run folder, and the folder unless there is more in it.
fn clear_run_folder(settings: &Settings) {
    let run = &settings.run_dir;
    for part in ["pids", "warden", "loggregator_agent"] {
        let _ = std::fs::remove_dir_all(run.join(part));
    }
    let _ = std::fs::remove_file(crate::node::control_socket(settings));
    let _ = std::fs::remove_dir(run);
}

fn remove(state: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(state) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", state.display()))
        }
        _ => Ok(()),
    }
}
