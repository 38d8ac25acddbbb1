//! Staging, with its log live.

use super::wait;
use crate::{
    api::{Api, POLL, text},
    logs::Follower,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::json;
use std::time::{Duration, Instant};

/// Unless CF_STAGING_TIMEOUT says otherwise: the platform's own limit is shorter.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// How long the last lines may take to arrive after the end.
const LAST_LINES: Duration = Duration::from_millis(1_500);
/// A log that brings nothing new for this long is complete.
const QUIET: Duration = Duration::from_millis(500);

/// Stages a package; returns the guid of the droplet.
pub(crate) async fn stage(api: &mut Api, app: &str, name: &str, package: &str) -> anyhow::Result<String> {
    say!("Staging app and tracing logs...");
    let start = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let mut follower = Follower::from(app, start - 1_000_000_000);
    let mut build = api.post("/v3/builds", &json!({ "package": { "guid": package } })).await?.body;
    let path = format!("/v3/builds/{}", text(&build, "/guid"));
    let (begun, limit) = (Instant::now(), wait::limit("CF_STAGING_TIMEOUT", LIMIT));
    while text(&build, "/state") == "STAGING" {
        if begun.elapsed() > limit {
            bail!(
                Problem::new(format!("Staging {name} did not end within {}.", wait::minutes(limit)))
                    .tip(format!("'cf logs {name} --recent' shows how far it came."))
            );
        }
        show_log(api, &mut follower).await;
        tokio::time::sleep(POLL).await;
        build = api.get(&path).await?;
    }
    let (ended, mut quiet_since) = (Instant::now(), Instant::now());
    while ended.elapsed() < LAST_LINES && quiet_since.elapsed() < QUIET {
        if show_log(api, &mut follower).await {
            quiet_since = Instant::now();
        }
        tokio::time::sleep(POLL / 2).await;
    }
    say!();
    match text(&build, "/state") {
        "STAGED" => Ok(text(&build, "/droplet/guid").to_owned()),
        _ => bail!(failed(name, text(&build, "/error"))),
    }
}

/// Makes a droplet the one that the app runs.
pub(crate) async fn use_droplet(api: &mut Api, app: &str, droplet: &str) -> anyhow::Result<()> {
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    api.patch(&path, &json!({ "data": { "guid": droplet } })).await.map(|_| ())
}

/// True if there was something new. A log that cannot be read does not stop a staging.
async fn show_log(api: &mut Api, follower: &mut Follower) -> bool {
    let lines = follower.next(api).await.unwrap_or_default();
    let mut any = false;
    for line in lines.iter().filter(|line| line.source == "STG") {
        for part in line.text.lines() {
            say!("   {}", ui::harmless(part));
        }
        any = true;
    }
    any
}

fn failed(name: &str, error: &str) -> Problem {
    let what = if error.is_empty() { "StagingError: the platform does not say why".to_owned() } else { error.to_owned() };
    let lower = error.to_lowercase();
    let tip = if error.contains("NoAppDetectedError") {
        format!(
            "No buildpack recognises the files. Is this the app's folder (-p), and does it hold its marker file (package.json, requirements.txt, go.mod, Gemfile, Staticfile, ...)? 'cf buildpacks' lists buildpacks, 'cf push {name} -b BUILDPACK' chooses one (staticfile_buildpack for a folder of pages)."
        )
    } else if lower.contains("has the stack") {
        format!("'cf stacks' lists the stacks there should be; 'cf push {name} -s STACK' chooses one.")
    } else if error.contains("InsufficientResources") || lower.contains("insufficient") {
        "The platform has no room to stage: stop an app that is not needed ('cf stop'), or ask the operator for more.".to_owned()
    } else if error.contains("StagingTimeExpired") {
        "Staging took too long: does a download hang? The log above shows its last step.".to_owned()
    } else {
        format!("The reason is in the log above; 'cf logs {name} --recent' shows it again.")
    };
    Problem::new(format!("Error staging application {name}: {what}")).tip(tip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_staging_says_why_and_what_to_do() {
        let problem = failed("web", "NoAppDetectedError - An app was not successfully detected by any available buildpack");
        assert!(problem.to_string().starts_with("Error staging application web: NoAppDetectedError"));
        assert!(format!("{problem:?}").contains("-b BUILDPACK"));
        assert!(failed("web", "").to_string().contains("does not say why"));
    }
}
