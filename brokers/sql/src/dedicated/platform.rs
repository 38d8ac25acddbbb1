//! The platform, as far as it runs servers for a broker.

use async_trait::async_trait;
use cloud_controller_client::{Client, Error, WorkloadSpec, WorkloadStatus};
use uuid::Uuid;

/// Who runs servers: the cloud controller's internal API.
#[async_trait]
pub trait Workloads: Send + Sync + 'static {
    /// Has a workload run as `spec` says; answers at once.
    async fn put(&self, workload: Uuid, spec: &WorkloadSpec) -> Result<WorkloadStatus, Error>;
    /// What has become of it; `None` when nothing is left of it.
    async fn status(&self, workload: Uuid) -> Result<Option<WorkloadStatus>, Error>;
    /// Stops it and removes its volume; false when nothing was left of it.
    async fn delete(&self, workload: Uuid) -> Result<bool, Error>;
}

#[async_trait]
impl Workloads for Client {
    async fn put(&self, workload: Uuid, spec: &WorkloadSpec) -> Result<WorkloadStatus, Error> {
        self.put_workload(workload, spec).await
    }
    async fn status(&self, workload: Uuid) -> Result<Option<WorkloadStatus>, Error> {
        self.workload(workload).await
    }
    async fn delete(&self, workload: Uuid) -> Result<bool, Error> {
        self.delete_workload(workload).await
    }
}
