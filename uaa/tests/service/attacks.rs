//! What must not work. Each test names the class of published faults that it stands for.

use crate::world::{ADMIN_PASSWORD, SECRET, World, body, new_user, text};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// Guessing; and no answer tells which names exist.
#[tokio::test]
async fn five_wrong_passwords_lock_a_name_for_a_while_whether_or_not_somebody_has_it() {
    let world = World::new().await;
    world.user("anna", "anna-password").await;
    for name in ["anna", "nobody"] {
        for _ in 0..5 {
            let answer = body(world.login(name, "wrong").await, 401).await;
            assert_eq!(answer, json!({ "error": "unauthorized", "error_description": "Bad credentials" }), "{name}");
        }
        let locked = body(world.login(name, "anna-password").await, 401).await;
        let description = "Your account has been locked because of too many failed attempts to login.";
        assert_eq!(
            (locked["error"].as_str(), locked["error_description"].as_str()),
            (Some("unauthorized"), Some(description)),
            "{name}"
        );
    }
    // others are not touched, and the lock ends by itself
    body(world.login("admin", ADMIN_PASSWORD).await, 200).await;
    world.later(301);
    body(world.login("ANNA", "anna-password").await, 200).await;
}

#[tokio::test]
async fn many_guesses_at_once_do_not_outrun_the_count() {
    let world = World::new().await;
    let guesses = (0..12).map(|_| world.login("admin", "wrong"));
    let mut locked = 0;
    for answer in futures::future::join_all(guesses).await {
        locked += u32::from(text(&body(answer, 401).await["error_description"]).contains("locked"));
    }
    assert_eq!(locked, 7);
}

/// CVE-2018-11047, CVE-2017-4973: a refresh or id token where an access token belongs.
#[tokio::test]
async fn only_access_tokens_open_resources() {
    let world = World::new().await;
    let login = world.admin().await;
    for kind in ["refresh_token", "id_token"] {
        let token = text(&login[kind]);
        for path in ["/userinfo", "/Users", "/Groups", "/oauth/clients"] {
            assert_eq!(world.get(path, &token).send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{kind} {path}");
        }
    }
    for path in ["/userinfo", "/Users", "/Groups", "/oauth/clients"] {
        assert_eq!(world.request(Method::GET, path).send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let foreign = testkit::tokens::TestIssuer::new().user("u", "admin", &["scim.read", "uaa.admin"], 1_900_000_000);
    assert_eq!(world.get("/Users", &foreign).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

/// CVE-2026-40965: private parts on the public key endpoint.
#[tokio::test]
async fn public_key_endpoints_show_public_parts_alone() {
    let world = World::new().await;
    let keys = body(world.request(Method::GET, "/token_keys").send().await.unwrap(), 200).await;
    let active = body(world.request(Method::GET, "/token_key").send().await.unwrap(), 200).await;
    assert_eq!(keys["keys"][0], active);
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert!(active.get(private).is_none(), "{private}");
    }
    assert!(text(&active["value"]).starts_with("-----BEGIN PUBLIC KEY-----"));
    assert_eq!((active["kty"].as_str(), active["alg"].as_str()), (Some("RSA"), Some("RS256")));
    let discovery =
        body(world.request(Method::GET, "/oauth/token/.well-known/openid-configuration").send().await.unwrap(), 200).await;
    assert_eq!(discovery["issuer"], "https://uaa.cf.test/oauth/token");
}

/// CVE-2019-11279, CVE-2016-6651: scopes by odd parameters.
#[tokio::test]
async fn odd_parameters_bring_no_scope() {
    let world = World::new().await;
    world.user("anna", "anna-password").await;
    let post = |body: &str, kind: &str| {
        let request =
            world.request(Method::POST, "/oauth/token").header("Authorization", "Basic Y2Y6").header("Content-Type", kind);
        request.body(body.to_owned()).send()
    };
    let form = "application/x-www-form-urlencoded";
    let login = "grant_type=password&username=anna&password=anna-password";
    for odd in ["scope=openid&scope=cloud_controller.admin", "username=admin", "scope%5B%5D=uaa.admin&scope%5B%5D=x"] {
        assert_eq!(post(&format!("{login}&{odd}"), form).await.unwrap().status(), StatusCode::BAD_REQUEST, "{odd}");
    }
    for odd in
        ["external_scopes=cloud_controller.admin", "authorities=uaa.admin", "scope%5B%5D=cloud_controller.admin", "user_id=admin"]
    {
        let answer = body(post(&format!("{login}&{odd}"), form).await.unwrap(), 200).await;
        assert!(!text(&answer["scope"]).contains("admin"), "{odd}");
    }
    assert_eq!(post("{\"grant_type\":\"password\"}", "application/json").await.unwrap().status(), StatusCode::BAD_REQUEST);
    // passwords in addresses end up in logs
    let in_query =
        world.request(Method::GET, &format!("/oauth/token?{login}")).header("Authorization", "Basic Y2Y6").send().await.unwrap();
    assert_eq!(in_query.status(), StatusCode::METHOD_NOT_ALLOWED);
    let in_query =
        world.request(Method::POST, &format!("/oauth/token?{login}")).header("Authorization", "Basic Y2Y6").send().await.unwrap();
    assert_eq!(in_query.status(), StatusCode::BAD_REQUEST);
}

/// CVE-2026-22723, CVE-2017-8031: revocation that touches others, or is open to others.
#[tokio::test]
async fn nobody_ends_the_tokens_of_somebody_else() {
    let world = World::new().await;
    let id = world.user("anna", "anna-password").await;
    let (anna, admin) = (body(world.login("anna", "anna-password").await, 200).await, world.admin().await);
    let annas = text(&anna["access_token"]);
    let admin_id = text(&crate::world::claims(&text(&admin["access_token"]))["user_id"]);
    let delete = |id: &str| world.request(Method::DELETE, &format!("/oauth/token/revoke/{id}")).bearer_auth(&annas).send();
    assert_eq!(delete(&text(&admin["jti"])).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(delete(&text(&admin["refresh_token"])).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(delete("nothing").await.unwrap().status(), StatusCode::NOT_FOUND);
    for path in
        [format!("user/{admin_id}"), "client/cf".into(), format!("user/{admin_id}/client/cf"), format!("user/{id}/client/other")]
    {
        let answer = world.get(&format!("/oauth/token/revoke/{path}"), &annas).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert!(world.works(&text(&admin["access_token"])).await && world.works(&annas).await);
    // who may, ends exactly the tokens of that user
    let revoker = world.client("revoker").await;
    assert_eq!(world.get(&format!("/oauth/token/revoke/user/{id}"), &revoker).send().await.unwrap().status(), StatusCode::OK);
    assert!(world.works(&text(&admin["access_token"])).await && !world.works(&annas).await);
}

/// CVE-2019-11270, ASVS: endpoints ask for exact scopes.
#[tokio::test]
async fn without_the_scope_there_is_no_access() {
    let world = World::new().await;
    let id = world.user("anna", "anna-password").await;
    let anna = text(&body(world.login("anna", "anna-password").await, 200).await["access_token"]);
    let admin_id = text(&crate::world::claims(&text(&world.admin().await["access_token"]))["user_id"]);
    let lookup = world.client("lookup").await;
    let refused = [
        world.get("/Users", &anna),
        world.get(&format!("/Users/{admin_id}"), &anna),
        world.get("/oauth/clients", &anna),
        world.get("/oauth/clients/cf", &anna),
        world.get("/Groups", &anna),
        world.post("/Users", &anna, &new_user("eve", "eve-password")),
        world.post("/Users", &lookup, &new_user("eve", "eve-password")),
        world.request(Method::DELETE, &format!("/Users/{admin_id}")).bearer_auth(&anna),
        world.request(Method::DELETE, &format!("/Users/{id}")).bearer_auth(&lookup),
        // every user's token carries `password.write`
        world
            .request(Method::PUT, &format!("/Users/{admin_id}/password"))
            .bearer_auth(&anna)
            .json(&json!({ "password": "taken-over" })),
        world.get("/userinfo", &lookup),
    ];
    for request in refused {
        let answer = request.send().await.unwrap();
        assert_eq!(body(answer, 403).await["error"], "insufficient_scope");
    }
    assert_eq!(world.get(&format!("/Users/{id}"), &anna).send().await.unwrap().status(), StatusCode::OK, "oneself");
    body(world.login("admin", ADMIN_PASSWORD).await, 200).await;
}

/// CVE-2021-22001: secrets in answers.
#[tokio::test]
async fn no_answer_shows_a_secret_or_hash() {
    let world = World::new().await;
    let (revoker, scim) = (world.client("revoker").await, world.client("scim").await);
    let id = world.user("anna", "anna-password").await;
    let mut texts = vec![];
    for (path, token) in [
        ("/oauth/clients", &revoker),
        ("/oauth/clients/lookup", &revoker),
        ("/Users", &scim),
        (&format!("/Users/{id}") as &str, &scim),
    ] {
        texts.push(world.get(path, token).send().await.unwrap().text().await.unwrap());
    }
    let deleted = world.request(Method::DELETE, &format!("/Users/{id}")).bearer_auth(&scim).send().await.unwrap();
    texts.push(deleted.text().await.unwrap());
    for text in texts {
        for secret in [SECRET, "sha256$", "argon2", "anna-password", "salt\"", "\"password\":"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert_eq!(world.get("/oauth/clients/nobody", &revoker).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

/// Who may ask what is in a token.
#[tokio::test]
async fn only_resource_servers_may_look_into_tokens() {
    let world = World::new().await;
    let login = world.admin().await;
    let token = text(&login["access_token"]);
    let ask = |path: &str, id: &str, token: &str| {
        world
            .request(Method::POST, path)
            .basic_auth(id, Some(if id == "cf" { "" } else { SECRET }))
            .form(&[("token", token)])
            .send()
    };
    let claims = body(ask("/check_token", "resource", &token).await.unwrap(), 200).await;
    assert_eq!(claims["user_name"], "admin");
    assert_eq!(body(ask("/introspect", "resource", &token).await.unwrap(), 200).await["active"], true);
    for (path, id) in [("/check_token", "cf"), ("/introspect", "cf"), ("/check_token", "lookup")] {
        body(ask(path, id, &token).await.unwrap(), 403).await;
    }
    let refresh = text(&login["refresh_token"]);
    assert_eq!(body(ask("/check_token", "resource", &refresh).await.unwrap(), 400).await["error"], "invalid_token");
    assert_eq!(body(ask("/introspect", "resource", &refresh).await.unwrap(), 200).await, json!({ "active": false }));
}

/// Limits on what is accepted at all.
#[tokio::test]
async fn bad_input_gets_a_clear_answer() {
    let world = World::new().await;
    let scim = world.client("scim").await;
    let mut no_email = new_user("x", "long-enough");
    no_email["emails"] = json!([]);
    for (new, error, status) in [
        (new_user("", "long-enough"), "invalid_scim_resource", 400),
        (new_user("a b", "long-enough"), "invalid_scim_resource", 400),
        (new_user("<script>", "long-enough"), "invalid_scim_resource", 400),
        (no_email, "invalid_scim_resource", 400),
        (new_user("x", "short"), "invalid_password", 422),
        (new_user("x", &"x".repeat(256)), "invalid_password", 422),
        (json!({ "userName": 7 }), "invalid_request", 400),
    ] {
        assert_eq!(body(world.post("/Users", &scim, &new).send().await.unwrap(), status).await["error"], error);
    }
    for form in [&[("grant_type", "implicit")][..], &[("username", "x")], &[("grant_type", "password"), ("username", "admin")]] {
        body(world.cf(form).await, 400).await;
    }
    let hint = "?login_hint=%7B%22origin%22%3A%22ldap%22%7D";
    let form = [("grant_type", "password"), ("username", "admin"), ("password", ADMIN_PASSWORD)];
    let request = world.request(Method::POST, &format!("/oauth/token{hint}")).header("Authorization", "Basic Y2Y6").form(&form);
    assert_eq!(
        body(request.send().await.unwrap(), 401).await["error_description"],
        "The origin provided in the login hint is invalid."
    );
    let big = "x".repeat(1 << 20);
    let answer = world.cf(&[("grant_type", "password"), ("username", "admin"), ("password", &big)]).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
