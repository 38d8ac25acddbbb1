//! The Open Service Broker API 2.17, for both of its sides.
//!
//! - Wire types, one module for each topic: [`catalog`], [`instance`], [`binding`], [`operation`], [`backup`] (our extension,
//!   `docs/broker-backups.md`), [`context`], [`error`], [`identity`], [`version`], [`paths`].
//! - `client` (with the feature of that name): the platform's calls to brokers.
//! - [`catalog::validate`]: the rules that a catalog keeps; [`schema`]: parameters against a plan's schemas.
//!
//! Receivers ignore fields that they do not know, so nothing here denies them. Credentials, parameters and secrets do not show
//! in `Debug` output. Nothing here knows how a platform or a broker stores anything.
//!
//! Source: the Open Service Broker API specification 2.17 and its Cloud Foundry profile.

pub mod backup;
pub mod binding;
pub mod catalog;
#[cfg(feature = "client")]
pub mod client;
pub mod context;
pub mod error;
pub mod identity;
pub mod instance;
pub mod operation;
pub mod paths;
pub mod schema;
pub mod version;

mod private;

pub use backup::{Backup, BackupList, BackupRequest, BackupState, RestoreRequest};
pub use binding::{BindRequest, BindResource, Binding, BindingMetadata, Endpoint, FetchedBinding, VolumeMount};
pub use catalog::{Catalog, DashboardClient, MaintenanceInfo, Plan, Requirement, Schemas, ServiceOffering};
pub use context::Context;
pub use error::{ErrorBody, ErrorWord};
pub use identity::OriginatingIdentity;
pub use instance::{
    CloneFrom, FetchedInstance, InstanceMetadata, MaintenanceVersion, PreviousValues, ProvisionRequest, ProvisionResponse,
    UpdateRequest, UpdateResponse,
};
pub use operation::{AcceptedResponse, LastOperation, OperationState};
pub use private::{Credentials, Parameters, PrivateObject};
pub use version::ApiVersion;

/// `X-Broker-API-Version`: on every request.
pub const VERSION_HEADER: &str = "X-Broker-API-Version";
/// `X-Broker-API-Originating-Identity`: who caused the request.
pub const ORIGINATING_IDENTITY_HEADER: &str = "X-Broker-API-Originating-Identity";
/// `X-Broker-API-Request-Identity`: one request, on both sides; brokers echo it.
pub const REQUEST_IDENTITY_HEADER: &str = "X-Broker-API-Request-Identity";

/// Longest `operation` string.
pub const MAX_OPERATION_CHARS: usize = 10_000;
