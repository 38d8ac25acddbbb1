//! Decisions, case by case, and parsers against anything.

use super::{
    checks,
    decide::{self, Found, Verdict},
};
use crate::{
    Kind,
    store::operations::{Data, Record, Subject, UpdateData},
};
use osb::{LastOperation, OperationState};
use serde_json::{Map, Value, json};
use types::Timestamp;

const NOTHING: Found = Found { exists: false, complete: false, same: false };
const HALF: Found = Found { exists: true, complete: false, same: true };
const SAME: Found = Found { exists: true, complete: true, same: true };
const OTHER: Found = Found { exists: true, complete: true, same: false };

fn running(kind: Kind, binding: Option<&str>) -> Vec<Record> {
    let subject = Subject { instance_id: "i".into(), binding_id: binding.map(str::to_owned), backup_id: Some("k".into()) };
    let last =
        LastOperation { state: OperationState::InProgress, description: None, instance_usable: None, update_repeatable: None };
    let data = Data { update: Some(UpdateData::default()), ..Data::default() };
    vec![Record { id: "op".into(), subject, kind, last, attempt: 1, started_at: Timestamp(0), data }]
}

/// One word for a verdict.
fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Begin => "begin".into(),
        Verdict::Running(id) => id,
        Verdict::Exists => "exists".into(),
        Verdict::Gone => "gone".into(),
        Verdict::Refuse(failure) => failure.body.error.unwrap_or_else(|| failure.status.to_string()),
    }
}

#[test]
fn instances() {
    use Kind::{Deprovision, Provision, Update};
    let busy = "ConcurrencyError";
    for (found, now, accepts, expected) in [
        (NOTHING, None, true, "begin"),
        (SAME, None, true, "exists"),
        (OTHER, None, true, "409"),
        (HALF, None, true, "begin"),
        (HALF, Some(Provision), true, "op"),
        (HALF, Some(Provision), false, busy),
        (Found { same: false, ..HALF }, Some(Provision), true, "409"),
        (SAME, Some(Update), true, "exists"),
        (SAME, Some(Deprovision), true, busy),
        (HALF, Some(Deprovision), true, busy),
    ] {
        let now = now.map(|kind| running(kind, None)).unwrap_or_default();
        assert_eq!(word(decide::provision(found, &now, accepts)), expected, "provision {found:?} {now:?}");
    }
    let other = UpdateData { plan_id: Some("p".into()), ..UpdateData::default() };
    for (found, now, wanted, accepts, expected) in [
        (NOTHING, None, UpdateData::default(), true, "404"),
        (OTHER, None, UpdateData::default(), true, "begin"),
        (SAME, None, UpdateData::default(), true, "exists"),
        (Found { same: false, ..HALF }, None, UpdateData::default(), true, "422"),
        (OTHER, Some(Update), UpdateData::default(), true, "op"),
        (OTHER, Some(Update), UpdateData::default(), false, busy),
        (OTHER, Some(Update), other, true, busy),
        (OTHER, Some(Provision), UpdateData::default(), true, busy),
    ] {
        let now = now.map(|kind| running(kind, None)).unwrap_or_default();
        assert_eq!(word(decide::update(found, &now, &wanted, accepts)), expected, "update {found:?} {now:?}");
    }
    for (found, now, accepts, expected) in [
        (NOTHING, None, true, "gone"),
        (SAME, None, true, "begin"),
        (HALF, None, true, "begin"),
        (SAME, Some(Deprovision), true, "op"),
        (SAME, Some(Deprovision), false, busy),
        (SAME, Some(Update), true, busy),
        (HALF, Some(Provision), true, busy),
    ] {
        let now = now.map(|kind| running(kind, None)).unwrap_or_default();
        assert_eq!(word(decide::deprovision(found, &now, accepts)), expected, "deprovision {found:?} {now:?}");
    }
}

#[test]
fn bindings_of_one_instance_do_not_wait_for_each_other() {
    use Kind::{Bind, Unbind, Update};
    let busy = "ConcurrencyError";
    for (instance, found, now, accepts, expected) in [
        (NOTHING, NOTHING, None, true, "404"),
        (SAME, NOTHING, None, true, "begin"),
        (HALF, NOTHING, None, true, "422"),
        (SAME, SAME, None, true, "exists"),
        (SAME, OTHER, None, true, "409"),
        (SAME, NOTHING, Some((Bind, "other")), true, "begin"),
        (SAME, HALF, Some((Bind, "b")), true, "op"),
        (SAME, HALF, Some((Bind, "b")), false, busy),
        (SAME, SAME, Some((Unbind, "b")), true, busy),
        (SAME, NOTHING, Some((Update, "-")), true, busy),
        (SAME, SAME, Some((Update, "-")), true, "exists"),
        (SAME, HALF, None, true, "begin"),
    ] {
        let now = now.map(|(kind, id)| running(kind, Some(id).filter(|id| *id != "-"))).unwrap_or_default();
        assert_eq!(word(decide::bind(instance, found, &now, "b", accepts)), expected, "bind {found:?} {now:?}");
    }
    for (found, now, expected) in [
        (NOTHING, None, "gone"),
        (SAME, None, "begin"),
        (HALF, None, "begin"),
        (SAME, Some((Unbind, "b")), "op"),
        (SAME, Some((Bind, "b")), busy),
        (SAME, Some((Unbind, "other")), "begin"),
        (SAME, Some((Update, "-")), busy),
    ] {
        let now = now.map(|(kind, id)| running(kind, Some(id).filter(|id| *id != "-"))).unwrap_or_default();
        assert_eq!(word(decide::unbind(found, &now, "b", true)), expected, "unbind {found:?} {now:?}");
    }
}

#[test]
fn backups() {
    use Kind::{Backup, DeleteBackup, Restore, Update};
    let busy = "ConcurrencyError";
    for (found, now, backup, delete, restore) in [
        (NOTHING, None, "begin", "gone", "404"),
        (SAME, None, "exists", "begin", "begin"),
        (HALF, None, "begin", "begin", "422"),
        (HALF, Some(Backup), "op", busy, busy),
        (SAME, Some(Restore), "exists", busy, "op"),
        (SAME, Some(DeleteBackup), "exists", "op", busy),
        (HALF, Some(Update), busy, busy, busy),
    ] {
        let now = now.map(|kind| running(kind, None)).unwrap_or_default();
        assert_eq!(word(decide::backup(SAME, found, &now, "k", true)), backup, "backup {found:?} {now:?}");
        assert_eq!(word(decide::delete_backup(found, &now, "k", true)), delete, "delete {found:?} {now:?}");
        assert_eq!(word(decide::restore(SAME, found, &now, "k", true)), restore, "restore {found:?} {now:?}");
    }
    assert_eq!(word(decide::backup(NOTHING, NOTHING, &[], "k", true)), "404");
    assert_eq!(word(decide::backup(HALF, NOTHING, &[], "k", true)), "422");
}

fn anything() -> impl proptest::strategy::Strategy<Value = Map<String, Value>> {
    use proptest::prelude::*;
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!({})),
        Just(json!({ "version": 1 })),
        Just(json!([])),
    ];
    let key = prop::sample::select(vec![
        "service_id",
        "plan_id",
        "organization_guid",
        "space_guid",
        "context",
        "parameters",
        "maintenance_info",
        "bind_resource",
        "app_guid",
        "predecessor_binding_id",
        "previous_values",
        "cupola_clone_from",
        "id",
        "backup_id",
        "other",
    ]);
    prop::collection::btree_map(key, value, 0..10)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

proptest::proptest! {
    #[test]
    fn no_body_panics_and_what_passes_has_what_is_needed(object in anything(), bytes in proptest::collection::vec(0_u8.., 0..60)) {
        if let Ok(request) = checks::provision(object.clone()) {
            for field in [request.service_id, request.plan_id, request.organization_guid, request.space_guid] {
                proptest::prop_assert!(!field.trim().is_empty());
            }
        }
        if let Ok(request) = checks::bind(object.clone()) {
            proptest::prop_assert!(request.predecessor_binding_id.is_some() || request.service_id.is_some());
        }
        let _ = (checks::update(object.clone()), checks::backup(object.clone()), checks::restore(object));
        let _ = checks::object(Some("application/json"), &bytes);
    }

    #[test]
    fn no_id_panics(id in ".{0,600}") {
        let good = checks::id(&id, "service instance").is_ok();
        proptest::prop_assert_eq!(good, (1..=500).contains(&id.chars().count()) && !id.chars().any(char::is_control));
    }
}
