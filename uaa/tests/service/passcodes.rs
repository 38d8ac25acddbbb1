//! `cf login --sso`: a passcode from the browser in place of a password.

use crate::{
    browser::Browser,
    world::{World, body, claims, text},
};

async fn passcode(browser: &mut Browser<'_>) -> String {
    let page = browser.get("/passcode").await;
    let after = page.text.split_once("<p class=\"passcode\"><code>").unwrap_or_else(|| panic!("{page:?}")).1;
    after.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_passcode_logs_the_command_line_client_in_once() {
    let world = World::new().await;
    let anna = world.user("anna", "anna-password").await;
    let mut browser = Browser::new(&world);
    let to_login = browser.get("/passcode").await;
    assert_eq!(to_login.location(), "/login?next=/passcode");
    let back = browser.log_in("/login?next=/passcode", "anna", "anna-password").await;
    assert_eq!(back.location(), "/passcode");
    let code = passcode(&mut browser).await;
    assert_eq!(code.len(), 16);
    world.later(200);
    let typed = format!(" {code}\n");
    let tokens = body(world.cf(&[("grant_type", "password"), ("passcode", &typed)]).await, 200).await;
    let access = claims(&text(&tokens["access_token"]));
    assert_eq!((access["user_id"].as_str(), access["grant_type"].as_str()), (Some(anna.as_str()), Some("password")));
    assert_eq!(access["auth_time"], 1_800_000_000);
    body(world.refresh(&text(&tokens["refresh_token"])).await, 200).await;
    let again = body(world.cf(&[("grant_type", "password"), ("passcode", &code)]).await, 401).await;
    assert_eq!((again["error"].as_str(), again["error_description"].as_str()), (Some("unauthorized"), Some("Invalid passcode")));
}

#[tokio::test]
async fn a_passcode_ends_after_five_minutes_with_the_next_one_and_with_the_password() {
    let world = World::new().await;
    let id = world.user("anna", "anna-password").await;
    let mut browser = Browser::logged_in(&world, "anna", "anna-password").await;
    let refused = async |code: &str| body(world.cf(&[("grant_type", "password"), ("passcode", code)]).await, 401).await;
    let first = passcode(&mut browser).await;
    let second = passcode(&mut browser).await;
    refused(&first).await;
    world.later(300);
    refused(&second).await;
    let third = passcode(&mut browser).await;
    let scim = world.client("scim").await;
    let change = serde_json::json!({ "password": "another-password" });
    world.request(reqwest::Method::PUT, &format!("/Users/{id}/password")).bearer_auth(scim).json(&change).send().await.unwrap();
    refused(&third).await;
    for wrong in ["", "wrong", &"A".repeat(16), &"x".repeat(10_000)] {
        refused(wrong).await;
    }
}
