//! Wire types and client of the internal API of the cloud controller.
//!
//! Served on its own listener with mutual TLS; the caller's role is the common name of its certificate (`dea`,
//! `health_manager`, `log_cache`, `postgres_broker`, `mysql_broker`). A broker sees only its own workloads. Paths:
//!
//! | method and path | caller | body, answer |
//! |---|---|---|
//! | `GET /internal/v1/desired?after=<change>&limit=<n>` | health_manager | [`DesiredPage`] |
//! | `GET /internal/v1/versions/<version>/launch` | dea | [`LaunchSpec`], 404 when the version is no longer wanted |
//! | `POST /internal/v1/routes` | dea | [`RoutesRequest`], [`RoutesAnswer`] |
//! | `POST /internal/v1/crashes` | dea | [`CrashReport`], 204 |
//! | `GET /internal/v1/builds/<build>/spec` | dea | [`StagingSpec`], 404 when it is not staging any more |
//! | `PUT /internal/v1/builds/<build>/droplet` | dea | gzip tar, streamed; [`Uploaded`] |
//! | `PUT /internal/v1/builds/<build>/cache` | dea | gzip tar, streamed; [`Uploaded`] |
//! | `POST /internal/v1/builds/<build>/completed` | dea, health_manager | [`StagingResult`], 204; repeating is harmless |
//! | `GET /internal/v1/blobs/<kind>/<key>` | dea | the bytes: `packages/<guid>`, `droplets/<guid>`, `buildpacks/<guid>`, `caches/<app>-<stack>` |
//! | `PUT /internal/v1/workloads/<guid>` | brokers | [`WorkloadSpec`], [`WorkloadStatus`]; 422 when it cannot be, 409 when its volume would change, or while it is being deleted |
//! | `GET /internal/v1/workloads/<guid>` | brokers | [`WorkloadStatus`]; 404 when nothing is left of it |
//! | `DELETE /internal/v1/workloads/<guid>` | brokers | 202; 404 when nothing is left of it |
//! | `POST /internal/v1/volumes` | dea | [`VolumesReport`], [`VolumesAnswer`] |
//! | `GET /internal/v1/log_access/<source id>` + the user's `Authorization` | log_cache | 200, or 404 when the user may not read it |

pub mod api;
pub mod types;

pub use api::{Client, Error};
pub use types::*;
