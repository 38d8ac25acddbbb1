//! Our extension: backups and restore. Source: docs/broker-backups.md.

use super::{Api, Handled, ask, object, query};
use crate::domain::checks;
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::StatusCode,
    post,
    web::{Bytes, Data, Path},
};
use osb::{BackupList, BackupState};

type Body = Result<Bytes, actix_web::Error>;

#[post("/v2/service_instances/{instance_id}/backups")]
pub(super) async fn create(api: Data<Api>, request: HttpRequest, path: Path<String>, body: Body) -> Handled {
    let query = query(&request)?;
    let wanted = checks::backup(object(&request, body)?)?;
    Ok(api.answer(api.service.backup(&path, &wanted.id, ask(&request, &query)).await?))
}

#[get("/v2/service_instances/{instance_id}/backups")]
pub(super) async fn list(api: Data<Api>, path: Path<String>) -> Handled {
    Ok(HttpResponse::Ok().json(BackupList { backups: api.service.backups_of(&path).await? }))
}

#[get("/v2/service_instances/{instance_id}/backups/{backup_id}")]
pub(super) async fn fetch(api: Data<Api>, path: Path<(String, String)>) -> Handled {
    let (instance_id, backup_id) = path.into_inner();
    let backup = api.service.backup_of(&instance_id, &backup_id).await?;
    match backup.state {
        BackupState::InProgress | BackupState::Deleting => Ok(api.later(StatusCode::OK).json(backup)),
        BackupState::Succeeded | BackupState::Failed => Ok(HttpResponse::Ok().json(backup)),
    }
}

#[delete("/v2/service_instances/{instance_id}/backups/{backup_id}")]
pub(super) async fn delete(api: Data<Api>, request: HttpRequest, path: Path<(String, String)>) -> Handled {
    let (instance_id, backup_id) = path.into_inner();
    let query = query(&request)?;
    Ok(api.answer(api.service.delete_backup(&instance_id, &backup_id, ask(&request, &query)).await?))
}

#[post("/v2/service_instances/{instance_id}/restore")]
pub(super) async fn restore(api: Data<Api>, request: HttpRequest, path: Path<String>, body: Body) -> Handled {
    let query = query(&request)?;
    let wanted = checks::restore(object(&request, body)?)?;
    Ok(api.answer(api.service.restore(&path, &wanted.backup_id, ask(&request, &query)).await?))
}
