//! Domains, routes and destinations.

use super::{World, tenancy};
use messages::{Message, hints::RoutesUpdated};
use serde_json::{Value, json};

struct Place {
    world: World,
    org: String,
    space: String,
    domain: String,
}

async fn place(world: World) -> Place {
    let org = tenancy::org(&world, "acme").await;
    let space = tenancy::space(&world, &org, "dev").await;
    tenancy::role(&world, "dora", "space_developer", &space).await;
    let domains = world.get("dora", &format!("/v3/organizations/{org}/domains")).await.expect(200);
    assert_eq!(domains["resources"][0]["name"], "app.test");
    let domain = domains["resources"][0]["guid"].as_str().unwrap().to_owned();
    Place { world, org, space, domain }
}

fn route(space: &str, domain: &str, host: &str, path: &str) -> Value {
    let relationships = json!({ "space": { "data": { "guid": space } }, "domain": { "data": { "guid": domain } } });
    let mut body = json!({ "relationships": relationships });
    if !host.is_empty() {
        body["host"] = host.into();
    }
    if !path.is_empty() {
        body["path"] = path.into();
    }
    body
}

async fn a_route_reads_as_the_client_expects_it(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    let made = world.post("dora", "/v3/routes", route(&space, &domain, "Shop", "/Cart")).await.expect(201);
    assert_eq!(made["url"], "Shop.app.test/Cart");
    assert_eq!(made["protocol"], "http");
    assert_eq!(made["port"], Value::Null);
    assert_eq!(made["destinations"], json!([]));
    assert!(made.get("options").is_none());
    let found = world
        .get("dora", &format!("/v3/routes?domain_guids={domain}&hosts=shop&paths=/cart&per_page=1&page=1"))
        .await
        .expect(200);
    assert_eq!(found["pagination"]["total_results"], 1);
    let none = world.get("dora", &format!("/v3/routes?domain_guids={domain}&hosts=shop&paths=")).await.expect(200);
    assert_eq!(none["pagination"]["total_results"], 0);
}

async fn a_taken_route_is_refused(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    world.post("dora", "/v3/routes", route(&space, &domain, "shop", "")).await.expect(201);
    let again = world.post("dora", "/v3/routes", route(&space, &domain, "SHOP", "")).await;
    assert_eq!(again.detail(422), "Route already exists with host 'SHOP' for domain 'app.test'.");
    world.post("dora", "/v3/routes", route(&space, &domain, "shop", "/cart")).await.expect(201);
    let again = world.post("dora", "/v3/routes", route(&space, &domain, "shop", "/cart")).await;
    assert_eq!(again.detail(422), "Route already exists with host 'shop' and path '/cart' for domain 'app.test'.");
}

async fn a_host_taken_by_another_space_is_refused_with_any_path(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    world.post("dora", "/v3/routes", route(&space, &domain, "shop", "")).await.expect(201);
    let other = tenancy::org(&world, "other").await;
    let other = tenancy::space(&world, &other, "dev").await;
    tenancy::role(&world, "eve", "space_developer", &other).await;
    let same = world.post("eve", "/v3/routes", route(&other, &domain, "shop", "")).await;
    assert_eq!(same.detail(422), "Route already exists with host 'shop' for domain 'app.test'.");
    let below = world.post("eve", "/v3/routes", route(&other, &domain, "shop", "/evil")).await;
    assert_eq!(
        below.detail(422),
        "domain_id and host host_and_domain_taken_different_space: the host 'shop' of the domain 'app.test' belongs to a route of \
         another space, with all paths below it. Choose another host, or delete that route first."
    );
    // Eve may learn that the name is taken, and nothing else.
    let reserved = world.get("eve", &format!("/v3/domains/{domain}/route_reservations?host=shop")).await.expect(200);
    assert_eq!(reserved["matching_route"], true);
    let free = world.get("eve", &format!("/v3/domains/{domain}/route_reservations?host=free")).await.expect(200);
    assert_eq!(free["matching_route"], false);
    assert_eq!(world.get("eve", "/v3/routes").await.expect(200)["resources"], json!([]));
}

async fn routes_keep_to_the_rules_of_shared_domains(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    let refused =
        async |host: &str, path: &str| world.post("dora", "/v3/routes", route(&space, &domain, host, path)).await.detail(422);
    assert_eq!(refused("", "").await, "Missing host. Routes in shared domains must have a host defined.");
    assert!(refused("*", "").await.starts_with("You do not have sufficient permissions to create a route with a wildcard host"));
    assert!(refused("a.b", "").await.starts_with("Host must be either \"*\""));
    assert!(refused(&"h".repeat(64), "").await.starts_with("Host cannot exceed 63 characters"));
    assert_eq!(refused("a", "/").await, "Path cannot be exactly '/'");
    assert_eq!(refused("a", "/b?c").await, "Path cannot contain '?'");
    world.post("admin", "/v3/routes", route(&space, &domain, "*", "")).await.expect(201);
}

async fn names_of_the_platform_are_nobodys(world: World) {
    let Place { world, org, space, .. } = place(world).await;
    let system = world.post("admin", "/v3/domains", json!({ "name": "cf.test" })).await.expect(201);
    let system = system["guid"].as_str().unwrap();
    for host in ["api", "UAA", "login", "log-cache"] {
        let made = world.post("admin", "/v3/routes", route(&space, system, host, "")).await;
        assert_eq!(made.detail(422), "Route conflicts with a reserved system route.");
    }
    tenancy::role(&world, "om", "organization_manager", &org).await;
    let private = |name: &str| json!({ "name": name, "relationships": { "organization": { "data": { "guid": org } } } });
    for name in ["cf.test", "api.cf.test", "x.api.cf.test", "mine.cf.test"] {
        assert!([422].contains(&world.post("om", "/v3/domains", private(name)).await.status), "{name}");
    }
    let text = world.post("om", "/v3/domains", private("api.cf.test")).await.detail(422);
    assert_eq!(
        text,
        "The domain name \"api.cf.test\" cannot be created because \"api.cf.test\" is already reserved by the system"
    );
}

async fn a_domain_cannot_stand_in_anothers_way(world: World) {
    let Place { world, org, space, domain } = place(world).await;
    let other = tenancy::org(&world, "other").await;
    tenancy::role(&world, "om", "organization_manager", &org).await;
    tenancy::role(&world, "eve", "organization_manager", &other).await;
    let private =
        |org: &str, name: &str| json!({ "name": name, "relationships": { "organization": { "data": { "guid": org } } } });
    world.post("om", "/v3/domains", private(&org, "shop.example.com")).await.expect(201);
    let taken = world.post("eve", "/v3/domains", private(&other, "Shop.Example.com")).await;
    assert_eq!(taken.detail(422), "The domain name \"shop.example.com\" is already in use");
    let below = world.post("eve", "/v3/domains", private(&other, "x.shop.example.com")).await.detail(422);
    assert!(below.ends_with("because \"shop.example.com\" is already reserved by another domain"), "{below}");
    let above = world.post("eve", "/v3/domains", private(&other, "example.com")).await.detail(422);
    assert!(above.ends_with("because \"shop.example.com\" is already reserved by another domain"), "{above}");
    world.post("dora", "/v3/routes", route(&space, &domain, "blog", "")).await.expect(201);
    let route_taken = world.post("eve", "/v3/domains", private(&other, "blog.app.test")).await.detail(422);
    assert!(route_taken.ends_with("is already reserved by a route"), "{route_taken}");
    // And what is private stays unseen.
    let seen = world.get("eve", "/v3/domains").await.expect(200);
    assert_eq!(seen["pagination"]["total_results"], 1);
    world.post("om", "/v3/domains", json!({ "name": "shared.example.org" })).await.expect(403);
}

async fn a_private_domain_shared_with_another_organization_can_be_used_there(world: World) {
    let Place { world, org, .. } = place(world).await;
    let other = tenancy::org(&world, "other").await;
    let their_space = tenancy::space(&world, &other, "dev").await;
    tenancy::role(&world, "eve", "space_developer", &their_space).await;
    let body = json!({ "name": "acme.example.com", "relationships": { "organization": { "data": { "guid": org } } } });
    let domain = world.post("admin", "/v3/domains", body).await.expect(201)["guid"].as_str().unwrap().to_owned();
    assert_eq!(world.get("eve", &format!("/v3/domains/{domain}")).await.detail(404), "Domain not found");
    let early = world.post("eve", "/v3/routes", route(&their_space, &domain, "x", "")).await;
    assert_eq!(early.detail(422), "Invalid domain. Ensure that the domain exists and you have access to it.");
    let share = format!("/v3/domains/{domain}/relationships/shared_organizations");
    world.post("admin", &share, json!({ "data": [{ "guid": other }] })).await.expect(200);
    let made = world.post("eve", "/v3/routes", route(&their_space, &domain, "", "")).await.expect(201);
    assert_eq!(made["url"], "acme.example.com");
    let refused = world.delete("admin", &format!("{share}/{other}")).await;
    assert_eq!(
        refused.detail(422),
        "This domain has associated routes in this organization. Delete the routes before unsharing."
    );
    let gone = world.delete("eve", &format!("/v3/routes/{}", made["guid"].as_str().unwrap())).await;
    assert_eq!(world.job(gone).await["state"], "COMPLETE");
    assert_eq!(world.delete("admin", &format!("{share}/{other}")).await.status, 204);
}

async fn two_who_make_the_same_route_at_once_do_not_both_get_it(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    let made =
        futures::future::join_all((0..6).map(|_| world.post("dora", "/v3/routes", route(&space, &domain, "race", "")))).await;
    let mut statuses: Vec<u16> = made.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 422, 422, 422, 422, 422]);
}

async fn a_quota_bounds_the_routes_of_an_organization(world: World) {
    let Place { world, org, space, domain } = place(world).await;
    let quota = world
        .post("admin", "/v3/organization_quotas", json!({ "name": "small", "routes": { "total_routes": 1 } }))
        .await
        .expect(201);
    assert_eq!(quota["apps"]["total_memory_in_mb"], Value::Null);
    assert_eq!(quota["services"]["paid_services_allowed"], true);
    let apply = format!("/v3/organization_quotas/{}/relationships/organizations", quota["guid"].as_str().unwrap());
    world.post("admin", &apply, json!({ "data": [{ "guid": org }] })).await.expect(200);
    world.post("dora", "/v3/routes", route(&space, &domain, "a", "")).await.expect(201);
    let second = world.post("dora", "/v3/routes", route(&space, &domain, "b", "")).await;
    assert_eq!(second.detail(422), "Routes quota exceeded for organization 'acme'.");
}

async fn roles_without_write_access_see_routes_and_change_none(world: World) {
    let Place { world, org, space, domain } = place(world).await;
    let made = world.post("dora", "/v3/routes", route(&space, &domain, "a", "")).await.expect(201);
    let path = format!("/v3/routes/{}", made["guid"].as_str().unwrap());
    tenancy::role(&world, "oa", "organization_auditor", &org).await;
    tenancy::role(&world, "ou", "organization_user", &org).await;
    tenancy::role(&world, "sa", "space_auditor", &space).await;
    tenancy::role(&world, "ss", "space_supporter", &space).await;
    for (user, show, delete) in
        [("oa", 200, 403), ("ou", 404, 404), ("sa", 200, 403), ("x-ro", 200, 403), ("nobody", 404, 404), ("ss", 200, 202)]
    {
        assert_eq!(world.get(user, &path).await.status, show, "{user}");
        assert_eq!(world.delete(user, &path).await.status, delete, "{user}");
    }
}

async fn unmapped_routes_of_a_space_go_at_once(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    for host in ["a", "b"] {
        world.post("dora", "/v3/routes", route(&space, &domain, host, "")).await.expect(201);
    }
    let all = world.delete("dora", &format!("/v3/spaces/{space}/routes")).await;
    assert_eq!(
        all.detail(422),
        "Mass delete not supported for routes. Use 'unmapped=true' parameter to delete all unmapped routes."
    );
    let job = world.delete("dora", &format!("/v3/spaces/{space}/routes?unmapped=true")).await;
    assert_eq!(world.job(job).await["operation"], "space.delete_unmapped_routes");
    assert_eq!(world.get("dora", "/v3/routes").await.expect(200)["resources"], json!([]));
}

async fn app(world: &World, space: &str, name: &str) -> String {
    let body = json!({ "name": name, "relationships": { "space": { "data": { "guid": space } } } });
    world.post("dora", "/v3/apps", body).await.expect(201)["guid"].as_str().unwrap().to_owned()
}

async fn mapping_tells_the_deas_that_run_the_app(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    let app = app(&world, &space, "shop").await;
    let made = world.post("dora", "/v3/routes", route(&space, &domain, "shop", "")).await.expect(201);
    let path = format!("/v3/routes/{}/destinations", made["guid"].as_str().unwrap());
    let mut heard = world.bus.subscribe(RoutesUpdated::SUBJECT).await.unwrap();
    let wanted = json!({ "destinations": [{ "app": { "guid": app }, "protocol": "http1", "port": 8080 }] });
    let mapped = world.post("dora", &path, wanted.clone()).await.expect(200);
    let destination = &mapped["destinations"][0];
    assert_eq!(destination["app"], json!({ "guid": app, "process": { "type": "web" } }));
    assert_eq!(
        (&destination["port"], &destination["protocol"], &destination["weight"]),
        (&json!(8080), &json!("http1"), &Value::Null)
    );
    let hint: RoutesUpdated = heard.next().await.unwrap().read().unwrap();
    assert_eq!(hint.app.to_string(), app);
    // Doing it again changes nothing.
    let again = world.post("dora", &path, wanted).await.expect(200);
    assert_eq!(again["destinations"].as_array().unwrap().len(), 1);
    let of_app = world.get("dora", &format!("/v3/apps/{app}/routes")).await.expect(200);
    assert_eq!(of_app["resources"][0]["url"], "shop.app.test");
    let one = format!("{path}/{}", destination["guid"].as_str().unwrap());
    assert_eq!(world.delete("dora", &one).await.status, 204);
    let _: RoutesUpdated = heard.next().await.unwrap().read().unwrap();
    let text = "Unable to unmap route from destination. Ensure the route has a destination with this guid.";
    assert_eq!(world.delete("dora", &one).await.detail(422), text);
    let events = world
        .get("dora", &format!("/v3/audit_events?target_guids={app}&types=audit.app.map-route,audit.app.unmap-route"))
        .await
        .expect(200);
    assert_eq!(events["pagination"]["total_results"], 2);
}

async fn a_route_leads_to_apps_of_its_own_space_only(world: World) {
    let Place { world, org, space, domain } = place(world).await;
    let other = tenancy::space(&world, &org, "other").await;
    tenancy::role(&world, "dora", "space_developer", &other).await;
    let theirs = tenancy::org(&world, "theirs").await;
    let theirs = tenancy::space(&world, &theirs, "dev").await;
    let body = json!({ "name": "secret", "relationships": { "space": { "data": { "guid": theirs } } } });
    let secret = world.post("admin", "/v3/apps", body).await.expect(201)["guid"].as_str().unwrap().to_owned();
    let near = app(&world, &other, "near").await;
    let made = world.post("dora", "/v3/routes", route(&space, &domain, "shop", "")).await.expect(201);
    let path = format!("/v3/routes/{}/destinations", made["guid"].as_str().unwrap());
    let map =
        async |app: &str| world.post("dora", &path, json!({ "destinations": [{ "app": { "guid": app } }] })).await.detail(422);
    assert_eq!(map(&near).await, "Routes destinations must be in either the route's space or the route's shared spaces");
    // An app that exists elsewhere reads as one that does not.
    assert_eq!(map(&secret).await, format!("App(s) with guid(s) \"{secret}\" do not exist."));
    assert_eq!(map("nonsense").await, "App(s) with guid(s) \"nonsense\" do not exist.");
    let none = world.post("dora", &path, json!({ "destinations": [] })).await;
    assert_eq!(none.detail(422), "Destinations must be an array containing between 1 and 100 destination objects.");
}

async fn a_shared_route_serves_apps_of_both_spaces_until_it_is_unshared(world: World) {
    let Place { world, org, space, domain } = place(world).await;
    let other = tenancy::space(&world, &org, "other").await;
    tenancy::role(&world, "dora", "space_developer", &other).await;
    let near = app(&world, &other, "near").await;
    let made = world.post("dora", "/v3/routes", route(&space, &domain, "shop", "")).await.expect(201);
    let path = format!("/v3/routes/{}", made["guid"].as_str().unwrap());
    let share = format!("{path}/relationships/shared_spaces");
    let off = world.post("dora", &share, json!({ "data": [{ "guid": other }] })).await;
    assert_eq!(off.detail(403), "Feature Disabled: route_sharing");
    world.patch("admin", "/v3/feature_flags/route_sharing", json!({ "enabled": true })).await.expect(200);
    world.post("dora", &share, json!({ "data": [{ "guid": other }] })).await.expect(200);
    let wanted = json!({ "destinations": [{ "app": { "guid": near } }] });
    world.post("dora", &format!("{path}/destinations"), wanted).await.expect(200);
    assert_eq!(world.delete("dora", &format!("{share}/{other}")).await.status, 204);
    assert_eq!(world.get("dora", &path).await.expect(200)["destinations"], json!([]));
}

async fn weights_are_all_or_none_and_sum_to_a_hundred(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    let (a, b) = (app(&world, &space, "a").await, app(&world, &space, "b").await);
    let made = world.post("dora", "/v3/routes", route(&space, &domain, "shop", "")).await.expect(201);
    let path = format!("/v3/routes/{}/destinations", made["guid"].as_str().unwrap());
    let set = async |first: i32, second: Value| {
        let wanted =
            json!({ "destinations": [{ "app": { "guid": a }, "weight": first }, { "app": { "guid": b }, "weight": second }] });
        world.patch("dora", &path, wanted).await
    };
    assert_eq!(set(60, json!(30)).await.detail(422), "Destinations must have weights that sum to 100.");
    assert_eq!(set(60, Value::Null).await.detail(422), "Destinations cannot contain both weighted and unweighted destinations.");
    let all = set(60, json!(40)).await.expect(200);
    assert_eq!(all["destinations"].as_array().unwrap().len(), 2);
    let one = format!("{path}/{}", all["destinations"][0]["guid"].as_str().unwrap());
    assert_eq!(world.delete("dora", &one).await.detail(422), "Weighted destinations cannot be deleted individually.");
    let none = world.patch("dora", &path, json!({ "destinations": [] })).await.expect(200);
    assert_eq!(none["destinations"], json!([]));
}

async fn options_are_merged_and_never_shown_as_null(world: World) {
    let Place { world, space, domain, .. } = place(world).await;
    let mut body = route(&space, &domain, "shop", "");
    body["options"] = json!({ "loadbalancing": "fastest" });
    let text = "Options Loadbalancing must be one of 'round-robin, least-connection' if present";
    assert_eq!(world.post("dora", "/v3/routes", body.clone()).await.detail(422), text);
    body["options"] = json!({ "loadbalancing": "least-connection" });
    let made = world.post("dora", "/v3/routes", body).await.expect(201);
    assert_eq!(made["options"], json!({ "loadbalancing": "least-connection" }));
    let path = format!("/v3/routes/{}", made["guid"].as_str().unwrap());
    let removed = world.patch("dora", &path, json!({ "options": { "loadbalancing": null } })).await.expect(200);
    assert!(removed.get("options").is_none());
}

async fn deleting_a_space_takes_its_apps_and_routes_with_it(world: World) {
    let Place { world, org, space, domain } = place(world).await;
    tenancy::role(&world, "om", "organization_manager", &org).await;
    let app = app(&world, &space, "shop").await;
    let made = world.post("dora", "/v3/routes", route(&space, &domain, "shop", "")).await.expect(201);
    let path = format!("/v3/routes/{}", made["guid"].as_str().unwrap());
    world
        .post("dora", &format!("{path}/destinations"), json!({ "destinations": [{ "app": { "guid": app } }] }))
        .await
        .expect(200);
    assert_eq!(world.delete("dora", &format!("/v3/spaces/{space}")).await.status, 403);
    let job = world.delete("om", &format!("/v3/spaces/{space}")).await;
    assert_eq!(world.job(job).await["state"], "COMPLETE");
    for gone in [path, format!("/v3/apps/{app}"), format!("/v3/spaces/{space}")] {
        assert_eq!(world.get("admin", &gone).await.status, 404, "{gone}");
    }
    let free = world.get("om", &format!("/v3/domains/{domain}/route_reservations?host=shop")).await.expect(200);
    assert_eq!(free["matching_route"], false);
}

super::scenarios! {
    mapping_tells_the_deas_that_run_the_app,
    a_route_leads_to_apps_of_its_own_space_only,
    a_shared_route_serves_apps_of_both_spaces_until_it_is_unshared,
    weights_are_all_or_none_and_sum_to_a_hundred,
    options_are_merged_and_never_shown_as_null,
    deleting_a_space_takes_its_apps_and_routes_with_it,
    a_route_reads_as_the_client_expects_it,
    a_taken_route_is_refused,
    a_host_taken_by_another_space_is_refused_with_any_path,
    routes_keep_to_the_rules_of_shared_domains,
    names_of_the_platform_are_nobodys,
    a_domain_cannot_stand_in_anothers_way,
    a_private_domain_shared_with_another_organization_can_be_used_there,
    two_who_make_the_same_route_at_once_do_not_both_get_it,
    a_quota_bounds_the_routes_of_an_organization,
    roles_without_write_access_see_routes_and_change_none,
    unmapped_routes_of_a_space_go_at_once,
}
