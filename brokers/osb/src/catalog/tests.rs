//! Catalogs that keep the rules, and that break each of them.

use super::{Problems, incompatibilities, validate};
use serde_json::{Value, json};

fn good() -> Value {
    json!({ "services": [{
        "id": "s-1", "name": "postgres", "description": "A database", "bindable": true, "tags": ["sql"], "plan_updateable": true,
        "metadata": { "shareable": true, "cupola.dev/backups": true, "displayName": "PostgreSQL" },
        "dashboard_client": { "id": "dash", "secret": "hunter2", "redirect_uri": "https://dash.example.com" },
        "unknown": { "ignored": true },
        "plans": [
            { "id": "p-1", "name": "shared", "description": "Small", "free": false, "maximum_polling_duration": 60,
              "maintenance_info": { "version": "1.2.3-rc.1+b", "description": "new" },
              "schemas": { "service_instance": { "create": { "parameters": { "$schema": "http://json-schema.org/draft-04/schema#", "type": "object" } } } } },
            { "id": "p-2", "name": "dedicated", "description": "Large", "metadata": null, "schemas": null, "bindable": null }
        ]
    }] })
}

/// The text after one change at this place.
fn after(pointer: &str, value: Value) -> String {
    let mut catalog = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match catalog.pointer_mut(parent).unwrap() {
        Value::Object(object) => drop(object.insert(key.to_owned(), value)),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer}"),
    }
    validate(&catalog).err().map(|problems| problems.to_string()).unwrap_or_default()
}

#[test]
fn a_good_catalog_is_read_with_what_it_does_not_know_ignored() {
    let catalog = validate(&good()).unwrap();
    let service = catalog.service("s-1").unwrap();
    let (shared, dedicated) = (service.plan("p-1").unwrap(), service.plan("p-2").unwrap());
    assert!(service.is_shareable() && service.has_backups() && service.is_bindable(dedicated));
    assert!(!shared.is_free() && dedicated.is_free());
    assert!(!format!("{catalog:?}").contains("hunter2"));
    let again = validate(&serde_json::to_value(&catalog).unwrap()).unwrap();
    assert_eq!(again, catalog);
}

#[test]
fn every_broken_rule_is_said_at_its_place() {
    let service = "\nService postgres\n  ";
    let plan = "\nService postgres\n  Plan shared\n    ";
    let schema = "\nService postgres\n  Plan shared\n    Schemas\n      ";
    let parameters = "/services/0/plans/0/schemas/service_instance/create/parameters";
    for (place, value, text) in [
        ("/services", json!([]), "\nService broker must provide at least one service\n".to_owned()),
        ("/services", json!(null), "\nService broker must provide at least one service\n".into()),
        ("/services", json!({}), "\nService broker services list must be an array of hashes, but has value {}\n".into()),
        ("/services/0/id", json!(7), format!("{service}Service id must be a string, but has value 7\n")),
        ("/services/0/name", json!(" "), "\nService  \n  Service name is required\n".into()),
        ("/services/0/description", json!(null), format!("{service}Service description is required\n")),
        (
            "/services/0/description",
            json!("x".repeat(10_001)),
            format!("{service}Service description may not have more than 10000 characters\n"),
        ),
        (
            "/services/0/bindable",
            json!("true"),
            format!("{service}Service \"bindable\" field must be a boolean, but has value \"true\"\n"),
        ),
        ("/services/0/bindable", json!(null), format!("{service}Service \"bindable\" field is required\n")),
        (
            "/services/0/plan_updateable",
            json!(1),
            format!("{service}Service \"plan_updateable\" field must be a boolean, but has value 1\n"),
        ),
        (
            "/services/0/bindings_retrievable",
            json!("x"),
            format!("{service}Service \"bindings_retrievable\" field must be a boolean, but has value \"x\"\n"),
        ),
        ("/services/0/tags", json!([1]), format!("{service}Service tags must be an array of strings, but has value [1]\n")),
        (
            "/services/0/tags",
            json!(["x".repeat(2_049)]),
            format!("{service}Tags for the service postgres must be 2048 characters or less.\n"),
        ),
        (
            "/services/0/requires",
            json!(["magic"]),
            format!("{service}Service \"requires\" field contains unsupported value \"magic\"\n"),
        ),
        ("/services/0/metadata", json!("x"), format!("{service}Service metadata must be a hash, but has value \"x\"\n")),
        (
            "/services/0/metadata/shareable",
            json!("true"),
            format!("{service}Service metadata shareable must be a boolean, but has value \"true\"\n"),
        ),
        (
            "/services/0/dashboard_client",
            json!([]),
            format!("{service}Service dashboard client attributes must be a hash, but has value []\n"),
        ),
        (
            "/services/0/dashboard_client/secret",
            json!(["hunter2"]),
            format!("{service}Service dashboard client secret must be a string\n"),
        ),
        (
            "/services/0/dashboard_client/redirect_uri",
            json!(null),
            format!("{service}Service dashboard client redirect_uri is required\n"),
        ),
        ("/services/0/plans", json!([]), format!("{service}At least one plan is required\n")),
        ("/services/0/plans", json!([1]), format!("{service}Service plans list must be an array of hashes, but has value [1]\n")),
        ("/services/0/plans/0/id", json!(null), format!("{plan}Plan id is required\n")),
        ("/services/0/plans/0/free", json!("yes"), format!("{plan}Plan free must be a boolean, but has value \"yes\"\n")),
        (
            "/services/0/plans/0/maximum_polling_duration",
            json!(1.5),
            format!("{plan}Maximum polling duration must be an integer, but has value 1.5\n"),
        ),
        (
            "/services/0/plans/0/maintenance_info",
            json!("1"),
            format!("{plan}Maintenance info must be a hash, but has value \"1\"\n"),
        ),
        (
            "/services/0/plans/0/maintenance_info/version",
            json!("1.2"),
            format!("{plan}Maintenance info version must be a Semantic Version, but has value \"1.2\"\n"),
        ),
        (
            "/services/0/plans/0/maintenance_info/extra",
            json!(1),
            format!("{plan}Maintenance info contains invalid keys. Only version and description are allowed\n"),
        ),
        ("/services/0/plans/0/schemas", json!([]), format!("{plan}Plan schemas must be a hash, but has value []\n")),
        (
            "/services/0/plans/0/schemas/service_instance",
            json!(1),
            format!("{schema}Schemas service_instance must be a hash, but has value 1\n"),
        ),
        (
            parameters,
            json!({ "type": "object" }),
            format!(
                "{schema}Schema service_instance.create.parameters is not valid. Schema must have $schema key but was not present\n"
            ),
        ),
        (
            parameters,
            json!({ "$schema": "http://example.com/own" }),
            format!("{schema}Schema service_instance.create.parameters is not valid. Custom meta schemas are not supported.\n"),
        ),
        ("/services/0/plans/1/id", json!("p-1"), "\nPlan ids must be unique.".into()),
        (
            "/services/0/plans/1/name",
            json!("shared"),
            format!("{service}Plan names must be unique within a service. Service postgres already has a plan named shared\n"),
        ),
    ] {
        let found = after(place, value);
        if place == "/services/0/plans/1/id" {
            assert!(found.contains("Plan ids must be unique. Service postgres already has a plan with id 'p-1'"), "{found}");
        } else {
            assert_eq!(found, text, "{place}");
        }
        assert!(!found.contains("hunter2"), "{found}");
    }
    let draft = json!({ "$schema": "http://json-schema.org/draft-04/schema#", "type": "foo" });
    let found = after(parameters, draft);
    assert!(found.contains("Must conform to JSON Schema Draft 04: /type"), "{found}");
    for outside in ["http://example.com/x.json", "file:///etc/passwd", "other.json", "http://127.0.0.1/"] {
        let schema = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "properties": { "a": { "$ref": outside } } });
        assert!(after(parameters, schema).contains("No external references are allowed"), "{outside}");
    }
    let large = json!({ "$schema": "http://json-schema.org/draft-04/schema#", "title": "x".repeat(65_536) });
    assert!(after(parameters, large).contains("Must not be larger than 64KB"));
    let inside = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": { "n": { "type": "integer" } },
        "properties": { "a": { "$ref": "#/$defs/n" }, "$ref": { "const": "http://example.com" } }
    });
    assert_eq!(after(parameters, inside), "");
}

#[test]
fn ids_and_names_are_unique_in_the_whole_broker() {
    let mut catalog = good();
    let mut copy = catalog["services"][0].clone();
    copy["plans"][1]["id"] = json!("p-3");
    catalog["services"].as_array_mut().unwrap().push(copy);
    let found: Problems = validate(&catalog).unwrap_err();
    assert_eq!(
        found.messages,
        [
            "Service ids must be unique",
            "Service names must be unique within a broker",
            "Plan ids must be unique. Unable to register plan with id 'p-1' (plan name 'shared', service name 'postgres') because it uses \
             the same id as another plan in the catalog (plan name 'shared', service name 'postgres')",
            "Service dashboard_client id must be unique",
        ]
    );
}

#[test]
fn what_the_platform_lacks_is_named() {
    let mut catalog = good();
    catalog["services"][0]["requires"] = json!(["route_forwarding", "volume_mount", "syslog_drain"]);
    let catalog = validate(&catalog).unwrap();
    assert_eq!(incompatibilities(&catalog, true, true), Vec::<String>::new());
    assert_eq!(
        incompatibilities(&catalog, false, true),
        ["Service postgres is declared to be a route service but support for route services is disabled."]
    );
}

#[test]
fn five_hundred_plans_with_schemas_are_checked_quickly() {
    let mut catalog = good();
    let plan = catalog["services"][0]["plans"][0].clone();
    let plans = (0..500).map(|n| {
        let mut plan = plan.clone();
        (plan["id"], plan["name"]) = (json!(format!("p{n}")), json!(format!("n{n}")));
        plan
    });
    catalog["services"][0]["plans"] = plans.collect();
    let started = std::time::Instant::now();
    assert_eq!(validate(&catalog).unwrap().services[0].plans.len(), 500);
    assert!(started.elapsed().as_millis() < 5_000, "{:?}", started.elapsed());
}

/// Any JSON, also such that looks a little like a catalog.
fn something() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z ]{0,6}".prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "services",
        "plans",
        "id",
        "name",
        "description",
        "bindable",
        "schemas",
        "service_instance",
        "create",
        "parameters",
        "$schema",
        "$ref",
        "maintenance_info",
        "version",
        "metadata",
        "tags",
        "requires",
        "dashboard_client",
    ]);
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn nothing_panics_and_what_passes_is_readable(catalog in something()) {
        if let Err(problems) = validate(&catalog) {
            proptest::prop_assert!(!problems.is_empty());
            proptest::prop_assert!(!problems.to_string().contains("cannot be read"));
        }
    }
}
