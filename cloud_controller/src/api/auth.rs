//! Who is calling: the bearer token of a request becomes a [`Caller`].

use crate::{
    api::{Api, Failure},
    domain::{Caller, Error},
};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::Method, web::Data};
use futures::future::LocalBoxFuture;
use uaa_client::{Claims, VerifyError};

/// Tokens must be meant for one of these. Those of services' dashboards are meant for the second alone: their scope opens
/// one endpoint.
///
/// Source: cloudfoundry/capi-release, `jobs/cloud_controller_ng/spec` (`cc.uaa_resource_id`); cloudfoundry/docs-services,
/// `dashboard-sso.html.md.erb`.
pub const AUDIENCES: [&str; 2] = ["cloud_controller", "cloud_controller_service_permissions"];

/// Put aside by the extractor for the answer's `X-USER-GUID`.
#[derive(Clone)]
pub struct UserGuid(pub String);

impl FromRequest for Caller {
    type Error = Failure;
    type Future = LocalBoxFuture<'static, Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let api = request.app_data::<Data<Api>>().ok_or_else(|| Error::internal("the wiring", "no state"))?;
            let header = request.headers().get("Authorization").ok_or(Error::NotAuthenticated)?;
            let header = header.to_str().map_err(|_| Error::InvalidToken)?;
            let caller = authenticate(api, header).await?;
            request.extensions_mut().insert(UserGuid(caller.guid.clone()));
            let reading = matches!(*request.method(), Method::GET | Method::HEAD);
            let allowed = if reading { caller.reads } else { caller.writes };
            if allowed { Ok(caller) } else { Err(Failure(Error::Forbidden)) }
        })
    }
}

/// Checks a token and makes the user known here.
pub async fn authenticate(api: &Api, header: &str) -> Result<Caller, Error> {
    let claims = match api.verifier.verify(header).await {
        Ok(claims) => claims,
        Err(VerifyError::Invalid(reason)) => {
            tracing::debug!(%reason, "token refused");
            return Err(Error::InvalidToken);
        }
        Err(e @ VerifyError::Unavailable(_)) => return Err(Error::Unavailable("UAA", e.into())),
    };
    let caller = caller(claims);
    api.know_user(&caller).await?;
    Ok(caller)
}

fn caller(claims: Claims) -> Caller {
    let admin = claims.has_scope("cloud_controller.admin");
    let admin_read_only = claims.has_scope("cloud_controller.admin_read_only");
    let global_auditor = claims.has_scope("cloud_controller.global_auditor");
    Caller {
        guid: claims.holder().to_owned(),
        name: claims.user_name.clone().unwrap_or_else(|| claims.client_id.clone()),
        email: claims.email.clone(),
        origin: claims.user_id.as_ref().and(claims.origin.clone()),
        admin,
        admin_read_only,
        global_auditor,
        reads: admin || admin_read_only || global_auditor || claims.has_scope("cloud_controller.read"),
        writes: admin || claims.has_scope("cloud_controller.write"),
    }
}
