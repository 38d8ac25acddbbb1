use super::*;

fn broker() -> Broker {
    Broker {
        guid: "b".into(),
        created_at: 1,
        updated_at: 1,
        name: "broker".into(),
        url: "http://broker.test".into(),
        username: "u".into(),
        password: vec![],
        space_guid: None,
        state: "AVAILABLE".into(),
    }
}

fn catalog(services: Value) -> Catalog {
    osb::catalog::validate(&json!({ "services": services })).unwrap()
}

fn service(name: &str, plans: &[&str]) -> Value {
    let plan = |plan: &&str| json!({ "id": format!("{name}-{plan}"), "name": plan, "description": "a plan" });
    json!({ "id": name, "name": name, "description": "a service", "bindable": true, "plans": plans.iter().map(plan).collect::<Vec<_>>() })
}

/// Compares at second `now`; new rows are `n<now>`, `n<now>'`, ...
fn at(now: i64, known: &Known, services: Value) -> std::result::Result<Changes, Problems> {
    let mut next = 0;
    let mut guid = || {
        next += 1;
        format!("{now}-{next}")
    };
    compare(known, &catalog(services), &mut Fresh { broker: &broker(), public: false, now, guid: &mut guid })
}

/// What is known after the changes.
fn after(known: Known, changes: &Changes) -> Known {
    let mut offerings: BTreeMap<String, Offering> = known.offerings.into_iter().map(|row| (row.guid.clone(), row)).collect();
    let mut plans: BTreeMap<String, Plan> = known.plans.into_iter().map(|row| (row.guid.clone(), row)).collect();
    changes.gone_offerings.iter().for_each(|row| drop(offerings.remove(&row.guid)));
    changes.gone_plans.iter().for_each(|row| drop(plans.remove(&row.guid)));
    let both = changes.new_offerings.iter().chain(&changes.changed_offerings);
    offerings.extend(both.map(|changed| (changed.row.guid.clone(), changed.row.clone())));
    let both = changes.new_plans.iter().chain(&changes.changed_plans);
    plans.extend(both.map(|changed| (changed.row.guid.clone(), changed.row.clone())));
    Known { offerings: offerings.into_values().collect(), plans: plans.into_values().collect(), used: known.used }
}

fn first() -> Known {
    let changes = at(1, &Known::default(), json!([service("db", &["small", "large"])])).unwrap();
    after(Known::default(), &changes)
}

fn plan<'a>(known: &'a Known, name: &str) -> &'a Plan {
    known.plans.iter().find(|plan| plan.name == name).unwrap()
}

#[test]
fn rows_are_as_old_as_their_place_in_the_catalog_says() {
    let services = json!([service("db", &["small", "large", "huge"]), service("cache", &["one", "another"])]);
    let changes = at(100, &Known::default(), services).unwrap();
    let plans: Vec<(&str, i64)> = changes.new_plans.iter().map(|new| (new.row.name.as_str(), new.row.created_at)).collect();
    assert_eq!(plans, [("small", 100), ("large", 101), ("huge", 102), ("one", 103), ("another", 104)]);
    let offerings: Vec<(&str, i64)> =
        changes.new_offerings.iter().map(|new| (new.row.name.as_str(), new.row.created_at)).collect();
    assert_eq!(offerings, [("db", 100), ("cache", 101)]);
}

#[test]
fn the_same_catalog_once_more_changes_nothing() {
    let known = first();
    assert_eq!((known.offerings.len(), known.plans.len()), (1, 2));
    assert_eq!(at(2, &known, json!([service("db", &["small", "large"])])).unwrap(), Changes::default());
}

#[test]
fn a_changed_row_keeps_its_guid_and_who_sees_it_and_tells_only_what_is_new() {
    let mut known = first();
    known.plans.iter_mut().for_each(|plan| plan.public = true);
    let mut changed = service("db", &["small", "large"]);
    changed["plans"][0]["description"] = "other".into();
    changed["tags"] = json!(["sql"]);
    let changes = at(2, &known, json!([changed])).unwrap();
    assert_eq!((changes.changed_offerings.len(), changes.changed_plans.len()), (1, 1));
    let Changed { row, data } = &changes.changed_plans[0];
    assert_eq!((&row.guid, row.public, row.created_at, row.updated_at), (&plan(&known, "small").guid, true, 1, 2));
    assert_eq!(Value::Object(data.clone()), json!({ "description": "other" }));
    assert_eq!(Value::Object(changes.changed_offerings[0].data.clone()), json!({ "tags": ["sql"] }));
}

#[test]
fn what_nobody_uses_goes_and_what_somebody_uses_stays_unavailable_with_a_warning() {
    let mut known = first();
    known.used.insert(plan(&known, "large").guid.clone());
    let changes = at(2, &known, json!([service("queue", &["small"])])).unwrap();
    assert_eq!(changes.gone_plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>(), ["small"]);
    assert!(changes.gone_offerings.is_empty());
    assert!(!changes.changed_plans[0].row.available && !changes.changed_offerings[0].row.available);
    assert!(
        changes.warnings[0]
            .starts_with("Warning: Service plans are missing from the broker's catalog (http://broker.test/v2/catalog)")
    );
    assert!(changes.warnings[0].ends_with("\ndb\n  large\n"), "{}", changes.warnings[0]);
    // The warning comes again, the change does not.
    let known = after(known, &changes);
    let again = at(3, &known, json!([service("queue", &["small"])])).unwrap();
    assert_eq!((again.changed_plans.len(), again.warnings.len()), (0, 1));
    // And what comes back is the same as before.
    let back = at(4, &known, json!([service("queue", &["small"]), service("db", &["large"])])).unwrap();
    assert!(back.changed_plans[0].row.available && back.changed_offerings[0].row.available);
    assert!(back.new_plans.is_empty());
    // Once the last instance is gone, the rest goes too.
    let unused = Known { used: BTreeSet::new(), ..known };
    let gone = at(5, &unused, json!([service("queue", &["small"])])).unwrap();
    assert_eq!((gone.gone_plans.len(), gone.gone_offerings.len()), (1, 1));
}

#[test]
fn names_and_ids_of_what_must_stay_cannot_be_given_to_something_else() {
    let mut known = first();
    known.used.insert(plan(&known, "large").guid.clone());
    let mut same_name = service("other", &["small"]);
    same_name["name"] = "db".into();
    let refused = at(2, &known, json!([same_name.clone()])).unwrap_err();
    assert!(refused.to_string().contains("Services with names [\"db\"] already exist"), "{refused}");
    let mut same_plan = service("other", &["small"]);
    same_plan["plans"][0]["id"] = "db-large".into();
    let refused = at(2, &known, json!([same_plan.clone()])).unwrap_err();
    assert!(refused.to_string().contains("the existing plan 'large', which has instances"), "{refused}");
    known.used.clear();
    assert_eq!(at(2, &known, json!([same_name])).unwrap().gone_offerings.len(), 1);
    assert_eq!(at(2, &known, json!([same_plan])).unwrap().new_plans.len(), 1);
}

#[test]
fn dashboard_clients_come_and_go_with_their_offerings() {
    let mut with = service("db", &["small"]);
    with["dashboard_client"] = json!({ "id": "db-dashboard", "secret": "s", "redirect_uri": "http://dashboard.test" });
    let changes = at(2, &first(), json!([with])).unwrap();
    assert_eq!((changes.new_clients.as_slice(), changes.gone_clients.len()), (&["db-dashboard".to_owned()][..], 0));
    let known = after(first(), &changes);
    let changes = at(3, &known, json!([service("db", &["small"])])).unwrap();
    assert_eq!((changes.new_clients.len(), changes.gone_clients.as_slice()), (0, &["db-dashboard".to_owned()][..]));
}
