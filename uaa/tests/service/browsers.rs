//! Logging in with a browser, for a dashboard; and each way in which that must not work.

use crate::{
    browser::{Browser, CALLBACK, DASHBOARD_SECRET, authorize},
    world::{ADMIN_PASSWORD, World, body, claims, text},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use uaa_client::{Expect, TokenVerifier};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn world() -> World {
    let world = World::new().await;
    world.dashboard("db-dashboard", CALLBACK).await;
    world.user("anna", "anna-password").await;
    world
}

#[tokio::test]
async fn a_user_logs_in_to_a_dashboard_with_sqlite() {
    everything(World::new().await).await;
}

#[tokio::test]
async fn a_user_logs_in_to_a_dashboard_with_postgres() {
    if let Some(world) = World::on_postgres().await {
        everything(world).await;
    }
}

async fn everything(world: World) {
    world.dashboard("db-dashboard", CALLBACK).await;
    let anna = world.user("anna", "anna-password").await;
    let mut browser = Browser::new(&world);
    let request = authorize(&[("nonce", "n-1"), ("scope", "openid cloud_controller_service_permissions.read")]);
    let to_login = browser.get(&request).await;
    assert!(to_login.location().starts_with("/login?"), "{to_login:?}");
    world.later(60);
    let back = browser.log_in(to_login.location(), "anna", "anna-password").await;
    let again = back.location().to_owned();
    assert!(again.starts_with("/oauth/authorize?"));

    let asked = browser.get(&again).await;
    for part in ["Dashboard of db &#60;1&#62;", "<strong>anna</strong>", "your e-mail address", "https://dashboard.test</code>"] {
        assert!(asked.text.contains(part), "{part} in {}", asked.text);
    }
    let done = browser.answer(&asked, "allow").await;
    assert!(done.location().starts_with(&format!("{CALLBACK}?code=")), "{done:?}");
    assert_eq!(done.sent("state").as_deref(), Some("st&te"));
    world.later(60);
    let tokens = body(world.redeem(&done.sent("code").unwrap(), &[]).await, 200).await;
    assert_eq!(tokens["scope"], "cloud_controller_service_permissions.read openid");

    let access = claims(&text(&tokens["access_token"]));
    assert_eq!((&access["user_id"], &access["grant_type"]), (&json!(anna), &json!("authorization_code")));
    assert_eq!(access["aud"], json!(["db-dashboard", "cloud_controller_service_permissions", "openid"]));
    let id_token = text(&tokens["id_token"]);
    let expect = Expect {
        issuer: "https://uaa.cf.test/oauth/token".into(),
        audiences: vec!["cloud_controller_service_permissions".into()],
    };
    let verifier = TokenVerifier::new(&world.base, &expect, world.clock.clone()).unwrap();
    verifier.verify(&format!("bearer {}", text(&tokens["access_token"]))).await.unwrap();
    assert!(verifier.verify(&format!("bearer {id_token}")).await.is_err(), "an id token is no access token");
    let who = claims(&id_token);
    for (name, value) in [
        ("iss", json!("https://uaa.cf.test/oauth/token")),
        ("sub", json!(anna)),
        ("aud", json!(["db-dashboard"])),
        ("nonce", json!("n-1")),
        ("auth_time", json!(1_800_000_060)),
        ("iat", json!(1_800_000_120)),
        ("exp", json!(1_800_003_720)),
        ("user_name", json!("anna")),
    ] {
        assert_eq!(who[name], value, "{name}");
    }
    assert!(world.works(&text(&tokens["access_token"])).await);

    let refresh = text(&tokens["refresh_token"]);
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    let request = world.request(Method::POST, "/oauth/token").basic_auth("db-dashboard", Some(DASHBOARD_SECRET)).form(&form);
    assert_eq!(body(request.send().await.unwrap(), 200).await["scope"], tokens["scope"]);

    // the second time nobody is asked for anything
    let second = browser.get(&authorize(&[])).await;
    body(world.redeem(&second.sent("code").unwrap(), &[]).await, 200).await;
    // and with another browser only for the password
    let mut elsewhere = Browser::logged_in(&world, "anna", "anna-password").await;
    let third = elsewhere.get(&authorize(&[])).await.sent("code").unwrap();
    body(world.redeem(&third, &[]).await, 200).await;
    let replayed = body(world.redeem(&third, &[]).await, 400).await;
    assert_eq!(replayed["error"], "invalid_grant");
    // what ended is forgotten, and is as gone as before
    world.later(43_200);
    assert!(browser.get(&authorize(&[])).await.location().starts_with("/login?"));
}

#[tokio::test]
async fn pages_are_closed_to_frames_scripts_and_caches() {
    let world = world().await;
    let mut browser = Browser::new(&world);
    let to_login = browser.get(&authorize(&[])).await;
    let form = browser.get(to_login.location()).await;
    let asked = {
        let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
        anna.get(&authorize(&[])).await
    };
    let problem = browser.get("/oauth/authorize").await;
    for page in [&form, &asked, &problem] {
        let policy = page.policy();
        for part in ["default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"]
        {
            assert!(policy.contains(part), "{part} in {policy}");
        }
        assert_eq!(page.headers["x-frame-options"], "DENY");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        assert!(!page.text.contains("<script") && !page.text.contains("style="), "{}", page.text);
    }
    // browsers follow a form's answer only to where the policy says
    assert!(form.policy().ends_with("form-action 'self' https://dashboard.test"), "{}", form.policy());
    assert!(asked.policy().ends_with("form-action 'self' https://dashboard.test"), "{}", asked.policy());
    assert!(problem.policy().ends_with("form-action 'self'"));
    let style = browser.get("/login/style.css").await;
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
    assert!(style.text.contains("prefers-color-scheme: dark"));
}

/// CVE-2018-11041, CVE-2019-3788: a browser is sent to an address that is not the client's.
#[tokio::test]
async fn an_unknown_client_or_address_gets_a_page_and_never_a_redirect() {
    let world = world().await;
    world.web_client(&[("redirect_uri", json!(["https://a.test/x", "https://*.b.test/**"]))]).await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    let long = "x".repeat(5000);
    for changes in [
        [("client_id", "nobody"), ("x", "")],
        [("client_id", ""), ("x", "")],
        [("client_id", "a\0b"), ("x", "")],
        [("redirect_uri", "https://evil.test/"), ("x", "")],
        [("redirect_uri", "https://dashboard.test/callback/../evil"), ("x", "")],
        [("redirect_uri", "https://dashboard.test/callback/deeper"), ("x", "")],
        [("redirect_uri", "https://dashboard.test@evil.test/callback"), ("x", "")],
        [("redirect_uri", "https://dashboard.test/callback#x"), ("x", "")],
        [("redirect_uri", "javascript:alert(1)"), ("x", "")],
        [("client_id", "web"), ("redirect_uri", "https://evil.b.test/x")],
        [("client_id", "web"), ("redirect_uri", "https://*.b.test/**")],
        [("client_id", "web"), ("redirect_uri", "")],
        [("client_id", "cf"), ("redirect_uri", "")],
        [("state", &long), ("x", "")],
        [("redirect_uri", &long), ("x", "")],
    ] {
        let page = anna.get(&authorize(&changes)).await;
        assert_eq!(page.status, 400, "{changes:?}");
        assert!(!page.headers.contains_key("location") && page.text.contains("<h1>"), "{changes:?}");
    }
    let twice = format!("{}&redirect_uri=https://evil.test", authorize(&[]));
    assert_eq!(anna.get(&twice).await.status, 400);
    // the only address that there is needs no naming
    assert!(anna.get(&authorize(&[("redirect_uri", "")])).await.text.contains("Allow access?"));
}

#[tokio::test]
async fn every_other_fault_is_told_to_the_client() {
    let world = world().await;
    world.web_client(&[("client_id", json!("public")), ("client_secret", json!(""))]).await;
    let scim = json!({ "client_id": "machine", "authorized_grant_types": ["client_credentials"] });
    let scim: Vec<(&str, Value)> = scim.as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    world.web_client(&scim).await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    for (changes, error) in [
        (vec![("response_type", "")], "invalid_request"),
        (vec![("response_type", "token")], "unsupported_response_type"),
        (vec![("response_type", "code id_token")], "unsupported_response_type"),
        (vec![("response_mode", "fragment")], "invalid_request"),
        (vec![("scope", "cloud_controller.admin")], "invalid_scope"),
        (vec![("scope", "openid uaa.admin")], "invalid_scope"),
        (
            vec![
                ("client_id", "public"),
                ("scope", "cloud_controller.admin"),
                ("code_challenge", CHALLENGE),
                ("code_challenge_method", "S256"),
            ],
            "invalid_scope",
        ),
        (vec![("request", "x.y.z")], "request_not_supported"),
        (vec![("request_uri", "https://evil.test/")], "request_uri_not_supported"),
        (vec![("prompt", "none login")], "invalid_request"),
        (vec![("max_age", "-1")], "invalid_request"),
        (vec![("max_age", "soon")], "invalid_request"),
        (vec![("nonce", &"x".repeat(600) as &str)], "invalid_request"),
        (vec![("client_id", "machine")], "unauthorized_client"),
        // PKCE
        (vec![("client_id", "public")], "invalid_request"),
        (vec![("code_challenge", CHALLENGE)], "invalid_request"),
        (vec![("code_challenge", CHALLENGE), ("code_challenge_method", "plain")], "invalid_request"),
        (vec![("code_challenge", CHALLENGE), ("code_challenge_method", "S512")], "invalid_request"),
        (vec![("code_challenge", "short"), ("code_challenge_method", "S256")], "invalid_request"),
        (vec![("code_challenge_method", "S256")], "invalid_request"),
    ] {
        let back = anna.get(&authorize(&changes)).await;
        assert!(back.location().starts_with(&format!("{CALLBACK}?error=")), "{changes:?} {back:?}");
        assert_eq!(back.sent("error").as_deref(), Some(error), "{changes:?} {back:?}");
        assert_eq!((back.sent("state").as_deref(), back.sent("code")), (Some("st&te"), None), "{changes:?}");
    }
    let twice = anna.get(&format!("{}&scope=openid&scope=roles", authorize(&[]))).await;
    assert_eq!(twice.sent("error").as_deref(), Some("invalid_request"));
    // A link alone sends nobody to an address that somebody registered
    let stranger = Browser::new(&world).get(&authorize(&[("scope", "openid uaa.admin")])).await;
    assert!(stranger.location().starts_with("/login?"), "{stranger:?}");
}

#[tokio::test]
async fn a_code_serves_once_and_its_second_use_ends_what_came_of_the_first() {
    let world = world().await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    let (code, other) = (anna.code(&[]).await, anna.code(&[]).await);
    let first = body(world.redeem(&code, &[]).await, 200).await;
    let untouched = body(world.redeem(&other, &[]).await, 200).await;
    assert_eq!(body(world.redeem(&code, &[]).await, 400).await["error"], "invalid_grant");
    assert!(!world.works(&text(&first["access_token"])).await);
    let form = [("grant_type", "refresh_token"), ("refresh_token", first["refresh_token"].as_str().unwrap())];
    let request = world.request(Method::POST, "/oauth/token").basic_auth("db-dashboard", Some(DASHBOARD_SECRET)).form(&form);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(world.works(&text(&untouched["access_token"])).await, "other logins go on");

    let code = anna.code(&[]).await;
    let answers = futures::future::join_all((0..8).map(|_| world.redeem(&code, &[]))).await;
    assert!(answers.iter().filter(|answer| answer.status() == StatusCode::OK).count() <= 1);
}

#[tokio::test]
async fn a_code_is_worth_nothing_to_others_and_a_failed_try_uses_it_up() {
    let world = world().await;
    world.dashboard("other-dashboard", CALLBACK).await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    let pkce = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    let wrong = "a".repeat(43);

    // of another client: that one has no say, and the code goes on
    let code = anna.code(&[]).await;
    let stolen = world.redeem(&code, &[("client_id", "other-dashboard")]).await;
    assert_eq!(body(stolen, 400).await["error"], "invalid_grant");
    let guessed = world.redeem(&code, &[("client_secret", "wrong")]).await;
    assert_eq!(guessed.status(), StatusCode::UNAUTHORIZED);
    body(world.redeem(&code, &[]).await, 200).await;

    for (request, changes) in [
        (&[][..], vec![("redirect_uri", "https://dashboard.test/other")]),
        (&[], vec![("redirect_uri", "")]),
        (&[], vec![("code_verifier", VERIFIER)]),
        (&pkce, vec![]),
        (&pkce, vec![("code_verifier", wrong.as_str())]),
        (&pkce, vec![("code_verifier", CHALLENGE)]),
    ] {
        let code = anna.code(request).await;
        assert_eq!(body(world.redeem(&code, &changes).await, 400).await["error"], "invalid_grant", "{changes:?}");
        let verifier = if request.is_empty() { "" } else { VERIFIER };
        body(world.redeem(&code, &[("code_verifier", verifier)]).await, 400).await;
    }
    let code = anna.code(&pkce).await;
    body(world.redeem(&code, &[("code_verifier", VERIFIER)]).await, 200).await;

    let late = anna.code(&[]).await;
    world.later(300);
    assert_eq!(body(world.redeem(&late, &[]).await, 400).await["error"], "invalid_grant");
    for nothing in ["x", &"x".repeat(10_000)] {
        assert_eq!(body(world.redeem(nothing, &[]).await, 400).await["error"], "invalid_grant");
    }
    assert_eq!(body(world.redeem("", &[]).await, 400).await["error"], "invalid_request");
}

#[tokio::test]
async fn a_client_without_a_secret_logs_in_with_pkce() {
    let world = world().await;
    let native = [("client_id", json!("native")), ("client_secret", json!("")), ("redirect_uri", json!(["myapp://callback"]))];
    world.web_client(&native).await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest("v".repeat(64)));
    let request = [
        ("client_id", "native"),
        ("redirect_uri", "myapp://callback"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let asked = anna.get(&authorize(&request)).await;
    assert!(asked.policy().ends_with("form-action 'self' myapp:"));
    let code = anna.answer(&asked, "allow").await.sent("code").unwrap();
    let changes = [
        ("client_id", "native"),
        ("client_secret", ""),
        ("redirect_uri", "myapp://callback"),
        ("code_verifier", &"v".repeat(64) as &str),
    ];
    let tokens = body(world.redeem(&code, &changes).await, 200).await;
    assert_eq!(tokens["scope"], "cloud_controller.read openid", "no more than the user has");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_look_the_same_and_both_lock() {
    let world = world().await;
    let mut pages = vec![];
    for name in ["anna", "nobody"] {
        let mut browser = Browser::new(&world);
        for _ in 0..5 {
            let wrong = browser.log_in("/login", name, "wrong").await;
            assert_eq!(wrong.status, 401);
            assert!(!browser.cookies.contains_key("__Host-uaa"));
            pages.push(wrong.text.replace(name, "").replace(&wrong.field("token"), ""));
        }
        let locked = browser.log_in("/login", name, "anna-password").await;
        assert!(locked.status == 401 && locked.text.contains("Your account has been locked because of too many failed attempts"));
        pages.push(locked.text.replace(name, "").replace(&locked.field("token"), ""));
    }
    let (anna, nobody) = pages.split_at(6);
    assert_eq!(anna, nobody);
    // the lock is that of the password grant too, and ends by itself
    assert!(text(&body(world.login("anna", "anna-password").await, 401).await["error_description"]).contains("locked"));
    world.later(301);
    Browser::logged_in(&world, "anna", "anna-password").await;
    // no database chokes on it
    assert_eq!(Browser::new(&world).log_in("/login", "a\0b", "x").await.status, 401);
    assert_eq!(Browser::new(&world).log_in("/login", &"x".repeat(10_000), "x").await.status, 401);
}

#[tokio::test]
async fn the_login_form_of_another_browser_logs_nobody_in() {
    let world = world().await;
    let mut evil = Browser::new(&world);
    let token = evil.get("/login").await.field("token");
    let mut victim = Browser::new(&world);
    victim.get("/login").await;
    for token in [token.as_str(), "", "x"] {
        let fields = [("token", token), ("username", "anna"), ("password", "anna-password")];
        let refused = victim.post("/login.do", &fields).await;
        assert_eq!(refused.status, 403);
        assert!(refused.text.contains("open for too long") && !victim.cookies.contains_key("__Host-uaa"));
        // without a page before
        assert_eq!(Browser::new(&world).post("/login.do", &fields).await.status, 403);
    }
    let twice = format!("token={token}&username=anna&username=admin&password=anna-password");
    let request = world.request(Method::POST, "/login.do").header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(request.body(twice).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

/// CVE-2017-4963: a session that somebody planted before the login.
#[tokio::test]
async fn a_login_makes_a_new_session_and_ends_the_one_before() {
    let world = world().await;
    let planted = Browser::logged_in(&world, "anna", "anna-password").await.cookies;
    let mut victim = Browser::new(&world);
    victim.cookies = planted.clone();
    let form = victim.get("/login?again").await;
    let fields = [("token", form.field("token")), ("username", "admin".into()), ("password", ADMIN_PASSWORD.into())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    victim.post("/login.do", &fields).await;
    assert_ne!(victim.cookies["__Host-uaa"], planted["__Host-uaa"]);
    let mut evil = Browser::new(&world);
    evil.cookies = planted;
    assert!(evil.get("/login").await.text.contains("login.do"), "nobody is logged in with it");
    assert!(victim.get("/login").await.text.contains("<strong>admin</strong>"));
    // a value that the server did not make is no session
    evil.cookies.insert("__Host-uaa".into(), "A".repeat(43));
    evil.log_in("/login", "anna", "anna-password").await;
    assert_ne!(evil.cookies["__Host-uaa"], "A".repeat(43));
}

#[tokio::test]
async fn after_a_login_nobody_is_sent_elsewhere() {
    let world = world().await;
    for evil in
        ["https://evil.test/", "//evil.test/", "/\\evil.test", "https:evil.test", "/oauth/authorize@evil.test", "/login.do"]
    {
        let query: String = url::form_urlencoded::byte_serialize(evil.as_bytes()).collect();
        let mut browser = Browser::new(&world);
        let form = browser.get(&format!("/login?next={query}")).await;
        assert_eq!(form.field("next"), "", "{evil}");
        let token = form.field("token");
        let fields = [("token", token.as_str()), ("next", evil), ("username", "anna"), ("password", "anna-password")];
        assert_eq!(browser.post("/login.do", &fields).await.location(), "/login", "{evil}");
        assert!(browser.get(&format!("/login?next={query}")).await.text.contains("You are logged in"), "{evil}");
    }
}

#[tokio::test]
async fn sessions_end_by_time_by_number_and_with_the_password() {
    let world = world().await;
    let id = world.user("berta", "berta-password").await;
    let is_in = async |browser: &mut Browser<'_>| browser.get("/login").await.text.contains("You are logged in");
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    for _ in 0..24 {
        world.later(1_799);
        assert!(is_in(&mut anna).await);
    }
    world.later(1_799);
    assert!(!is_in(&mut anna).await, "half a day is over");
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    world.later(1_800);
    assert!(!is_in(&mut anna).await, "not used for half an hour");

    let mut berta = Browser::logged_in(&world, "berta", "berta-password").await;
    let mut first = Browser::logged_in(&world, "anna", "anna-password").await;
    for _ in 0..20 {
        world.later(1);
        Browser::logged_in(&world, "anna", "anna-password").await;
    }
    assert!(!is_in(&mut first).await, "the twenty-first took its place");
    assert!(is_in(&mut berta).await, "others are not touched");

    let code = berta.code(&[]).await;
    let scim = world.client("scim").await;
    let change = json!({ "password": "another-password" });
    let change = world.request(Method::PUT, &format!("/Users/{id}/password")).bearer_auth(scim).json(&change);
    assert_eq!(change.send().await.unwrap().status(), StatusCode::OK);
    assert!(!is_in(&mut berta).await, "the password changed");
    assert_eq!(body(world.redeem(&code, &[]).await, 400).await["error"], "invalid_grant");
}

/// CVE-2018-15761: a page of consent that was tampered with.
#[tokio::test]
async fn nobody_consents_to_what_was_not_shown() {
    let world = world().await;
    world.web_client(&[]).await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    let asked = anna.get(&authorize(&[])).await;
    let (token, request) = (asked.field("token"), asked.field("request"));
    let wider = authorize(&[("client_id", "web")]).replace("/oauth/authorize?", "");
    for (token, request) in [(token.as_str(), wider.as_str()), ("", &request), ("x", &request)] {
        let refused = anna.post("/oauth/authorize", &[("token", token), ("request", request), ("answer", "allow")]).await;
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    // a page that was shown to somebody else
    let mut admin = Browser::logged_in(&world, "admin", ADMIN_PASSWORD).await;
    let fields = [("token", token.as_str()), ("request", &request), ("answer", "allow")];
    assert_eq!(admin.post("/oauth/authorize", &fields).await.status, 403);
    let out = Browser::new(&world).post("/oauth/authorize", &fields).await;
    assert!(out.location().starts_with("/login?"));
    assert_eq!(anna.post("/oauth/authorize", &[("token", &token), ("request", &request), ("answer", "maybe")]).await.status, 400);
    let denied = anna.answer(&asked, "deny").await;
    assert_eq!((denied.sent("error").as_deref(), denied.sent("code")), (Some("access_denied"), None));
    assert_eq!(anna.get(&authorize(&[])).await.status, 200, "nothing was remembered");
}

#[tokio::test]
async fn consent_is_remembered_for_what_it_was_given_and_for_a_month() {
    let world = world().await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    anna.code(&[("scope", "openid")]).await;
    assert_eq!(anna.get(&authorize(&[("scope", "openid")])).await.status, 303);
    assert_eq!(anna.get(&authorize(&[("scope", "openid"), ("prompt", "consent")])).await.status, 200);
    assert_eq!(anna.get(&authorize(&[])).await.status, 200, "more than that");
    anna.code(&[]).await;
    let mut admin = Browser::logged_in(&world, "admin", ADMIN_PASSWORD).await;
    assert_eq!(admin.get(&authorize(&[])).await.status, 200, "somebody else");
    world.later(30 * 86_400);
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    assert_eq!(anna.get(&authorize(&[])).await.status, 200, "a month later");
    // and dies with the client
    anna.code(&[]).await;
    let clients = world.client("clients").await;
    world.request(Method::DELETE, "/oauth/clients/db-dashboard").bearer_auth(clients).send().await.unwrap();
    world.dashboard("db-dashboard", CALLBACK).await;
    assert_eq!(anna.get(&authorize(&[])).await.status, 200);
}

#[tokio::test]
async fn a_trusted_client_asks_nobody_for_what_it_is_trusted_with() {
    let world = world().await;
    world.web_client(&[("client_id", json!("all")), ("autoapprove", json!(true))]).await;
    world.web_client(&[("client_id", json!("some")), ("autoapprove", json!(["openid"]))]).await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    assert!(anna.get(&authorize(&[("client_id", "all")])).await.sent("code").is_some());
    assert!(anna.get(&authorize(&[("client_id", "some"), ("scope", "openid")])).await.sent("code").is_some());
    assert_eq!(anna.get(&authorize(&[("client_id", "some")])).await.status, 200);
}

#[tokio::test]
async fn a_client_says_whether_anybody_may_be_asked() {
    let world = world().await;
    let none = authorize(&[("prompt", "none")]);
    assert_eq!(Browser::new(&world).get(&none).await.sent("error").as_deref(), Some("login_required"));
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    assert_eq!(anna.get(&none).await.sent("error").as_deref(), Some("consent_required"));
    anna.code(&[]).await;
    assert!(anna.get(&none).await.sent("code").is_some());
    world.later(100);
    assert!(anna.get(&authorize(&[("max_age", "100")])).await.sent("code").is_some());
    let old = anna.get(&authorize(&[("max_age", "99"), ("prompt", "none")])).await;
    assert_eq!(old.sent("error").as_deref(), Some("login_required"));
    // the password once more, and then on
    for again in [("max_age", "0"), ("prompt", "login")] {
        world.later(10);
        let to_login = anna.get(&authorize(&[again])).await.location().to_owned();
        let back = anna.log_in(&to_login, "anna", "anna-password").await.location().to_owned();
        let code = anna.get(&back).await.sent("code").unwrap();
        let tokens = body(world.redeem(&code, &[]).await, 200).await;
        let who = claims(&text(&tokens["id_token"]));
        assert_eq!(who["auth_time"], who["iat"], "{again:?}");
    }
}

#[tokio::test]
async fn logging_out_goes_to_registered_addresses_alone() {
    let world = world().await;
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    let code = anna.code(&[]).await;
    let id_token = text(&body(world.redeem(&code, &[]).await, 200).await["id_token"]);
    for evil in ["https://evil.test/", "//evil.test", "https://dashboard.test/callback@evil.test", "/\\evil.test", "javascript:x"]
    {
        for who in
            ["client_id=db-dashboard".to_owned(), format!("id_token_hint={id_token}"), "client_id=nobody".into(), String::new()]
        {
            for name in ["redirect", "post_logout_redirect_uri"] {
                let to: String = url::form_urlencoded::byte_serialize(evil.as_bytes()).collect();
                assert_eq!(anna.get(&format!("/logout.do?{who}&{name}={to}")).await.location(), "/login", "{who} {evil}");
            }
        }
    }
    assert!(!anna.cookies.contains_key("__Host-uaa"));
    assert_eq!(anna.get(&format!("/logout.do?redirect={CALLBACK}")).await.location(), "/login", "of nobody");
    for who in ["client_id=db-dashboard".to_owned(), format!("id_token_hint={id_token}")] {
        let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
        let session = anna.cookies.clone();
        let done = anna.get(&format!("/logout.do?{who}&post_logout_redirect_uri={CALLBACK}&state=s")).await;
        assert_eq!(done.location(), format!("{CALLBACK}?state=s"));
        anna.cookies = session;
        assert!(anna.get(&authorize(&[])).await.location().starts_with("/login?"), "the session itself is over");
    }
    let mut anna = Browser::logged_in(&world, "anna", "anna-password").await;
    let done = anna.post("/logout.do", &[("client_id", "db-dashboard"), ("redirect", CALLBACK)]).await;
    assert_eq!((done.location(), anna.cookies.contains_key("__Host-uaa")), (CALLBACK, false));
}

#[tokio::test]
async fn clients_find_everything_by_discovery() {
    let world = world().await;
    for path in ["/.well-known/openid-configuration", "/oauth/token/.well-known/openid-configuration"] {
        let found = body(world.request(Method::GET, path).send().await.unwrap(), 200).await;
        assert_eq!(found["authorization_endpoint"], "https://login.cf.test/oauth/authorize");
        assert_eq!(found["end_session_endpoint"], "https://login.cf.test/logout.do");
        assert_eq!(
            (&found["response_types_supported"], &found["code_challenge_methods_supported"]),
            (&json!(["code"]), &json!(["S256"]))
        );
        let grants: BTreeSet<_> = found["grant_types_supported"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(grants.contains("authorization_code"));
    }
}
