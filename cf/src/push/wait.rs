//! Waiting until the instances are up; and when they do not come up, why.

use crate::{
    api::{Api, POLL, array, number, text},
    commands::{App, summary},
    logs,
    problem::Problem,
    ui::{self, say},
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// No start takes longer than this, whatever the health check allows, unless CF_STARTUP_TIMEOUT says otherwise.
const LIMIT: Duration = Duration::from_secs(5 * 60);
/// An instance that nobody can take for this long will not be taken soon.
const NO_ROOM: Duration = Duration::from_secs(5);
/// An app that ended is started again at once, so that it is rarely seen down: this long after it was, it is not up yet.
const SECOND_CHANCE: Duration = Duration::from_secs(3);
/// How many of the last lines of standard error are shown.
const LAST_LINES: usize = 5;

/// Waits until every process has what it wants, or, with `first`, until the web process serves.
///
/// # Errors
/// When all instances of a process crash, find no room, or take too long: in one line why, and what to do.
pub(crate) async fn for_instances(api: &mut Api, app: &App, first: bool) -> anyhow::Result<()> {
    say!("Waiting for app {} to start...\n", ui::name(&app.name));
    let mut processes: Vec<Value> =
        array(&api.get(&format!("/v3/apps/{}/processes", app.guid)).await?, "/resources").cloned().collect();
    processes.retain(|process| number(process, "/instances") > 0 && (!first || text(process, "/type") == "web"));
    let (begun, limit) = (Instant::now(), limit("CF_STARTUP_TIMEOUT", LIMIT));
    let (mut said, mut unplaced_since, mut crashed_since) = (String::new(), None, None);
    loop {
        let (mut settled, mut shown) = (true, vec![]);
        for process in &processes {
            let stats = summary::stats(api, text(process, "/guid")).await?;
            match judge(&stats, number(process, "/instances"), first) {
                State::Up => {}
                State::Crashed => return Err(crashed(api, app, process, &stats).await.into()),
                State::Waiting => settled = false,
            }
            let said = details(&stats);
            if said.iter().any(|text| is_crash(text)) && !first_runs(&stats) {
                let since = *crashed_since.get_or_insert_with(Instant::now);
                if since.elapsed() > SECOND_CHANCE {
                    return Err(crashed(api, app, process, &stats).await.into());
                }
            }
            shown.extend(said);
        }
        if settled {
            say!();
            return Ok(());
        }
        let text = shown.join("; ");
        if text != said || said.is_empty() && begun.elapsed() < POLL {
            say!("Instances starting...{}", if text.is_empty() { String::new() } else { format!(" ({text})") });
            said.clone_from(&text);
        }
        match (is_no_room(&text), unplaced_since) {
            (true, None) => unplaced_since = Some(Instant::now()),
            (true, Some(since)) if Instant::now().duration_since(since) > NO_ROOM => return Err(no_room(app, &text).into()),
            (true, Some(_)) => {}
            (false, _) => unplaced_since = None,
        }
        if begun.elapsed() > limit {
            let tip = format!("'cf app {0}' shows how it is now, 'cf logs {0} --recent' what it said.", app.name);
            return Err(Problem::new(format!("Start app timeout: {} did not start within {}.", app.name, minutes(limit)))
                .tip(tip)
                .into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How long to wait: so many minutes, as the variable says, which may be parts of one.
pub(super) fn limit(variable: &str, usual: Duration) -> Duration {
    let said = std::env::var(variable).ok().and_then(|text| text.trim().parse::<f64>().ok());
    let said = said.filter(|minutes| *minutes > 0.0).and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
    said.unwrap_or(usual)
}

/// `5 minutes`, `0.05 minutes`.
pub(super) fn minutes(time: Duration) -> String {
    let minutes = time.as_secs_f64() / 60.0;
    format!("{} {}", (minutes * 100.0).round() / 100.0, if minutes == 1.0 { "minute" } else { "minutes" })
}

#[derive(Debug, PartialEq)]
enum State {
    Up,
    Waiting,
    Crashed,
}

fn judge(stats: &[Value], wanted: i64, first: bool) -> State {
    let count = |state: &str| stats.iter().filter(|instance| text(instance, "/state") == state).count();
    let running = count("RUNNING");
    if running > 0 && (first || i64::try_from(running).unwrap_or(i64::MAX) >= wanted) {
        return State::Up;
    }
    if !stats.is_empty() && count("CRASHED") == stats.len() {
        return State::Crashed;
    }
    State::Waiting
}

fn first_runs(stats: &[Value]) -> bool {
    stats.iter().any(|instance| text(instance, "/state") == "RUNNING")
}

fn is_crash(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["exited with", "never healthy", "out of memory", "crashed"].iter().any(|word| lower.contains(word))
}

fn details(stats: &[Value]) -> Vec<String> {
    let mut all: Vec<String> =
        stats.iter().map(|instance| ui::harmless(text(instance, "/details"))).filter(|text| !text.is_empty()).collect();
    all.dedup();
    all
}

fn is_no_room(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["insufficient", "no dea has", "no room", "not enough"].iter().any(|word| lower.contains(word))
}

fn no_room(app: &App, details: &str) -> Problem {
    let tip = format!(
        "Ask for less ('cf scale {0} -m 256M'), stop what is not needed, or ask the operator for room; {0} starts by itself once there is some.",
        app.name
    );
    Problem::new(format!("No room to run {}: {details}", app.name)).tip(tip)
}

async fn crashed(api: &mut Api, app: &App, process: &Value, stats: &[Value]) -> Problem {
    let said = summary::last_crash(api, &app.guid).await.ok().flatten();
    let why = said.or_else(|| details(stats).into_iter().next()).unwrap_or_else(|| "the platform does not say why".into());
    let source = format!("APP/PROC/{}", text(process, "/type").to_uppercase());
    let mut lines: Vec<String> = logs::recent(api, &app.guid, 100)
        .await
        .unwrap_or_default()
        .into_iter()
        .filter(|line| line.error && line.source == source)
        .map(|line| ui::harmless(&line.text))
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.dedup(); // of several tries in a row
    let lines = lines.split_off(lines.len().saturating_sub(LAST_LINES));
    explain(&app.name, number(process, "/memory_in_mb"), &why, lines)
}

/// One line on what failed, and what to do.
fn explain(name: &str, memory_mb: i64, why: &str, lines: Vec<String>) -> Problem {
    let lower = why.to_lowercase();
    let more = format!("'cf logs {name} --recent' shows what it said.");
    if lower.contains("out of memory") {
        let tip = format!("Give it more: 'cf scale {name} -m {}M', or 'memory:' in the manifest.", memory_mb.max(1) * 2);
        return Problem::new(format!("Start unsuccessful: {name} ran out of its {memory_mb}M of memory ({why})"))
            .tip(tip)
            .details(lines);
    }
    if lower.contains("never healthy")
        || lower.contains("timed out")
        || lower.contains("connection to port")
        || lower.contains("did not open")
    {
        let tip = format!(
            "The app must listen on 0.0.0.0, on the port in $PORT; one that needs longer gets it by 'cf push {name} -t 180', one without a port by '-u process'. {more}"
        );
        return Problem::new(format!("Start unsuccessful: {name} never became healthy: {why}")).tip(tip).details(lines);
    }
    let mut lines = lines;
    let last = lines.pop().map(|line| format!(": {line}")).unwrap_or_default();
    Problem::new(format!("Start unsuccessful: {name} crashed ({why}){last}")).tip(more).details(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stats(states: &[&str]) -> Vec<Value> {
        states.iter().map(|state| json!({ "state": state })).collect()
    }

    #[test]
    fn a_process_is_up_when_all_run_and_lost_when_all_crashed() {
        assert_eq!(judge(&stats(&["RUNNING", "RUNNING"]), 2, false), State::Up);
        assert_eq!(judge(&stats(&["RUNNING", "STARTING"]), 2, false), State::Waiting);
        assert_eq!(judge(&stats(&["RUNNING", "STARTING"]), 2, true), State::Up);
        assert_eq!(judge(&stats(&["CRASHED", "STARTING"]), 2, false), State::Waiting);
        assert_eq!(judge(&stats(&["CRASHED", "CRASHED"]), 2, false), State::Crashed);
        assert_eq!(judge(&stats(&[]), 1, false), State::Waiting);
    }

    #[test]
    fn a_limit_is_told_in_minutes() {
        assert_eq!([3, 60, 300].map(|s| minutes(Duration::from_secs(s))), ["0.05 minutes", "1 minute", "5 minutes"]);
        assert_eq!(limit("CF_NO_SUCH_VARIABLE", LIMIT), LIMIT);
    }

    #[test]
    fn each_kind_of_failure_has_its_line_and_its_way_out() {
        let shown = |why: &str, lines: &[&str]| {
            format!("{:?}", explain("web", 64, why, lines.iter().map(|line| (*line).to_owned()).collect()))
        };
        assert!(shown("APP/PROC/WEB: Exited with status 137 (out of memory)", &[]).contains("cf scale web -m 128M"));
        assert!(shown("Instance never healthy after 1m0s: Failed to make TCP connection to port 8080", &[]).contains("$PORT"));
        let crash = explain("web", 64, "Exited with status 1", vec!["Traceback".into(), "ImportError: flask".into()]);
        assert_eq!(crash.to_string(), "Start unsuccessful: web crashed (Exited with status 1): ImportError: flask");
        assert!(is_no_room("no DEA has 2 GB free: 3 asked, most free 1.2 GB"));
        assert!(is_crash("APP/PROC/WEB: Exited with status 3") && !is_crash("no DEA has 2 GB free"));
    }
}
