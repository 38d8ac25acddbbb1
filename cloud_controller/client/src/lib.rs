//! Wire types and client of the internal API of the cloud controller.
//!
//! Served on its own listener with mutual TLS; the caller's role is the common name of its certificate (`dea`,
//! `health_manager`, `log_cache`). Paths:
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
//! | `GET /internal/v1/log_access/<source id>` + the user's `Authorization` | log_cache | 200, or 404 when the user may not read it |

pub mod api;
pub mod types;

pub use api::{Client, Error};
pub use types::*;
