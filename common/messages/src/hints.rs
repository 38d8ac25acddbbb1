//! "Look sooner" notes. Losing one costs time, never truth.

use crate::Message;
use serde::{Deserialize, Serialize};
use types::AppId;

/// The cloud controller's feed of desired state has grown: read it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropletUpdated {
    /// The newest change number that was committed when this was sent.
    pub change: u64,
}
impl Message for DropletUpdated {
    const SUBJECT: &'static str = "droplet.updated";
}

/// The routes of an app changed: DEAs that hold it ask the cloud controller for its routes now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutesUpdated {
    /// The app.
    pub app: AppId,
}
impl Message for RoutesUpdated {
    const SUBJECT: &'static str = "dea.update";
}

/// A build was cancelled: whoever stages it stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagingStop {
    /// The app whose stagings are to stop.
    pub app_id: AppId,
}
impl Message for StagingStop {
    const SUBJECT: &'static str = "staging.stop";
}
