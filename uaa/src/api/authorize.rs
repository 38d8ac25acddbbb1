//! `/oauth/authorize`: a client asks for a user's tokens.

use super::{
    Api,
    auth::Form,
    browser::{SESSION, cookie, see, to_login},
    pages::{self, PageAnswer},
};
use crate::domain::{Error, Uaa, authorize::Step, redirects::policy_source, sessions::Visitor};
use actix_web::{HttpRequest, get, http::StatusCode, post, web::Bytes};
use url::Position;

#[get("/oauth/authorize")]
pub(super) async fn ask(api: Api, request: HttpRequest) -> PageAnswer {
    let visitor = api.visitor(cookie(&api, &request, SESSION)).await?;
    go(&api, request.query_string(), visitor, None).await
}

/// What the user said on the page that [`ask`] showed.
#[post("/oauth/authorize")]
pub(super) async fn answer(api: Api, request: HttpRequest, body: Bytes) -> PageAnswer {
    let fields = Form::read(&request, &body)?;
    let (query, token) = (fields.needed("request")?, fields.needed("token")?);
    let session = cookie(&api, &request, SESSION);
    let Some(visitor) = api.visitor(session).await? else { return Ok(to_login(query)) };
    api.check_answer(query, &visitor, token)?;
    let agreed = match fields.needed("answer")? {
        "allow" => true,
        "deny" => false,
        _ => return Err(Error::Page("The answer must be allow or deny.").into()),
    };
    go(&api, query, Some(visitor), Some(agreed)).await
}

async fn go(api: &Uaa, query: &str, visitor: Option<Visitor>, agreed: Option<bool>) -> PageAnswer {
    let consent = match api.authorize(query, visitor.as_ref(), agreed).await? {
        Step::Back(to) => return Ok(see(&to)),
        Step::LogIn(query) => return Ok(to_login(&query)),
        Step::Ask(consent) => consent,
    };
    let page = pages::Consent {
        client: &consent.client,
        user_name: &consent.user_name,
        rights: consent.scopes.iter().map(|scope| pages::right(scope)).collect(),
        to: &consent.to[..Position::BeforePath],
        request: query,
        token: &consent.token,
    };
    Ok(pages::page(StatusCode::OK, Some(&policy_source(&consent.to)), &page)?)
}
