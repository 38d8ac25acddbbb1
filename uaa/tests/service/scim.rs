//! Users and groups; the list that touches SQL runs on both databases.

use crate::world::{World, body, new_user, text};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn users_and_groups_work_on_sqlite() {
    everything(World::new().await).await;
}

#[tokio::test]
async fn users_and_groups_work_on_postgres() {
    if let Some(world) = World::on_postgres().await {
        everything(world).await;
    }
}

async fn everything(world: World) {
    let scim = world.client("scim").await;
    made_found_and_deleted(&world, &scim).await;
    filtered(&world, &scim).await;
    grouped(&world, &scim).await;
    changed(&world, &scim).await;
    let login = world.admin().await;
    body(world.refresh(&text(&login["refresh_token"])).await, 200).await;
}

async fn made_found_and_deleted(world: &World, scim: &str) {
    let answer = world.post("/Users", scim, &new_user("Berta", "berta-password")).send().await.unwrap();
    assert_eq!(answer.headers()["ETag"], "\"0\"");
    let made = body(answer, 201).await;
    let id = text(&made["id"]);
    assert_eq!((made["userName"].as_str(), made["origin"].as_str()), (Some("Berta"), Some("uaa")));
    assert_eq!(made["meta"]["created"], "2027-01-15T08:00:00.000Z");
    assert!(made.get("password").is_none());
    assert_eq!(body(world.get(&format!("/Users/{id}"), scim).send().await.unwrap(), 200).await["id"], made["id"]);
    let taken = body(world.post("/Users", scim, &new_user("BERTA", "berta-password")).send().await.unwrap(), 409).await;
    assert_eq!((taken["error"].as_str(), &taken["user_id"]), (Some("scim_resource_already_exists"), &made["id"]));
    let gone = world.request(Method::DELETE, &format!("/Users/{id}")).bearer_auth(scim);
    assert_eq!(body(gone.send().await.unwrap(), 200).await["id"], made["id"]);
    let missing = body(world.get(&format!("/Users/{id}"), scim).send().await.unwrap(), 404).await;
    assert_eq!(missing["error"], "scim_resource_not_found");
    body(world.login("Berta", "berta-password").await, 401).await;
}

async fn filtered(world: &World, scim: &str) {
    for name in ["carl", "carla", "dora_1", "dora%2", "doraX3"].iter().filter(|name| !name.contains('%')) {
        world.user(name, "some-password").await;
        world.later(1);
    }
    let find = async |filter: &str| -> Vec<String> {
        let answer = world.get("/Users", scim).query(&[("filter", filter), ("sortBy", "userName")]).send().await.unwrap();
        let list = body(answer, 200).await;
        list["resources"].as_array().unwrap().iter().map(|user| text(&user["userName"])).collect()
    };
    assert_eq!(find(r#"userName eq "CARL""#).await, ["carl"]);
    assert_eq!(find(r#"userName eq "carl" and origin eq "uaa""#).await, ["carl"]);
    assert_eq!(find(r#"userName eq "carl" and origin eq "ldap""#).await, [""; 0]);
    assert_eq!(find(r#"userName co "arl""#).await, ["carl", "carla"]);
    assert_eq!(find(r#"username sw "dora_""#).await, ["dora_1"], "the underscore means itself");
    assert_eq!(
        find(r#"( username eq "carl" or username eq "carla" ) and ( origin eq "uaa" or origin eq "x" )"#).await,
        ["carl", "carla"]
    );
    assert_eq!(find(r#"meta.created gt "2027-01-15T08:00:02.500Z""#).await, ["doraX3"]);
    assert_eq!(find("active eq false").await, [""; 0]);
    assert_eq!(find("id pr").await.len(), 5);
    for bad in ["userName", "password_hash pr", "userName eq 'carl'", "salt eq \"x\"", "userName ne \"x\""] {
        let answer = world.get("/Users", scim).query(&[("filter", bad)]).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    let query = [("count", "2"), ("startIndex", "2"), ("sortBy", "userName"), ("attributes", "userName,id")];
    let page = body(world.get("/Users", scim).query(&query).send().await.unwrap(), 200).await;
    assert_eq!(
        (page["totalResults"].as_u64(), page["itemsPerPage"].as_u64(), page["startIndex"].as_u64()),
        (Some(5), Some(2), Some(2))
    );
    let first: &Value = &page["resources"][0];
    assert_eq!(first["userName"], "carl");
    assert_eq!(first.as_object().unwrap().len(), 2);
}

async fn grouped(world: &World, scim: &str) {
    let user = world.user("emil", "emil-password").await;
    let query = [("filter", r#"displayName eq "cloud_controller.admin""#)];
    let list = body(world.get("/Groups", scim).query(&query).send().await.unwrap(), 200).await;
    let group = text(&list["resources"][0]["id"]);
    let members = format!("/Groups/{group}/members");
    let member = json!({ "value": user, "type": "USER", "origin": "uaa" });
    body(world.post(&members, scim, &member).send().await.unwrap(), 201).await;
    body(world.post(&members, scim, &member).send().await.unwrap(), 409).await;
    let login = body(world.login("emil", "emil-password").await, 200).await;
    assert!(text(&login["scope"]).contains("cloud_controller.admin"));
    let out = world.request(Method::DELETE, &format!("{members}/{user}")).bearer_auth(scim);
    body(out.send().await.unwrap(), 200).await;
    // what the user lost, the next token has not
    let next = body(world.refresh(&text(&login["refresh_token"])).await, 200).await;
    assert!(!text(&next["scope"]).contains("cloud_controller.admin"));
    let made = body(world.post("/Groups", scim, &json!({ "displayName": "team.blue" })).send().await.unwrap(), 201).await;
    assert_eq!(made["members"], json!([]));
    body(world.post("/Groups", scim, &json!({ "displayName": "team.blue" })).send().await.unwrap(), 409).await;
}

async fn changed(world: &World, scim: &str) {
    let id = world.user("frida", "frida-password").await;
    let login = body(world.login("frida", "frida-password").await, 200).await;
    let own = text(&login["access_token"]);
    let put = |path: String, token: &str, body: Value| world.request(Method::PUT, &path).bearer_auth(token).json(&body);
    let path = format!("/Users/{id}/password");
    body(put(path.clone(), &own, json!({ "oldPassword": "wrong", "password": "new-password" })).send().await.unwrap(), 401).await;
    let same = put(path.clone(), &own, json!({ "oldPassword": "frida-password", "password": "frida-password" }));
    assert_eq!(body(same.send().await.unwrap(), 422).await["error"], "invalid_password");
    body(
        put(path.clone(), &own, json!({ "oldPassword": "frida-password", "password": "new-password" })).send().await.unwrap(),
        200,
    )
    .await;
    // tokens of before are over
    assert!(!world.works(&own).await);
    body(world.refresh(&text(&login["refresh_token"])).await, 401).await;
    body(world.login("frida", "frida-password").await, 401).await;

    let login = body(world.login("frida", "new-password").await, 200).await;
    let mut user = body(world.get(&format!("/Users/{id}"), scim).send().await.unwrap(), 200).await;
    user["active"] = json!(false);
    body(put(format!("/Users/{id}"), scim, user.clone()).send().await.unwrap(), 400).await;
    body(put(format!("/Users/{id}"), scim, user.clone()).header("If-Match", "77").send().await.unwrap(), 412).await;
    body(put(format!("/Users/{id}"), scim, user).header("If-Match", "*").send().await.unwrap(), 200).await;
    assert!(!world.works(&text(&login["access_token"])).await);
    body(world.refresh(&text(&login["refresh_token"])).await, 401).await;
    assert_eq!(body(world.login("frida", "new-password").await, 401).await["error_description"], "Bad credentials");
}
