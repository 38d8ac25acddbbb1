//! `cupola status`.

use crate::{
    NodeArgs, block_on,
    control::{self, Ask},
    settings::Settings,
};
use anyhow::bail;
use clap::Args;
use foundation::SystemClock;
use std::time::Duration;
use types::Clock;

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn status(args: StatusArgs) -> anyhow::Result<()> {
    let Some(settings) = Settings::read(&args.node.state)? else {
        bail!("there is no node at {}; `cupola up` makes one", args.node.state.display());
    };
    let Some(answer) = block_on(control::ask(&crate::node::control_socket(&settings), &Ask::Status))? else {
        bail!(
            "nobody supervises the platform at {}: what of it still runs goes on, and `cupola up` takes it back or starts it",
            args.node.state.display()
        );
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let now = SystemClock.now();
    println!("{:<18} {:>8}  {:>9}  {:>8}  {:>10}", "service", "pid", "up", "restarts", "memory");
    let mut all = 0;
    for part in &answer.parts {
        let pid = part.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let up = part.since.map_or("-".to_owned(), |since| span(now.since(since)));
        let memory = part.memory_bytes.map_or("-".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / f64::from(1 << 20)));
        all += part.memory_bytes.unwrap_or(0);
        let problem = part.problem.as_ref().map_or(String::new(), |problem| format!("  {problem}"));
        println!("{:<18} {pid:>8}  {up:>9}  {:>8}  {memory:>10}{problem}", part.service, part.restarts);
    }
    println!("{:<18} {:>8}  {:>9}  {:>8}  {:>7.1} MB", "all", "", "", "", all as f64 / f64::from(1 << 20));
    println!("{}", if answer.ready { "The platform serves its API." } else { "The platform does not serve its API yet." });
    Ok(())
}

/// `3d 4h`, `5m 6s`: the two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_units() {
        let shown = [5, 65, 3_725, 100_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(shown, ["5s", "1m 5s", "1h 2m", "1d 3h"]);
    }
}
