//! `/oauth/token/revoke`.

use super::{Answer, Api};
use crate::domain::access::Caller;
use actix_web::{HttpResponse, delete, get, web::Path};

#[delete("/oauth/token/revoke/{token}")]
pub(super) async fn one(api: Api, caller: Caller, token: Path<String>) -> Answer {
    api.revoke_token(&caller, token.into_inner()).await?;
    Ok(HttpResponse::Ok().finish())
}

#[get("/oauth/token/revoke/user/{user}")]
pub(super) async fn of_user(api: Api, caller: Caller, user: Path<String>) -> Answer {
    api.revoke_user(&caller, user.into_inner()).await?;
    Ok(HttpResponse::Ok().finish())
}

#[get("/oauth/token/revoke/client/{client}")]
pub(super) async fn of_client(api: Api, caller: Caller, client: Path<String>) -> Answer {
    api.revoke_client(&caller, client.into_inner()).await?;
    Ok(HttpResponse::Ok().finish())
}

#[get("/oauth/token/revoke/user/{user}/client/{client}")]
pub(super) async fn of_user_and_client(api: Api, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (user, client) = path.into_inner();
    api.revoke_user_of_client(&caller, user, client).await?;
    Ok(HttpResponse::Ok().finish())
}
