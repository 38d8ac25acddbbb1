//! Apps, their variables, features, processes, manifests and buildpacks.

use super::{
    World,
    push::{app, buildpack, process, running, space, upload, yaml, zipped},
    tenancy,
};
use serde_json::{Value, json};

async fn a_new_app_reads_as_the_client_expects_it(world: World) {
    let space = space(&world).await;
    let guid = app(&world, &space, "dora").await;
    let shown = world.get("dev", &format!("/v3/apps/{guid}?include=space.organization")).await.expect(200);
    assert_eq!(shown["lifecycle"], json!({ "type": "buildpack", "data": { "buildpacks": [], "stack": "debian12" } }));
    assert_eq!(shown["relationships"]["current_droplet"]["data"], Value::Null);
    assert_eq!(shown["included"]["organizations"][0]["name"], "acme");
    assert_eq!(
        shown["links"]["start"],
        json!({ "href": format!("https://api.cf.test/v3/apps/{guid}/actions/start"), "method": "POST" })
    );
    let web = world.get("dev", &format!("/v3/apps/{guid}/processes/web")).await.expect(200);
    assert_eq!((&web["guid"], &web["instances"], &web["memory_in_mb"]), (&json!(guid), &json!(1), &json!(1024)));
    assert_eq!(
        web["health_check"],
        json!({ "type": "port", "data": { "timeout": null, "invocation_timeout": null, "interval": null } })
    );
    let body = json!({ "name": "DORA", "relationships": { "space": { "data": { "guid": space } } } });
    assert_eq!(world.post("dev", "/v3/apps", body).await.detail(422), "App with the name 'DORA' already exists.");
    assert_eq!(
        world.post("dev", &format!("/v3/apps/{guid}/actions/start"), json!({})).await.detail(422),
        "Assign a droplet before starting this app."
    );
    assert_eq!(
        world.post("dev", &format!("/v3/apps/{guid}/actions/restart"), json!({})).await.detail(422),
        "Assign a droplet before starting this app."
    );
}

async fn bad_lifecycles_are_refused_by_name(world: World) {
    let space = space(&world).await;
    let make = |lifecycle: Value| {
        let body = json!({ "name": "dora", "lifecycle": lifecycle, "relationships": { "space": { "data": { "guid": space } } } });
        world.post("dev", "/v3/apps", body)
    };
    let unknown = make(json!({ "type": "buildpack", "data": { "buildpacks": ["nope"] } })).await;
    assert_eq!(unknown.detail(422), "Buildpack \"nope\" must be an existing admin buildpack or a valid git URI");
    let stack = make(json!({ "type": "buildpack", "data": { "stack": "windows95" } })).await;
    assert_eq!(stack.detail(422), "Stack must be an existing stack");
    assert_eq!(make(json!({ "type": "docker", "data": {} })).await.detail(403), "Feature Disabled: diego_docker");
    assert_eq!(
        make(json!({ "type": "rocket", "data": {} })).await.detail(422),
        "Lifecycle type is not included in the list: buildpack, docker, cnb"
    );
    let made = make(json!({ "type": "buildpack", "data": { "buildpacks": ["https://me:secret@git.example.com/b.git"] } }))
        .await
        .expect(201);
    assert_eq!(made["lifecycle"]["data"]["buildpacks"][0], "https://***:***@git.example.com/b.git");
    let events = world.get("dev", "/v3/audit_events?types=audit.app.create").await.expect(200);
    assert!(!events.to_string().contains("secret"), "B30");
}

async fn variables_are_sealed_hidden_and_checked(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let path = format!("/v3/apps/{app}/environment_variables");
    let set = world.patch("dev", &path, json!({ "var": { "PASSWORD": "canary-4711", "GONE": "x" } })).await.expect(200);
    assert_eq!(set["var"]["PASSWORD"], "canary-4711");
    let set = world.patch("dev", &path, json!({ "var": { "GONE": null } })).await.expect(200);
    assert_eq!(set["var"], json!({ "PASSWORD": "canary-4711" }));
    let bad = world.patch("dev", &path, json!({ "var": { "N": 1 } })).await;
    assert_eq!(bad.detail(422), "Non-string value in environment variable for key 'N', value '1'");
    assert!(world.patch("dev", &path, json!({ "var": { "vcap_x": "1" } })).await.detail(422).contains("cannot start with VCAP_"));
    tenancy::role(&world, "auditor", "space_auditor", &space).await;
    tenancy::role(&world, "manager", "space_manager", &space).await;
    tenancy::role(&world, "supporter", "space_supporter", &space).await;
    for (user, status) in
        [("auditor", 403), ("manager", 403), ("supporter", 200), ("dev", 200), ("eve", 404), ("root-ga", 403), ("root-ro", 200)]
    {
        assert_eq!(world.get(user, &path).await.status, status, "B7 {user}");
        assert_eq!(world.get(user, &format!("/v3/apps/{app}/env")).await.status, status, "B7 {user}");
    }
    let env = world.get("dev", &format!("/v3/apps/{app}/env")).await.expect(200);
    assert_eq!(env["environment_variables"]["PASSWORD"], "canary-4711");
    assert_eq!(
        (&env["system_env_json"], &env["application_env_json"]["VCAP_APPLICATION"]["users"]),
        (&json!({ "VCAP_SERVICES": {} }), &Value::Null)
    );
    let events = world.get("admin", &format!("/v3/audit_events?target_guids={app}")).await.expect(200);
    assert!(!events.to_string().contains("canary-4711"), "B30");
    let stored = crate::store::apps::find_with_scope;
    let row = world.api.store.read(move |conn| stored(conn, &app)).await.unwrap().unwrap().0;
    assert!(!row.env.unwrap().windows(11).any(|bytes| bytes == b"canary-4711"), "sealed at rest");
}

async fn each_role_may_do_with_apps_what_the_matrix_says(world: World) {
    let space = space(&world).await;
    let app = running(&world, &space, "dora").await;
    let org =
        world.get("admin", &format!("/v3/spaces/{space}")).await.expect(200)["relationships"]["organization"]["data"]["guid"]
            .as_str()
            .unwrap()
            .to_owned();
    for (user, kind, place) in [
        ("om", "organization_manager", &org),
        ("oa", "organization_auditor", &org),
        ("sm", "space_manager", &space),
        ("sa", "space_auditor", &space),
        ("ss", "space_supporter", &space),
    ] {
        tenancy::role(&world, user, kind, place).await;
    }
    let base = format!("/v3/apps/{app}");
    //            read, run, write, manifest, secrets of a process
    for (user, read, run, write, manifest) in [
        ("root-ro", 200, 403, 403, 200),
        ("root-ga", 200, 403, 403, 403),
        ("om", 200, 403, 403, 403),
        ("oa", 404, 404, 404, 404),
        ("sm", 200, 403, 403, 403),
        ("sa", 200, 403, 403, 403),
        ("ss", 200, 200, 403, 403),
        ("eve", 404, 404, 404, 404),
        ("dev", 200, 200, 200, 200),
    ] {
        assert_eq!(world.get(user, &base).await.status, read, "{user} reads");
        assert_eq!(world.get(user, &format!("{base}/processes/web/stats")).await.status, read, "{user} reads stats");
        assert_eq!(world.post(user, &format!("{base}/actions/start"), json!({})).await.status, run, "{user} runs");
        assert_eq!(
            world.patch(user, &base, json!({ "metadata": { "labels": { "a": "b" } } })).await.status,
            write,
            "{user} writes"
        );
        assert_eq!(world.get(user, &format!("{base}/manifest")).await.status, manifest, "{user} reads the manifest");
    }
    let seen = world.get("sa", &format!("{base}/processes/web")).await.expect(200);
    assert_eq!(seen["command"], "[PRIVATE DATA HIDDEN]");
    assert_eq!(world.get("eve", "/v3/apps").await.expect(200)["pagination"]["total_results"], 0, "B4");
    assert_eq!(
        world.get("eve", &format!("/v3/processes?app_guids={app}")).await.expect(200)["pagination"]["total_results"],
        0,
        "B4"
    );
}

async fn quotas_bound_what_runs(world: World) {
    let space = space(&world).await;
    let app = running(&world, &space, "dora").await;
    let org =
        world.get("admin", &format!("/v3/spaces/{space}")).await.expect(200)["relationships"]["organization"]["data"]["guid"]
            .clone();
    let quota = json!({ "name": "small", "apps": { "total_memory_in_mb": 2048, "per_process_memory_in_mb": 1500, "total_instances": 3 },
        "relationships": { "organizations": { "data": [{ "guid": org }] } } });
    world.post("admin", "/v3/organization_quotas", quota).await.expect(201);
    let path = format!("/v3/apps/{app}/processes/web/actions/scale");
    let scale = |body: Value| world.post("dev", &path, body);
    let more = "memory quota_exceeded: 2048 MB more are asked for, 1024 MB of 2048 MB are free in organization 'acme'";
    assert_eq!(scale(json!({ "instances": 3 })).await.detail(422), more);
    assert_eq!(
        scale(json!({ "memory_in_mb": 1600 })).await.detail(422),
        "memory instance_memory_limit_exceeded: 1600 MB are asked for, an instance may have 1500 MB in organization 'acme'"
    );
    let both = scale(json!({ "instances": 4 })).await;
    assert_eq!(
        both.detail(422),
        "memory quota_exceeded: 3072 MB more are asked for, 1024 MB of 2048 MB are free in organization 'acme', \
         app_instance_limit app_instance_limit_exceeded: 3 instances more are asked for, 2 instances of 3 instances are free in \
         organization 'acme'"
    );
    assert_eq!(
        scale(json!({ "disk_in_mb": 4096 })).await.detail(422),
        "disk_quota too much disk requested (requested 4096 MB - must be less than 2048 MB)"
    );
    scale(json!({ "instances": 2 })).await.expect(202);
    let (a, b) = tokio::join!(scale(json!({ "instances": 0 })), scale(json!({ "instances": 1 })));
    assert_eq!((a.status, b.status), (202, 202), "scaling down is always possible");
}

async fn checks_and_commands_wait_for_the_next_start(world: World) {
    let space = space(&world).await;
    let app = running(&world, &space, "dora").await;
    let path = format!("/v3/apps/{app}/processes/web");
    let body = json!({ "command": "./other", "health_check": { "type": "http", "data": { "timeout": 90, "endpoint": "/up" } } });
    let changed = world.patch("dev", &path, body).await.expect(200);
    assert_eq!((&changed["command"], &changed["health_check"]["data"]["endpoint"]), (&json!("./other"), &json!("/up")));
    let before = process(&world, &app).await;
    assert_eq!(world.internal("dea").launch_spec(before.version).await.unwrap().command, "./run");
    world.post("dev", &format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
    let spec = world.internal("dea").launch_spec(process(&world, &app).await.version).await.unwrap();
    assert_eq!((spec.command.as_str(), spec.health_check.kind.as_str(), spec.health_check.timeout_s), ("./other", "http", 90));
    let back = world.patch("dev", &path, json!({ "command": null, "health_check": { "type": "port" } })).await.expect(200);
    assert_eq!((&back["command"], back["health_check"]["data"].get("endpoint")), (&json!("./run"), None));
    let bad = world
        .patch("dev", &path, json!({ "health_check": { "type": "port", "data": { "endpoint": "/x", "timeout": 500 } } }))
        .await;
    assert_eq!(
        bad.detail(422),
        "Health check timeout Maximum exceeded: max 180s, Health check type must be \"http\" to set a health check HTTP endpoint"
    );
}

async fn a_manifest_of_several_apps_is_applied_in_order(world: World) {
    let space = space(&world).await;
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    let text = "applications:\n- name: front\n  random-route: true\n  processes:\n  - type: web\n    instances: 2\n    memory: 64M\n  - type: worker\n    instances: 1\n    health-check-type: process\n\
                - name: back\n  no-route: true\n  buildpacks: [binary_buildpack]\n  stack: cflinuxfs4\n  metadata:\n    labels: {tier: back}\n\
                - name: api\n  routes:\n  - route: api-1.app.test/v1\n    protocol: http2\n";
    let job = world.job(yaml(&world, "dev", &path, text).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let apps = world.get("dev", "/v3/apps?order_by=name").await.expect(200);
    let guid = |name: &str| {
        apps["resources"].as_array().unwrap().iter().find(|app| app["name"] == name).unwrap()["guid"].as_str().unwrap().to_owned()
    };
    let routes = world.get("dev", &format!("/v3/apps/{}/routes", guid("front"))).await.expect(200);
    let host = routes["resources"][0]["host"].as_str().unwrap().to_owned();
    assert!(host.starts_with("front-") && host.matches('-').count() == 3, "{host}");
    let worker = world.get("dev", &format!("/v3/apps/{}/processes/worker", guid("front"))).await.expect(200);
    assert_eq!((&worker["instances"], &worker["health_check"]["type"]), (&json!(1), &json!("process")));
    let back = world.get("dev", &format!("/v3/apps/{}", guid("back"))).await.expect(200);
    assert_eq!(
        (&back["lifecycle"]["data"]["stack"], &back["metadata"]["labels"]["tier"]),
        (&json!("cflinuxfs4"), &json!("back"))
    );
    let api = world.get("dev", &format!("/v3/apps/{}/routes", guid("api"))).await.expect(200);
    assert_eq!(
        (&api["resources"][0]["url"], &api["resources"][0]["destinations"][0]["protocol"]),
        (&json!("api-1.app.test/v1"), &json!("http2"))
    );
    // Again: nothing new, and another protocol replaces the mapping.
    let job = world.job(yaml(&world, "dev", &path, &text.replace("http2", "http1")).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let again = world.get("dev", &format!("/v3/apps/{}/routes", guid("front"))).await.expect(200);
    assert_eq!((again["pagination"]["total_results"].clone(), &again["resources"][0]["host"]), (json!(1), &json!(host)));
    let api = world.get("dev", &format!("/v3/apps/{}/routes", guid("api"))).await.expect(200);
    assert_eq!(api["resources"][0]["destinations"].as_array().unwrap().len(), 1);
    assert_eq!(api["resources"][0]["destinations"][0]["protocol"], "http1");
}

async fn broken_manifests_are_refused_before_anything_happens(world: World) {
    let space = space(&world).await;
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    let send = |text: &'static str| yaml(&world, "dev", &path, text);
    assert!(
        send("applications:\n- name: a\n  memory: [1\n")
            .await
            .detail(400)
            .starts_with("Request invalid due to parse error: invalid request body: ")
    );
    assert!(send("applications:\n- name: a\n  name: b\n").await.detail(400).contains("line 3"));
    assert_eq!(
        send("a: &a [1]\napplications: *a\n").await.detail(400),
        "Bad request: Manifest does not support Anchors and Aliases"
    );
    assert_eq!(send("version: 1\n").await.detail(422), "Cannot parse manifest with no 'applications' field.");
    let several = send("applications:\n- name: a\n  memory: 12\n- name: b\n  instances: x\n").await.expect(422);
    assert_eq!(several["errors"].as_array().unwrap().len(), 2, "{several}");
    let plain = world.request(reqwest::Method::POST, "dev", &path).header("Content-Type", "application/json").body("{}");
    assert_eq!(world.finish(plain).await.detail(400), "Bad request: Content-Type must be yaml");
    assert_eq!(yaml(&world, "", &path, "a: &a [*a]").await.status, 401, "B19: who it is comes first");
    assert_eq!(yaml(&world, "eve", &path, "a: b").await.detail(404), "Space not found");
    assert_eq!(world.get("dev", "/v3/apps").await.expect(200)["pagination"]["total_results"], 0);
}

async fn a_manifest_that_fails_half_way_keeps_what_was_done(world: World) {
    let space = space(&world).await;
    let other =
        world.get("admin", &format!("/v3/spaces/{space}")).await.expect(200)["relationships"]["organization"]["data"]["guid"]
            .as_str()
            .unwrap()
            .to_owned();
    let elsewhere = tenancy::space(&world, &other, "other").await;
    tenancy::role(&world, "dev", "space_developer", &elsewhere).await;
    let taken = "applications:\n- name: theirs\n  routes:\n  - route: taken.app.test\n";
    assert_eq!(
        world.job(yaml(&world, "dev", &format!("/v3/spaces/{elsewhere}/actions/apply_manifest"), taken).await).await["state"],
        "COMPLETE"
    );
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    let text =
        "applications:\n- name: a\n  memory: 64M\n- name: b\n  env: {X: '1'}\n  routes:\n  - route: taken.app.test\n- name: c\n";
    let job = world.job(yaml(&world, "dev", &path, text).await).await;
    assert_eq!(
        (&job["state"], &job["errors"][0]["detail"]),
        (
            &json!("FAILED"),
            &json!(
                "For application 'b': For route 'taken.app.test': Routes cannot be mapped to destinations in different spaces"
            )
        )
    );
    let apps = world.get("dev", &format!("/v3/apps?space_guids={space}&order_by=name")).await.expect(200);
    let names: Vec<&str> = apps["resources"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"], "apps are made before, whatever follows");
    for (text, reason) in [
        ("applications:\n- name: a\n  services: [db]\n", "For application 'a': Service instance 'db' not found"),
        (
            "applications:\n- name: a\n  routes:\n  - route: x.nowhere.example\n",
            "For application 'a': No domains exist for route x.nowhere.example",
        ),
        (
            "applications:\n- name: 'my app'\n  default-route: true\n",
            "For application 'my app': Failed to create default route from app name: Host must be either \"*\" or contain only alphanumeric characters, \"_\", or \"-\"",
        ),
        (
            "applications:\n- name: a\n  buildpacks: [nope]\n",
            "For application 'a': Buildpack \"nope\" must be an existing admin buildpack or a valid git URI",
        ),
    ] {
        let job = world.job(yaml(&world, "dev", &path, text).await).await;
        assert_eq!((&job["state"], &job["errors"][0]["detail"]), (&json!("FAILED"), &json!(reason)));
    }
}

async fn an_app_written_as_a_manifest_is_no_difference_to_itself(world: World) {
    let space = space(&world).await;
    let path = format!("/v3/spaces/{space}");
    let text = "applications:\n- name: dora\n  memory: 1G\n  disk_quota: 512M\n  env: {A: '1', B: 'x: y'}\n  routes:\n  - route: dora.app.test\n  buildpacks: [binary_buildpack]\n";
    assert_eq!(world.job(yaml(&world, "dev", &format!("{path}/actions/apply_manifest"), text).await).await["state"], "COMPLETE");
    let app = world.get("dev", "/v3/apps?names=dora").await.expect(200)["resources"][0]["guid"].as_str().unwrap().to_owned();
    let written = world.request(reqwest::Method::GET, "dev", &format!("/v3/apps/{app}/manifest")).send().await.unwrap();
    assert_eq!(written.headers()["content-type"], "application/x-yaml");
    let written = written.text().await.unwrap();
    assert!(written.contains("memory: 1024M") && written.contains("- binary_buildpack"), "{written}");
    let told = yaml(&world, "dev", &format!("{path}/manifest_diff"), &written).await.expect(201);
    assert_eq!(told["diff"], json!([]), "{written}");
    let told = yaml(&world, "dev", &format!("{path}/manifest_diff"), text).await.expect(201);
    assert_eq!(told["diff"], json!([]));
}

async fn buildpacks_keep_their_order(world: World) {
    tenancy::org(&world, "acme").await;
    let (a, b) = (buildpack(&world, "a").await, buildpack(&world, "b").await);
    let names = |list: Value| {
        list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| format!("{}{}", r["name"].as_str().unwrap(), r["position"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(world.get("x", "/v3/buildpacks").await.expect(200)), ["b1", "a2"], "a new one comes first");
    world.patch("admin", &format!("/v3/buildpacks/{b}"), json!({ "position": 99, "locked": true })).await.expect(200);
    assert_eq!(names(world.get("x", "/v3/buildpacks").await.expect(200)), ["a1", "b2"]);
    let refused =
        upload(&world, "admin", &format!("/v3/buildpacks/{b}/upload"), Some(("b.zip", zipped(&[("bin/detect", "")]))), None)
            .await;
    assert_eq!(refused.detail(422), "Buildpack is locked");
    assert_eq!(world.patch("x", &format!("/v3/buildpacks/{a}"), json!({ "enabled": false })).await.status, 403);
    assert_eq!(
        world.post("admin", "/v3/buildpacks", json!({ "name": "a" })).await.detail(422),
        "Buildpack with name 'a' and an unassigned stack already exists"
    );
    let path = format!("/v3/buildpacks/{a}/upload");
    let odd = upload(&world, "admin", &path, Some(("a.tgz", vec![1])), None).await;
    assert_eq!(odd.detail(422), "a.tgz is not a zip file. Buildpacks of lifecycle \"buildpack\" must be valid zip files.");
    for (files, code) in
        [(vec![("readme", "x")], 390_013), (vec![("bin/detect", ""), ("manifest.yml", "stack: windows95\n")], 390_012)]
    {
        let job = world.job(upload(&world, "admin", &path, Some(("a.zip", zipped(&files))), None).await).await;
        assert_eq!((&job["state"], &job["errors"][0]["code"]), (&json!("FAILED"), &json!(code)), "{job}");
    }
    let files = [("top/bin/detect", ""), ("top/manifest.yml", "stack: cflinuxfs4\n")];
    let job = world.job(upload(&world, "admin", &path, Some(("a.zip", zipped(&files))), None).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(world.get("x", &format!("/v3/buildpacks/{a}")).await.expect(200)["stack"], "cflinuxfs4");
    let gone = world.delete("admin", &format!("/v3/buildpacks/{a}")).await;
    assert_eq!(world.job(gone).await["state"], "COMPLETE");
    assert_eq!(names(world.get("x", "/v3/buildpacks").await.expect(200)), ["b1"]);
}

async fn system_buildpacks_are_brought_and_brought_anew_when_they_change(world: World) {
    let folder = world.folder().join("system");
    std::fs::create_dir(&folder).unwrap();
    for name in ["binary_buildpack", "staticfile_buildpack", "nodejs_buildpack"] {
        std::fs::write(folder.join(format!("{name}.zip")), zipped(&[("bin/detect", name)])).unwrap();
    }
    std::fs::write(folder.join(".nodejs_buildpack.stamp"), "x").unwrap();
    crate::buildpack_bits::bring(&world.api, &folder).await.unwrap();
    let list = world.get("x", "/v3/buildpacks").await.expect(200);
    let names: Vec<&str> = list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["staticfile_buildpack", "nodejs_buildpack", "binary_buildpack"]);
    let sum = |world: &World| {
        let store = world.api.store.clone();
        async move { store.read(|conn| crate::store::buildpacks::all(conn, "buildpack")).await.unwrap()[1].sha256.clone().unwrap() }
    };
    let before = sum(&world).await;
    world
        .patch("admin", &format!("/v3/buildpacks/{}", list["resources"][0]["guid"].as_str().unwrap()), json!({ "position": 3 }))
        .await
        .expect(200);
    crate::buildpack_bits::bring(&world.api, &folder).await.unwrap();
    let list = world.get("x", "/v3/buildpacks").await.expect(200);
    assert_eq!(list["resources"][0]["name"], "nodejs_buildpack", "the operator's order stays");
    std::fs::write(folder.join("nodejs_buildpack.zip"), zipped(&[("bin/detect", "new")])).unwrap();
    crate::buildpack_bits::bring(&world.api, &folder).await.unwrap();
    let store = world.api.store.clone();
    let all = store.read(|conn| crate::store::buildpacks::all(conn, "buildpack")).await.unwrap();
    assert!(all[0].sha256.as_ref() != Some(&before) && all[0].state == "READY");
}

async fn a_list_of_apps_costs_the_same_number_of_statements_whatever_it_holds(world: World) {
    let space = space(&world).await;
    let mut costs = vec![];
    for round in 0..2 {
        for n in 0..4 {
            app(&world, &space, &format!("app-{round}-{n}")).await;
        }
        for path in
            ["/v3/apps?include=space", "/v3/processes?embed=process_instances", "/v3/packages", "/v3/droplets", "/v3/builds"]
        {
            let before = world.api.store.queries();
            world.get("dev", path).await.expect(200);
            costs.push((path, world.api.store.queries() - before));
        }
    }
    let (first, second) = costs.split_at(5);
    assert_eq!(first, second);
}

super::scenarios! {
    a_new_app_reads_as_the_client_expects_it,
    bad_lifecycles_are_refused_by_name,
    variables_are_sealed_hidden_and_checked,
    each_role_may_do_with_apps_what_the_matrix_says,
    quotas_bound_what_runs,
    checks_and_commands_wait_for_the_next_start,
    a_manifest_of_several_apps_is_applied_in_order,
    broken_manifests_are_refused_before_anything_happens,
    a_manifest_that_fails_half_way_keeps_what_was_done,
    an_app_written_as_a_manifest_is_no_difference_to_itself,
    buildpacks_keep_their_order,
    system_buildpacks_are_brought_and_brought_anew_when_they_change,
    a_list_of_apps_costs_the_same_number_of_statements_whatever_it_holds,
}
