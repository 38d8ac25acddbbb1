//! logs.

use super::app;
use crate::{
    api::{Api, POLL},
    logs::{self, Follower},
    ui::{self, say},
};

const RECENT: u32 = 1_000;
/// Failed looks in a row after which there is no use in going on.
const PATIENCE: u32 = 40;

pub(super) async fn show(api: &mut Api, name: &str, recent: bool) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    say!("Retrieving logs for app {} in {}...\n", ui::name(name), app.place());
    if recent {
        for line in logs::recent(api, &app.guid, RECENT).await? {
            line.show();
        }
        return Ok(());
    }
    let start = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let mut follower = Follower::from(&app.guid, start);
    let mut failures = 0;
    loop {
        match follower.next(api).await {
            Ok(lines) => {
                failures = 0;
                lines.iter().for_each(logs::Line::show);
            }
            Err(e) if failures >= PATIENCE => return Err(e),
            Err(_) => failures += 1,
        }
        tokio::time::sleep(POLL).await;
    }
}
