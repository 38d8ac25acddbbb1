use super::*;
use serde_json::json;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{body_string_contains, header, method, path},
};

fn token(claims: &Value) -> String {
    format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}
/// A token of anna that ends in so many seconds.
fn ending_in(seconds: i64, name: &str) -> String {
    token(
        &json!({ "user_name": name, "user_id": name, "origin": "uaa", "jti": format!("{name}-{seconds}"), "exp": now() + seconds }),
    )
}

fn api(server: &MockServer, folder: &tempfile::TempDir, access: &str) -> Api {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config {
        target: Some(server.uri()),
        login: server.uri(),
        access_token: access.to_owned(),
        refresh_token: "refresh-1".into(),
        skip_ssl_validation: true,
        path: folder.path().join("cupola.json"),
        ..Config::default()
    };
    config.save().unwrap();
    Api::with(config, false).unwrap()
}

async fn renews(server: &MockServer, to: &str) {
    Mock::given(method("POST"))
        .and(path("/oauth/token"))
        .and(header("Authorization", "Basic Y2Y6"))
        .and(body_string_contains("refresh_token=refresh-1"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "access_token": to, "refresh_token": "refresh-2" })))
        .mount(server)
        .await;
}

async fn apps(server: &MockServer, access: &str) {
    Mock::given(path("/v3/apps"))
        .and(header("Authorization", format!("bearer {access}")))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "resources": [] })))
        .mount(server)
        .await;
}

#[test]
fn a_token_says_who_we_are_and_until_when() {
    let user = identity(&token(
        &json!({ "user_name": "anna", "user_id": "u", "origin": "uaa", "jti": "j", "exp": 9, "client_id": "cf" }),
    ))
    .unwrap();
    assert_eq!((user.name.as_str(), user.user_id.as_deref(), user.expires_at), ("anna", Some("u"), 9));
    assert_eq!(identity(&token(&json!({ "client_id": "robot", "exp": 9 }))).unwrap().name, "robot");
    assert!(identity("").is_none() && identity("a.b.c").is_none() && identity(&token(&json!({}))).is_none());
}

#[test]
fn names_with_commas_stay_one_name() {
    assert_eq!(query("/v3/apps", &[("names", "a,b"), ("space_guids", "g")]), "/v3/apps?names=a%252Cb&space_guids=g");
}

#[tokio::test]
async fn our_token_goes_to_our_platform_only() {
    let (server, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let mut api = api(&server, &folder, "");
    api.config.target = Some("https://api.cf.test".into());
    api.config.log_cache = "https://log-cache.cf.test".into();
    assert_eq!(api.url("/v3/apps").unwrap(), "https://api.cf.test/v3/apps");
    assert!(api.url("https://api.cf.test/v3/jobs/1").is_ok() && api.url("https://log-cache.cf.test/api/v1/info").is_ok());
    for foreign in ["https://evil.test/v3", "https://api.cf.test.evil.test/", "https://api.cf.test:444/v3"] {
        assert!(api.url(foreign).is_err(), "{foreign}");
    }
}

#[tokio::test]
async fn a_token_that_ends_soon_is_renewed_first_and_kept() {
    let (server, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let fresh = ending_in(1_200, "anna");
    renews(&server, &fresh).await;
    apps(&server, &fresh).await;
    let mut api = api(&server, &folder, &ending_in(30, "anna"));
    api.get("/v3/apps").await.unwrap();
    let kept = api.config.again().unwrap();
    assert_eq!((kept.access_token, kept.refresh_token.as_str()), (fresh, "refresh-2"));
}

#[tokio::test]
async fn what_another_command_renewed_is_used() {
    let (server, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let fresh = ending_in(1_200, "anna");
    apps(&server, &fresh).await;
    let mut api = api(&server, &folder, &ending_in(30, "anna"));
    Config { access_token: fresh.clone(), refresh_token: "refresh-2".into(), ..api.config.clone() }.save().unwrap();
    api.get("/v3/apps").await.unwrap();
    assert_eq!(api.config.refresh_token, "refresh-2");
    // but not what another user left there
    let other = Config { access_token: ending_in(1_200, "berta"), ..api.config.clone() };
    other.save().unwrap();
    api.config.access_token = ending_in(30, "anna");
    assert!(api.get("/v3/apps").await.is_err());
}

#[tokio::test]
async fn a_token_that_the_platform_gave_up_is_renewed_once() {
    let (server, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let (old, fresh) = (ending_in(900, "anna"), ending_in(1_200, "anna"));
    renews(&server, &fresh).await;
    apps(&server, &fresh).await;
    let refused = json!({ "errors": [{ "code": 1000, "title": "CF-InvalidAuthToken", "detail": "Invalid Auth Token" }] });
    Mock::given(path("/v3/apps"))
        .and(header("Authorization", format!("bearer {old}")))
        .respond_with(ResponseTemplate::new(401).set_body_json(refused))
        .mount(&server)
        .await;
    let mut api = api(&server, &folder, &old);
    api.get("/v3/apps").await.unwrap();
    server.reset().await;
    let refused = json!({ "errors": [{ "code": 1000, "title": "CF-InvalidAuthToken", "detail": "Invalid Auth Token" }] });
    Mock::given(path("/v3/apps")).respond_with(ResponseTemplate::new(401).set_body_json(refused)).mount(&server).await;
    let over = json!({ "error": "invalid_token", "error_description": "The token was revoked." });
    Mock::given(path("/oauth/token")).respond_with(ResponseTemplate::new(401).set_body_json(over)).mount(&server).await;
    let error = api.get("/v3/apps").await.unwrap_err().to_string();
    assert!(error.contains("Please log back in"), "{error}");
}

#[tokio::test]
async fn pages_are_followed_and_reads_survive_a_restart_of_the_platform() {
    let (server, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
    Mock::given(path("/v3/apps")).respond_with(ResponseTemplate::new(503)).up_to_n_times(2).mount(&server).await;
    let base = server.uri();
    Mock::given(path("/v3/apps"))
        .respond_with(move |request: &Request| {
            let second = request.url.query().is_some_and(|query| query.contains("page=2"));
            let next = if second { Value::Null } else { json!({ "href": format!("{base}/v3/apps?page=2") }) };
            ResponseTemplate::new(200).set_body_json(
                json!({ "resources": [{ "name": if second { "b" } else { "a" } }], "pagination": { "next": next } }),
            )
        })
        .mount(&server)
        .await;
    let mut api = api(&server, &folder, "");
    let names: Vec<String> = api.list("/v3/apps").await.unwrap().iter().map(|app| text(app, "/name").to_owned()).collect();
    assert_eq!(names, ["a", "b"]);
    // what changes something is not repeated
    server.reset().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(502).set_body_string("bad gateway"))
        .expect(1)
        .mount(&server)
        .await;
    assert!(api.post("/v3/apps", &json!({})).await.unwrap_err().to_string().contains("502"));
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let (server, folder) = (MockServer::start().await, tempfile::tempdir().unwrap());
    let job = format!("{}/v3/jobs/j", server.uri());
    Mock::given(method("DELETE"))
        .respond_with(ResponseTemplate::new(202).insert_header("Location", job.as_str()))
        .mount(&server)
        .await;
    let failed =
        json!({ "state": "FAILED", "errors": [{ "detail": "the space is not empty" }], "warnings": [{ "detail": "careful" }] });
    Mock::given(path("/v3/jobs/j")).respond_with(ResponseTemplate::new(200).set_body_json(failed)).mount(&server).await;
    let error = api(&server, &folder, "").delete("/v3/spaces/s").await.unwrap_err();
    assert_eq!(error.to_string(), "the space is not empty");
}
