//! Tokens out of credentials, and what they are good for.

use crate::world::{ADMIN_PASSWORD, SECRET, World, body, claims, raw, text};
use messages::router::{Register, RouterStart};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use uaa_client::{Expect, NewUser, TokenVerifier, VerifyError};

#[tokio::test]
async fn the_command_line_client_finds_prompts_and_links() {
    let world = World::new().await;
    // it sends an Authorization header with nothing in it
    let answer = world
        .request(Method::GET, "/login")
        .header("Authorization", "")
        .header("Accept", "application/json")
        .send()
        .await
        .unwrap();
    let login = body(answer, 200).await;
    let passcode = "One Time Code ( Get one at https://login.cf.test/passcode )";
    assert_eq!(
        login["prompts"],
        json!({ "username": ["text", "Email"], "password": ["password", "Password"], "passcode": ["password", passcode] })
    );
    assert_eq!(login["links"], json!({ "uaa": "https://uaa.cf.test", "login": "https://login.cf.test" }));
    let page = world.request(Method::GET, "/login").header("Accept", "text/html").send().await.unwrap();
    assert!(page.headers()["Content-Security-Policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    assert!(page.text().await.unwrap().contains("action=\"/login.do\""));
    assert_eq!(world.request(Method::GET, "/healthz").send().await.unwrap().text().await.unwrap(), "ok\n");
}

#[tokio::test]
async fn a_password_brings_a_token_with_the_claims_of_the_contract() {
    let world = World::new().await;
    let answer = world.admin().await;
    assert_eq!((answer["token_type"].as_str(), answer["expires_in"].as_u64()), (Some("bearer"), Some(1200)));
    assert!(text(&answer["refresh_token"]).ends_with("-r"));
    let claims = claims(&text(&answer["access_token"]));
    let user = text(&claims["user_id"]);
    for (name, value) in [
        ("sub", json!(user)),
        ("client_id", json!("cf")),
        ("cid", json!("cf")),
        ("azp", json!("cf")),
        ("grant_type", json!("password")),
        ("origin", json!("uaa")),
        ("user_name", json!("admin")),
        ("iss", json!("https://uaa.cf.test/oauth/token")),
        ("zid", json!("uaa")),
        ("revocable", json!(true)),
        ("exp", json!(1_800_001_200)),
        ("iat", json!(1_800_000_000)),
        ("jti", answer["jti"].clone()),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    let jti = text(&claims["jti"]);
    assert!(jti.len() == 32 && jti.bytes().all(|b| b.is_ascii_hexdigit()));
    for scope in ["cloud_controller.admin", "cloud_controller.read", "scim.write", "openid"] {
        assert!(claims["scope"].as_array().unwrap().contains(&json!(scope)), "{scope}");
    }
    for part in ["cf", "cloud_controller", "openid", "scim", "routing.router_groups"] {
        assert!(claims["aud"].as_array().unwrap().contains(&json!(part)), "{part}");
    }
    assert!(claims.get("authorities").is_none());
    assert!(claims["rev_sig"].is_string() && claims["auth_time"].is_u64());
    assert!(world.works(&text(&answer["access_token"])).await);
}

#[tokio::test]
async fn a_user_gets_no_scope_that_it_was_not_given() {
    let world = World::new().await;
    world.user("anna@example.org", "anna-password").await;
    let answer = body(world.login("Anna@Example.ORG", "anna-password").await, 200).await;
    let scopes = text(&answer["scope"]);
    assert!(scopes.split(' ').any(|scope| scope == "cloud_controller.write"));
    assert!(!scopes.contains("admin") && !scopes.contains("scim"), "{scopes}");
    let form = [
        ("grant_type", "password"),
        ("username", "anna@example.org"),
        ("password", "anna-password"),
        ("scope", "cloud_controller.admin"),
    ];
    assert_eq!(body(world.cf(&form).await, 400).await["error"], "invalid_scope");
    let form = [("grant_type", "password"), ("username", "anna@example.org"), ("password", "anna-password"), ("scope", "openid")];
    assert_eq!(body(world.cf(&form).await, 200).await["scope"], "openid");
}

#[tokio::test]
async fn a_client_gets_its_authorities_by_form_and_by_header_and_no_refresh_token() {
    let world = World::new().await;
    let form = [("grant_type", "client_credentials")];
    let request = world.request(Method::POST, "/oauth/token").basic_auth("lookup", Some(SECRET)).form(&form);
    let answer = body(request.send().await.unwrap(), 200).await;
    assert_eq!((answer["scope"].as_str(), answer.get("refresh_token")), (Some("scim.read scim.userids"), None));
    let claims = claims(&text(&answer["access_token"]));
    assert_eq!(claims["authorities"], json!(["scim.read", "scim.userids"]));
    assert_eq!((claims["sub"].as_str(), claims.get("user_id")), (Some("lookup"), None));
    assert!(!world.client("lookup").await.is_empty());

    for (id, secret) in [("lookup", "wrong"), ("lookup", ""), ("nobody", SECRET), ("cf", "x")] {
        let request = world.request(Method::POST, "/oauth/token").basic_auth(id, Some(secret)).form(&form);
        let answer = request.send().await.unwrap();
        assert!(answer.headers().contains_key("WWW-Authenticate"), "{id}");
        assert_eq!(body(answer, 401).await["error_description"], "Bad credentials");
    }
    let request = world.request(Method::POST, "/oauth/token").header("Authorization", "Basic Y2Y6").form(&form);
    assert_eq!(body(request.send().await.unwrap(), 401).await["error"], "unauthorized_client");
}

#[tokio::test]
async fn a_refresh_token_changes_at_every_use_and_an_old_one_ends_the_login() {
    let world = World::new().await;
    let first = world.admin().await;
    let second = body(world.refresh(&text(&first["refresh_token"])).await, 200).await;
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(second["scope"], first["scope"]);
    // another command that runs on the same login comes a moment later with the old one
    body(world.refresh(&text(&first["refresh_token"])).await, 200).await;
    let third = body(world.refresh(&text(&second["refresh_token"])).await, 200).await;

    let elsewhere = world.admin().await;
    world.later(601);
    assert_eq!(body(world.refresh(&text(&first["refresh_token"])).await, 401).await["error"], "invalid_token");
    assert_eq!(body(world.refresh(&text(&third["refresh_token"])).await, 401).await["error"], "invalid_token");
    assert!(!world.works(&text(&third["access_token"])).await);
    body(world.refresh(&text(&elsewhere["refresh_token"])).await, 200).await;
}

#[tokio::test]
async fn a_confidential_client_keeps_its_refresh_token() {
    let world = World::new().await;
    world.user("anna", "anna-password").await;
    let form = [
        ("grant_type", "password"),
        ("username", "anna"),
        ("password", "anna-password"),
        ("client_id", "other"),
        ("client_secret", SECRET),
    ];
    let login = body(world.request(Method::POST, "/oauth/token").form(&form).send().await.unwrap(), 200).await;
    let refresh = text(&login["refresh_token"]);
    let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh), ("client_id", "other"), ("client_secret", SECRET)];
    let again = body(world.request(Method::POST, "/oauth/token").form(&form).send().await.unwrap(), 200).await;
    assert_eq!(again["refresh_token"], login["refresh_token"]);
    assert_eq!(again["scope"], "cloud_controller.read openid");
    assert_eq!(body(world.refresh(&refresh).await, 401).await["error"], "invalid_token", "of another client");
}

#[tokio::test]
async fn tokens_end_when_their_time_is_over() {
    let world = World::new().await;
    let login = world.admin().await;
    world.later(1_200);
    assert!(!world.works(&text(&login["access_token"])).await);
    let again = body(world.refresh(&text(&login["refresh_token"])).await, 200).await;
    assert!(world.works(&text(&again["access_token"])).await);
    world.later(2_592_000);
    assert_eq!(body(world.refresh(&text(&again["refresh_token"])).await, 401).await["error"], "invalid_token");
}

#[tokio::test]
async fn logging_out_ends_this_login_and_no_other() {
    let world = World::new().await;
    let (here, there) = (world.admin().await, world.admin().await);
    let revoke = world
        .request(Method::DELETE, &format!("/oauth/token/revoke/{}", text(&here["jti"])))
        .bearer_auth(text(&here["access_token"]));
    assert_eq!(revoke.send().await.unwrap().status(), StatusCode::OK);
    assert!(!world.works(&text(&here["access_token"])).await);
    body(world.refresh(&text(&here["refresh_token"])).await, 401).await;
    assert!(world.works(&text(&there["access_token"])).await);
    body(world.refresh(&text(&there["refresh_token"])).await, 200).await;
}

#[tokio::test]
async fn a_restart_keeps_users_tokens_and_keys_and_takes_changed_secrets() {
    let world = World::new().await;
    let login = world.admin().await;
    let keys = body(world.request(Method::GET, "/token_keys").send().await.unwrap(), 200).await;
    let world = world
        .restarted(|raw| {
            raw.admin.password = foundation::Secret::new("another-password");
            raw.clients[1].secret = foundation::Secret::new("another-secret-made-by-a-machine-0123");
        })
        .await;
    assert_eq!(body(world.request(Method::GET, "/token_keys").send().await.unwrap(), 200).await, keys);
    assert!(world.works(&text(&login["access_token"])).await);
    body(world.login("admin", ADMIN_PASSWORD).await, 200).await;
    let form = [("grant_type", "client_credentials"), ("client_id", "lookup"), ("client_secret", SECRET)];
    body(world.request(Method::POST, "/oauth/token").form(&form).send().await.unwrap(), 401).await;
}

#[tokio::test]
async fn services_verify_tokens_and_look_users_up_through_the_client_crate() {
    let world = World::new().await;
    let expect = Expect { issuer: "https://uaa.cf.test/oauth/token".into(), audiences: vec!["cloud_controller".into()] };
    let verifier = TokenVerifier::new(&world.base, &expect, world.clock.clone()).unwrap();
    let login = world.admin().await;
    let claims = verifier.verify(&format!("bearer {}", text(&login["access_token"]))).await.unwrap();
    assert!(claims.has_scope("cloud_controller.admin"));
    for wrong in ["id_token", "refresh_token"] {
        assert!(matches!(verifier.verify(&text(&login[wrong])).await, Err(VerifyError::Invalid(_))), "{wrong}");
    }
    let client = uaa_client::Client::new(&world.base, "scim", foundation::Secret::new(SECRET), world.clock.clone()).unwrap();
    let new =
        NewUser { user_name: "O'Hara".into(), password: Some(foundation::Secret::new("long enough")), origin: None, email: None };
    let made = client.create_user(&new).await.unwrap();
    assert_eq!(client.user(&made.id).await.unwrap().unwrap().user_name, "O'Hara");
    assert_eq!(client.user("nobody").await.unwrap(), None);
    let ids = [made.id.clone(), claims.user_id.unwrap(), "nobody".into()];
    assert_eq!(client.users_by_ids(&ids).await.unwrap().len(), 2);
    assert_eq!(client.users_by_name("o'hara", None).await.unwrap(), std::slice::from_ref(&made));
    match client.create_user(&new).await {
        Err(uaa_client::Error::Taken { user_id, .. }) => assert_eq!(user_id, Some(made.id)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn routers_learn_where_uaa_is_at_once_and_when_they_start_and_at_the_end_that_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let raw = raw(&folder);
    let bus = bus::Bus::in_memory();
    let mut registers = bus.subscribe("router.register").await.unwrap();
    let mut unregisters = bus.subscribe("router.unregister").await.unwrap();
    let shutdown = foundation::Shutdown::new();
    let clock = Arc::new(types::ManualClock::at(types::Timestamp::from_secs(1)));
    let outside = uaa::Outside { bus: Some(bus.clone()), clock, rng: rand::SeedableRng::seed_from_u64(1) };
    let address = uaa::start(uaa::config::Config::check(raw).unwrap(), outside, &shutdown).await.unwrap();
    let limit = Duration::from_secs(5);
    let first: Register = tokio::time::timeout(limit, registers.next()).await.unwrap().unwrap().read().unwrap();
    assert_eq!((first.host.as_str(), first.port), ("127.0.0.1", Some(address.port())));
    assert_eq!(first.uris, ["uaa.cf.test", "login.cf.test"]);
    let start = RouterStart { id: "r".into(), hosts: vec![], register_interval_s: 20, prune_threshold_s: 120 };
    bus.publish(&start).await.unwrap();
    tokio::time::timeout(limit, registers.next()).await.unwrap().unwrap();
    assert_eq!(shutdown.finish(Duration::from_secs(10)).await, 0);
    tokio::time::timeout(limit, unregisters.next()).await.unwrap().unwrap();
}
