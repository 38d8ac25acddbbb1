//! Organizations, spaces, roles, users: who sees and does what, and one tenant learns nothing of another.

use super::{World, harness::user_guid};
use serde_json::{Value, json};

/// Makes an organization as administrator; returns its guid.
pub async fn org(world: &World, name: &str) -> String {
    world.post("admin", "/v3/organizations", json!({ "name": name })).await.expect(201)["guid"].as_str().unwrap().to_owned()
}

/// Makes a space as administrator; returns its guid.
pub async fn space(world: &World, org: &str, name: &str) -> String {
    let body = json!({ "name": name, "relationships": { "organization": { "data": { "guid": org } } } });
    world.post("admin", "/v3/spaces", body).await.expect(201)["guid"].as_str().unwrap().to_owned()
}

/// Gives a role as administrator; a role in a space brings `organization_user` of its organization with it.
pub async fn role(world: &World, user: &str, kind: &str, place: &str) -> Value {
    world.token(user);
    let name = if kind.starts_with("organization") { "organization" } else { "space" };
    if name == "space" {
        let shown = world.get("admin", &format!("/v3/spaces/{place}")).await.expect(200);
        let org = shown["relationships"]["organization"]["data"]["guid"].as_str().unwrap();
        world.post("admin", "/v3/roles", role_body(user, "organization_user", "organization", org)).await;
    }
    world.post("admin", "/v3/roles", role_body(user, kind, name, place)).await.expect(201)
}

pub fn role_body(user: &str, kind: &str, name: &str, place: &str) -> Value {
    let mut relationships = json!({ "user": { "data": { "username": user, "origin": "uaa" } } });
    relationships[name] = json!({ "data": { "guid": place } });
    json!({ "type": kind, "relationships": relationships })
}

fn names(list: &Value) -> Vec<&str> {
    list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect()
}

async fn a_taken_organization_name_is_refused_whatever_its_case(world: World) {
    org(&world, "Acme").await;
    let again = world.post("admin", "/v3/organizations", json!({ "name": "ACME" })).await;
    assert_eq!(again.detail(422), "Organization 'ACME' already exists.");
    let other = org(&world, "other").await;
    let renamed = world.patch("admin", &format!("/v3/organizations/{other}"), json!({ "name": "acme" })).await;
    assert_eq!(renamed.detail(422), "Organization name 'acme' is already taken.");
}

async fn a_taken_space_name_is_refused_in_its_organization_only(world: World) {
    let (a, b) = (org(&world, "a").await, org(&world, "b").await);
    space(&world, &a, "dev").await;
    space(&world, &b, "dev").await;
    let body = json!({ "name": "DEV", "relationships": { "organization": { "data": { "guid": a } } } });
    assert_eq!(world.post("admin", "/v3/spaces", body).await.detail(422), "Name must be unique per organization");
}

async fn names_that_nobody_would_find_again_are_refused(world: World) {
    let org = org(&world, "acme").await;
    let to = |kind: &str, guid: &str| json!({ kind: { "data": { "guid": guid } } });
    let space = space(&world, &org, "dev").await;
    let credentials = json!({ "type": "basic", "credentials": { "username": "u", "password": "p" } });
    let all = [
        ("organizations", json!({})),
        ("spaces", json!({ "relationships": to("organization", &org) })),
        ("apps", json!({ "relationships": to("space", &space) })),
        ("organization_quotas", json!({})),
        ("space_quotas", json!({ "relationships": to("organization", &org) })),
        ("service_instances", json!({ "type": "user-provided", "relationships": to("space", &space) })),
        ("service_brokers", json!({ "url": "http://127.0.0.1:1", "authentication": credentials })),
    ];
    for (path, mut body) in all {
        for (name, why) in [
            (" lead", "Name must not begin or end with a blank"),
            ("trail ", "Name must not begin or end with a blank"),
            ("o\u{1b}[31mred", "Name must not contain control characters"),
            ("a\nb", "Name must not contain control characters"),
        ] {
            body["name"] = name.into();
            assert_eq!(world.post("admin", &format!("/v3/{path}"), body.clone()).await.detail(422), why, "{path} {name:?}");
        }
    }
    let renamed = world.patch("admin", &format!("/v3/organizations/{org}"), json!({ "name": "acme " })).await;
    assert_eq!(renamed.detail(422), "Name must not begin or end with a blank");
    let found = world.get("admin", "/v3/organizations?names=%20acme").await.expect(200);
    assert_eq!(found["pagination"]["total_results"], 0, "what is asked for is not trimmed either");
}

async fn bodies_are_checked_strictly_and_all_problems_are_told(world: World) {
    let wrong = world.post("admin", "/v3/organizations", json!({ "nam": "x", "suspended": "no" })).await;
    assert_eq!(wrong.detail(422), "Unknown field(s): 'nam', Name can't be blank, Suspended must be a boolean");
    let request = world.request(reqwest::Method::POST, "admin", "/v3/organizations").body("{");
    assert_eq!(world.finish(request).await.detail(400), "Request invalid due to parse error: invalid request body");
    let query = world.get("admin", "/v3/organizations?per_page=5001").await;
    assert_eq!(query.detail(400), "The query parameter is invalid: Per page must be between 1 and 5000");
}

async fn pages_link_to_each_other_and_keep_the_filters(world: World) {
    for name in ["e", "d", "c", "b", "a"] {
        org(&world, name).await;
    }
    let mut seen = vec![];
    let mut next = "/v3/organizations?order_by=name&per_page=2&names=a,b,c,d,e".to_owned();
    for _ in 0..3 {
        let page = world.get("admin", &next).await.expect(200);
        assert_eq!(page["pagination"]["total_results"], 5);
        assert_eq!(page["pagination"]["total_pages"], 3);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        next = page["pagination"]["next"]["href"].as_str().unwrap_or_default().to_owned();
        assert!(next.is_empty() || next.contains("names=a%2Cb%2Cc%2Cd%2Ce"), "{next}");
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    assert_eq!(next, "");
    let beyond = world.get("admin", "/v3/organizations?page=9").await.expect(200);
    assert_eq!(beyond["resources"], json!([]));
}

async fn labels_select(world: World) {
    for (name, labels) in [("a", json!({ "tier": "gold" })), ("b", json!({ "tier": "lead" })), ("c", json!({}))] {
        world.post("admin", "/v3/organizations", json!({ "name": name, "metadata": { "labels": labels } })).await.expect(201);
    }
    for (selector, expected) in [
        ("tier", vec!["a", "b"]),
        ("!tier", vec!["c"]),
        ("tier=gold", vec!["a"]),
        ("tier!=gold", vec!["b", "c"]),
        ("tier in (gold,lead)", vec!["a", "b"]),
        ("tier notin (gold)", vec!["b", "c"]),
    ] {
        let path = format!("/v3/organizations?order_by=name&label_selector={}", selector.replace(' ', "%20"));
        assert_eq!(names(&world.get("admin", &path).await.expect(200)), expected, "{selector}");
    }
}

async fn one_tenant_learns_nothing_of_another(world: World) {
    let (mine, theirs) = (org(&world, "mine").await, org(&world, "theirs").await);
    let their_space = space(&world, &theirs, "secret").await;
    role(&world, "mia", "organization_manager", &mine).await;
    let their_role = role(&world, "theo", "space_developer", &their_space).await;
    let their_role = their_role["guid"].as_str().unwrap();
    for (path, what) in [
        (format!("/v3/organizations/{theirs}"), "Organization not found"),
        (format!("/v3/organizations/{theirs}/domains"), "Organization not found"),
        (format!("/v3/organizations/{theirs}/users"), "Organization not found"),
        (format!("/v3/organizations/{theirs}/usage_summary"), "Organization not found"),
        (format!("/v3/spaces/{their_space}"), "Space not found"),
        (format!("/v3/spaces/{their_space}/users"), "Space not found"),
        (format!("/v3/spaces/{their_space}/features/ssh"), "Space not found"),
        (format!("/v3/roles/{their_role}"), "Role not found"),
        (format!("/v3/users/{}", user_guid("theo")), "User not found"),
    ] {
        assert_eq!(world.get("mia", &path).await.detail(404), what, "{path}");
    }
    for path in [format!("/v3/organizations/{theirs}"), format!("/v3/spaces/{their_space}"), format!("/v3/roles/{their_role}")] {
        assert_eq!(world.delete("mia", &path).await.status, 404, "{path}");
    }
    let renamed = world.patch("mia", &format!("/v3/spaces/{their_space}"), json!({ "name": "x" })).await;
    assert_eq!(renamed.status, 404);
    assert_eq!(names(&world.get("mia", "/v3/organizations").await.expect(200)), ["mine"]);
    assert_eq!(world.get("mia", "/v3/spaces").await.expect(200)["pagination"]["total_results"], 0);
    let users = world.get("mia", "/v3/users").await.expect(200);
    assert_eq!(users["pagination"]["total_results"], 1);
    let roles = world.get("mia", &format!("/v3/roles?space_guids={their_space}")).await.expect(200);
    assert_eq!(roles["resources"], json!([]));
    // A foreign organization in a body reads as one that is not there.
    let body = json!({ "name": "x", "relationships": { "organization": { "data": { "guid": theirs } } } });
    let text = "Invalid organization. Ensure the organization exists and you have access to it.";
    assert_eq!(world.post("mia", "/v3/spaces", body).await.detail(422), text);
}

async fn each_role_may_do_what_the_matrix_says(world: World) {
    let org = org(&world, "acme").await;
    let space = space(&world, &org, "dev").await;
    for (user, kind) in [
        ("om", "organization_manager"),
        ("oa", "organization_auditor"),
        ("ob", "organization_billing_manager"),
        ("ou", "organization_user"),
    ] {
        role(&world, user, kind, &org).await;
    }
    for (user, kind) in [("sm", "space_manager"), ("sd", "space_developer"), ("sa", "space_auditor"), ("ss", "space_supporter")] {
        role(&world, user, kind, &space).await;
    }
    let space_path = format!("/v3/spaces/{space}");
    let org_path = format!("/v3/organizations/{org}");
    // user, show organization, show space, rename space, rename organization, delete space (by its status without doing it)
    for (user, show_org, show_space, rename_space, rename_org) in [
        ("admin-ro", 200, 200, 403, 403),
        ("auditor-ga", 200, 200, 403, 403),
        ("om", 200, 200, 200, 200),
        ("oa", 200, 404, 404, 403),
        ("ob", 200, 404, 404, 403),
        ("ou", 200, 404, 404, 403),
        ("sm", 200, 200, 200, 403),
        ("sd", 200, 200, 403, 403),
        ("sa", 200, 200, 403, 403),
        ("ss", 200, 200, 403, 403),
        ("nobody", 404, 404, 404, 404),
    ] {
        assert_eq!(world.get(user, &org_path).await.status, show_org, "{user} shows the organization");
        assert_eq!(world.get(user, &space_path).await.status, show_space, "{user} shows the space");
        assert_eq!(
            world.patch(user, &space_path, json!({ "name": "dev" })).await.status,
            rename_space,
            "{user} renames the space"
        );
        assert_eq!(
            world.patch(user, &org_path, json!({ "name": "acme" })).await.status,
            rename_org,
            "{user} renames the organization"
        );
        let create = json!({ "name": format!("of-{user}"), "relationships": { "organization": { "data": { "guid": org } } } });
        let expected = match user {
            "om" => 201,
            "nobody" => 422,
            _ => 403,
        };
        assert_eq!(world.post(user, "/v3/spaces", create).await.status, expected, "{user} makes a space");
        if user != "om" {
            assert_eq!(
                world.delete(user, &org_path).await.status,
                if user == "nobody" { 404 } else { 403 },
                "{user} deletes the organization"
            );
        }
    }
    assert_eq!(world.delete("om", &org_path).await.status, 403, "only administrators delete organizations");
}

async fn a_space_role_needs_a_role_in_the_organization_first(world: World) {
    let org = org(&world, "acme").await;
    let space = space(&world, &org, "dev").await;
    world.token("dora");
    let early = world.post("admin", "/v3/roles", role_body("dora", "space_developer", "space", &space)).await;
    assert_eq!(
        early.detail(422),
        "Users cannot be assigned roles in a space if they do not have a role in that space's organization."
    );
    role(&world, "dora", "space_developer", &space).await;
    let again = world.post("admin", "/v3/roles", role_body("dora", "space_developer", "space", &space)).await;
    assert_eq!(again.detail(422), "User 'dora' already has 'space_developer' role in space 'dev'.");
    let unknown = world.post("admin", "/v3/roles", role_body("ghost", "organization_user", "organization", &org)).await;
    assert_eq!(unknown.detail(422), "No user exists with the username 'ghost' and origin 'uaa'.");

    let path = format!("/v3/roles?user_guids={}&types=organization_user&organization_guids={org}", user_guid("dora"));
    let membership = world.get("admin", &path).await.expect(200);
    let membership = membership["resources"][0]["guid"].as_str().unwrap().to_owned();
    let refused = world.delete("admin", &format!("/v3/roles/{membership}")).await;
    assert_eq!(refused.detail(422), "Cannot delete organization_user role while user has roles in spaces in that organization.");
}

async fn role_lists_name_users_for_the_client(world: World) {
    let org = org(&world, "acme").await;
    role(&world, "mia", "organization_manager", &org).await;
    let list = world.get("mia", &format!("/v3/roles?organization_guids={org}&include=user")).await.expect(200);
    assert_eq!(list["resources"][0]["type"], "organization_manager");
    assert_eq!(list["included"]["users"][0]["username"], "mia");
    assert_eq!(list["included"]["users"][0]["origin"], "uaa");
    let gone = world.delete("admin", &format!("/v3/roles/{}", list["resources"][0]["guid"].as_str().unwrap())).await;
    assert_eq!(world.job(gone).await["state"], "COMPLETE");
    assert_eq!(world.get("mia", &format!("/v3/organizations/{org}")).await.status, 404);
}

async fn a_suspended_organization_is_read_only_for_all_but_administrators(world: World) {
    let org = org(&world, "acme").await;
    let space = space(&world, &org, "dev").await;
    role(&world, "om", "organization_manager", &org).await;
    let own = world.patch("om", &format!("/v3/organizations/{org}"), json!({ "suspended": true })).await;
    assert_eq!(own.status, 403);
    world.patch("admin", &format!("/v3/organizations/{org}"), json!({ "suspended": true })).await.expect(200);
    assert_eq!(world.get("om", &format!("/v3/spaces/{space}")).await.status, 200);
    let renamed = world.patch("om", &format!("/v3/spaces/{space}"), json!({ "name": "prod" })).await;
    assert_eq!(renamed.body["errors"][0]["code"], 10017);
    assert_eq!(renamed.detail(403), "The organization is suspended");
    world.patch("admin", &format!("/v3/spaces/{space}"), json!({ "name": "prod" })).await.expect(200);
}

async fn deleting_an_organization_takes_all_with_it_and_leaves_its_trace(world: World) {
    let org = org(&world, "acme").await;
    let space = space(&world, &org, "dev").await;
    role(&world, "dora", "space_developer", &space).await;
    let domain = json!({ "name": "acme.example.com", "relationships": { "organization": { "data": { "guid": org } } } });
    world.post("admin", "/v3/domains", domain).await.expect(201);
    let job = world.delete("admin", &format!("/v3/organizations/{org}")).await;
    assert_eq!(world.job(job).await["state"], "COMPLETE");
    for path in [format!("/v3/organizations/{org}"), format!("/v3/spaces/{space}")] {
        assert_eq!(world.get("admin", &path).await.status, 404);
    }
    let left = world.get("admin", "/v3/domains?names=acme.example.com").await.expect(200);
    assert_eq!(left["resources"], json!([]));
    let events = world.get("admin", &format!("/v3/audit_events?organization_guids={org}&order_by=-created_at")).await.expect(200);
    let kinds: Vec<&str> = events["resources"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"audit.organization.delete-request") && kinds.contains(&"audit.space.delete-request"), "{kinds:?}");
    org_again(&world).await;
}

async fn org_again(world: &World) {
    org(world, "acme").await;
}

async fn users_are_made_by_administrators_and_found_by_name(world: World) {
    world.token("zoe");
    let made = world.post("admin", "/v3/users", json!({ "guid": user_guid("zoe") })).await.expect(201);
    assert_eq!(made["username"], "zoe");
    assert_eq!(made["presentation_name"], "zoe");
    let again = world.post("admin", "/v3/users", json!({ "guid": user_guid("zoe") })).await;
    assert_eq!(again.detail(422), format!("User with guid '{}' already exists.", user_guid("zoe")));
    assert_eq!(world.post("mia", "/v3/users", json!({ "guid": "x" })).await.status, 403);
    let found = world.get("admin", "/v3/users?usernames=ZOE&origins=uaa").await.expect(200);
    assert_eq!(found["pagination"]["total_results"], 1);
    let found = world.get("admin", "/v3/users?partial_usernames=o").await.expect(200);
    assert_eq!(found["resources"][0]["username"], "zoe");
}

async fn events_are_for_auditors_and_developers_not_for_managers(world: World) {
    let org = org(&world, "acme").await;
    let space = space(&world, &org, "dev").await;
    role(&world, "om", "organization_manager", &org).await;
    role(&world, "oa", "organization_auditor", &org).await;
    role(&world, "sm", "space_manager", &space).await;
    role(&world, "sd", "space_developer", &space).await;
    let count = async |user: &str| {
        let list = world.get(user, "/v3/audit_events?types=audit.space.create").await.expect(200);
        list["pagination"]["total_results"].as_i64().unwrap()
    };
    assert_eq!([count("om").await, count("sm").await, count("nobody").await], [0, 0, 0]);
    assert_eq!([count("oa").await, count("sd").await, count("admin").await], [1, 1, 1]);
    let event = &world.get("oa", "/v3/audit_events?types=audit.space.create").await.expect(200)["resources"][0];
    assert_eq!(event["target"], json!({ "guid": space, "type": "space", "name": "dev" }));
    assert_eq!(event["actor"]["name"], "admin@cf.test");
    let path = format!("/v3/audit_events/{}", event["guid"].as_str().unwrap());
    assert_eq!(world.get("sm", &path).await.detail(404), "Event not found");
}

async fn a_list_costs_the_same_number_of_statements_whatever_it_holds(world: World) {
    let home = org(&world, "home").await;
    role(&world, "mia", "organization_manager", &home).await;
    let paths = [
        "/v3/organizations".to_owned(),
        "/v3/spaces?include=organization".to_owned(),
        "/v3/roles?include=user,organization,space".to_owned(),
        "/v3/users".to_owned(),
        "/v3/domains".to_owned(),
        "/v3/routes?include=domain,space".to_owned(),
        "/v3/organization_quotas".to_owned(),
        "/v3/audit_events".to_owned(),
    ];
    let cost = async || {
        let mut costs = vec![];
        for path in &paths {
            let before = world.api.store.queries();
            world.get("mia", path).await.expect(200);
            costs.push(world.api.store.queries() - before);
        }
        costs
    };
    let domain = world.get("admin", "/v3/domains").await.expect(200)["resources"][0]["guid"].clone();
    fill(&world, &home, &domain, 1).await;
    cost().await;
    let few = cost().await;
    for number in 2..8 {
        fill(&world, &home, &domain, number).await;
    }
    assert_eq!(few, cost().await);
}

async fn fill(world: &World, org: &str, domain: &Value, number: u32) {
    let space = space(world, org, &format!("s{number}")).await;
    role(world, &format!("user{number}"), "space_developer", &space).await;
    let body = json!({ "host": format!("h{number}"), "relationships": { "space": { "data": { "guid": space } }, "domain": { "data": { "guid": domain } } } });
    world.post("admin", "/v3/routes", body).await.expect(201);
}

async fn a_deletion_that_cannot_finish_deletes_nothing_and_says_why(world: World) {
    let (owner, guest) = (org(&world, "owner").await, org(&world, "guest").await);
    let kept = space(&world, &owner, "dev").await;
    let domain = json!({ "name": "owner.example.com", "relationships": { "organization": { "data": { "guid": owner } } } });
    let domain = world.post("admin", "/v3/domains", domain).await.expect(201)["guid"].as_str().unwrap().to_owned();
    let share = format!("/v3/domains/{domain}/relationships/shared_organizations");
    world.post("admin", &share, json!({ "data": [{ "guid": guest }] })).await.expect(200);
    let answer = world.delete("admin", &format!("/v3/organizations/{owner}")).await;
    let job = world.job(answer).await;
    assert_eq!((&job["state"], &job["operation"]), (&json!("FAILED"), &json!("organization.delete")));
    assert_eq!(
        (&job["errors"][0]["code"], &job["errors"][0]["title"]),
        (&json!(290_010), &json!("CF-OrganizationDeletionFailed"))
    );
    let text = "Deletion of organization owner failed because one or more resources within could not be deleted.\n\n\
                Domain 'owner.example.com' is shared with other organizations. Unshare before deleting.";
    assert_eq!(job["errors"][0]["detail"], text);
    assert_eq!(world.get("admin", &format!("/v3/spaces/{kept}")).await.status, 200);
}

async fn changes_of_one_thing_at_once_do_not_undo_each_other(world: World) {
    let org = org(&world, "acme").await;
    let path = format!("/v3/organizations/{org}");
    let label = |n: u32| json!({ "metadata": { "labels": { format!("l{n}"): "x" } } });
    let changes = (0..8).map(|n| {
        let (world, path) = (&world, &path);
        async move {
            let change = if n == 3 { json!({ "name": "renamed" }) } else { label(n) };
            world.patch("admin", path, change).await.expect(200)
        }
    });
    futures::future::join_all(changes).await;
    let shown = world.get("admin", &path).await.expect(200);
    assert_eq!(shown["name"], "renamed");
    assert_eq!(shown["metadata"]["labels"].as_object().unwrap().len(), 7);
}

super::scenarios! {
    a_deletion_that_cannot_finish_deletes_nothing_and_says_why,
    changes_of_one_thing_at_once_do_not_undo_each_other,
    a_taken_organization_name_is_refused_whatever_its_case,
    a_taken_space_name_is_refused_in_its_organization_only,
    bodies_are_checked_strictly_and_all_problems_are_told,
    names_that_nobody_would_find_again_are_refused,
    pages_link_to_each_other_and_keep_the_filters,
    labels_select,
    one_tenant_learns_nothing_of_another,
    each_role_may_do_what_the_matrix_says,
    a_space_role_needs_a_role_in_the_organization_first,
    role_lists_name_users_for_the_client,
    a_suspended_organization_is_read_only_for_all_but_administrators,
    deleting_an_organization_takes_all_with_it_and_leaves_its_trace,
    users_are_made_by_administrators_and_found_by_name,
    events_are_for_auditors_and_developers_not_for_managers,
    a_list_costs_the_same_number_of_statements_whatever_it_holds,
}
