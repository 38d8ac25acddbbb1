//! Everything that is checked, in the order in which it is.

mod bind;
mod broker;
mod deprovision;
mod legacy;
mod life;
mod provision;
mod refusals;
mod update;

use crate::case::{
    Case, Check,
    Scope::{Broker, Plan},
    Severity::{Must, Should},
};

const AUTHENTICATION: &str = "Platform to Service Broker Authentication";
const VERSION: &str = "API Version Header";
const ORIGIN: &str = "Originating Identity";
const REQUEST_IDENTITY: &str = "Request Identity";
const EXTENSIONS: &str = "Vendor Extension Fields";
const URLS: &str = "URL Properties";
const ERRORS: &str = "Service Broker Errors";
const CONTENT: &str = "Content Type";
const CATALOG: &str = "Catalog Management";
const ASYNC: &str = "Synchronous and Asynchronous Operations";
const BLOCKING: &str = "Blocking Operations";
const POLL_INSTANCE: &str = "Polling Last Operation for Service Instances";
const POLL_BINDING: &str = "Polling Last Operation for Service Bindings";
const INTERVAL: &str = "Polling Interval and Duration";
const PROVISION: &str = "Provisioning";
const FETCH: &str = "Fetching a Service Instance";
const UPDATE: &str = "Updating a Service Instance";
const BIND: &str = "Binding";
const ROTATE: &str = "Binding Rotation";
const FETCH_BINDING: &str = "Fetching a Service Binding";
const UNBIND: &str = "Unbinding";
const DEPROVISION: &str = "Deprovisioning";
const ORPHANS: &str = "Orphan Mitigation";
const LEGACY: &str = "(older checkers)";

/// A case with requests of its own: id, severity, scope, section, first version, rule, function.
macro_rules! active {
    ($id:literal, $severity:ident, $scope:ident, $section:ident, $since:literal, $title:literal, $check:path) => {
        Case {
            id: $id,
            severity: $severity,
            section: $section,
            title: $title,
            since: $since,
            legacy: false,
            check: Check::Active($scope, |scene| Box::pin($check(scene))),
        }
    };
}

/// A rule about every answer: id, severity, section, first version, rule.
macro_rules! watching {
    ($id:literal, $severity:ident, $section:ident, $since:literal, $title:literal) => {
        Case {
            id: $id,
            severity: $severity,
            section: $section,
            title: $title,
            since: $since,
            legacy: false,
            check: Check::Watching,
        }
    };
}

/// As `active`, but beyond the specification.
macro_rules! legacy {
    ($id:literal, $scope:ident, $title:literal, $check:path) => {
        Case { legacy: true, ..active!($id, Must, $scope, LEGACY, 13, $title, $check) }
    };
}

/// The table of everything that is checked. Cases of a plan run in this order and build on one another.
#[rustfmt::skip]
pub static CASES: &[Case] = &[
    // The broker as a whole.
    active!("catalog.fetch", Must, Broker, CATALOG, 13, "GET /v2/catalog is answered 200 with `services`", broker::catalog),
    active!("catalog.rules", Must, Broker, CATALOG, 13, "the catalog keeps all rules for offerings, plans, schemas and ids", broker::catalog_rules),
    active!("catalog.stable", Must, Broker, CATALOG, 13, "ids of offerings and plans stay the same", broker::catalog_stable),
    active!("catalog.advice", Should, Broker, CATALOG, 13, "names are friendly to command lines, texts at most 255 characters", broker::catalog_advice),
    active!("catalog.not-modified", Should, Broker, CATALOG, 17, "a catalog with an ETag is answered 304 if it is known already, or whole", broker::catalog_etag),
    active!("auth.none", Must, Broker, AUTHENTICATION, 13, "requests without credentials are answered 401", broker::no_login),
    active!("auth.wrong-user", Must, Broker, AUTHENTICATION, 13, "requests of an unknown user are answered 401", broker::wrong_user),
    active!("auth.wrong-password", Must, Broker, AUTHENTICATION, 13, "requests with a wrong password are answered 401", broker::wrong_password),
    active!("auth.before-version", Should, Broker, AUTHENTICATION, 13, "credentials are looked at before the version", broker::login_before_version),
    active!("version.missing", Should, Broker, VERSION, 13, "requests without X-Broker-API-Version are answered 412 (or 400), before anything else is looked at", broker::version_missing),
    active!("version.major", Should, Broker, VERSION, 13, "another major version is answered 412", broker::version_major),
    active!("version.unreadable", Should, Broker, VERSION, 13, "a version that is none is answered 412 (or 400)", broker::version_unreadable),
    active!("version.newer-minor", Must, Broker, VERSION, 13, "a newer minor version is accepted", broker::version_newer),
    active!("header.originating-identity", Must, Broker, ORIGIN, 13, "X-Broker-API-Originating-Identity of any platform is accepted", broker::originating_identity),
    active!("header.others", Must, Broker, EXTENSIONS, 13, "headers that platforms add are accepted", broker::other_headers),
    legacy!("legacy.version", Broker, "a missing version is answered 412, not 400", legacy::version),
    legacy!("legacy.catalog", Broker, "names match [a-z0-9-]+; no fields beyond those of 2.15", legacy::catalog),

    // One plan: what must be refused, and what is unknown.
    active!("provision.no-service-id", Must, Plan, PROVISION, 13, "without service_id, or with an empty one: 400", refusals::no_service),
    active!("provision.no-plan-id", Must, Plan, PROVISION, 13, "without plan_id, or with an empty one: 400", refusals::no_plan),
    active!("provision.no-organization", Must, Plan, PROVISION, 13, "without organization_guid: 400", refusals::no_organization),
    active!("provision.no-space", Must, Plan, PROVISION, 13, "without space_guid: 400", refusals::no_space),
    active!("provision.unknown-service", Must, Plan, PROVISION, 13, "with a service_id that is not in the catalog: 400", refusals::unknown_service),
    active!("provision.unknown-plan", Must, Plan, PROVISION, 13, "with a plan_id that is not in the catalog: 400", refusals::unknown_plan),
    active!("provision.foreign-plan", Must, Plan, PROVISION, 13, "with a plan of another offering: 400", refusals::foreign_plan),
    active!("provision.wrong-types", Must, Plan, PROVISION, 13, "with fields of wrong types: 400", refusals::wrong_types),
    active!("provision.not-json", Should, Plan, CONTENT, 13, "with a body that is not JSON: 400", refusals::not_json),
    active!("provision.maintenance-conflict", Must, Plan, PROVISION, 15, "with another maintenance version than the catalog's: 422 MaintenanceInfoConflict", refusals::maintenance),
    active!("provision.schema", Should, Plan, PROVISION, 13, "with parameters that break the plan's schema: refused", refusals::schema),
    active!("provision.refused-leaves-nothing", Must, Plan, ERRORS, 13, "a provisioning that was answered 4xx made nothing", refusals::nothing_left),
    active!("fetch.unknown-instance", Must, Plan, FETCH, 14, "an unknown instance is answered 404", refusals::fetch_unknown),
    active!("poll.unknown-instance", Should, Plan, POLL_INSTANCE, 13, "polling an unknown instance is answered 404, 410 or 400", refusals::poll_unknown),
    active!("update.unknown-instance", Must, Plan, UPDATE, 13, "updating an unknown instance is answered 4xx", refusals::update_unknown),
    active!("bind.unknown-instance", Must, Plan, BIND, 13, "binding an unknown instance is answered 4xx", refusals::bind_unknown),
    active!("unbind.unknown-instance", Must, Plan, UNBIND, 13, "removing a binding of an unknown instance is answered 410", refusals::unbind_unknown),
    active!("deprovision.unknown", Must, Plan, DEPROVISION, 13, "removing an unknown instance is answered 410", refusals::deprovision_unknown),
    active!("url.encoded-instance-id", Should, Plan, URLS, 13, "percent-encoded characters in instance ids are understood", refusals::encoded_instance),
    legacy!("legacy.fetch-unknown", Plan, "fetching an unknown instance is answered 4xx, whatever the catalog says", legacy::fetch_unknown),
    legacy!("legacy.maintenance-info", Plan, "a maintenance version for a plan that has none: 422 MaintenanceInfoConflict", legacy::maintenance),
    legacy!("legacy.deprovision-parameters-first", Plan, "removing an unknown instance without service_id or plan_id: 400", legacy::deprovision_parameters),

    // An instance.
    active!("provision.sync", Must, Plan, ASYNC, 13, "without accepts_incomplete: done at once (201), or 422 AsyncRequired", provision::sync),
    active!("deprovision.sync", Must, Plan, ASYNC, 13, "removing without accepts_incomplete: done at once (200), or 422 AsyncRequired", provision::sync_removal),
    legacy!("legacy.async-required-first", Plan, "a plan that needs accepts_incomplete says so before it looks whether the instance exists", legacy::async_required),
    active!("provision.create", Must, Plan, PROVISION, 13, "a new instance is answered 201, or 202 while it is being made", provision::create),
    active!("provision.body", Must, Plan, PROVISION, 13, "the answer's fields have their types", provision::body),
    active!("provision.repeat-in-progress", Must, Plan, PROVISION, 13, "the same request while it is being made: 202 with the same operation", provision::repeat_in_progress),
    active!("provision.conflict-in-progress", Must, Plan, PROVISION, 13, "the same id with other attributes while it is being made: 409", provision::conflict_in_progress),
    active!("fetch.in-progress", Must, Plan, FETCH, 14, "an instance that is being made is answered 404", provision::fetch_in_progress),
    active!("concurrency.update", Must, Plan, BLOCKING, 13, "an update while the instance is being made: taken, or 422 ConcurrencyError", provision::update_in_progress),
    active!("concurrency.bind", Must, Plan, BLOCKING, 13, "a binding while the instance is being made: 4xx, as 422 with ConcurrencyError", provision::bind_in_progress),
    active!("provision.completes", Must, Plan, INTERVAL, 13, "provisioning succeeds in time", provision::completes),
    active!("poll.after-end", Should, Plan, POLL_INSTANCE, 13, "the state can be asked again after the end", provision::poll_after_end),
    active!("poll.hints-optional", Must, Plan, POLL_INSTANCE, 13, "polling works without service_id and plan_id", provision::poll_without_hints),
    active!("fetch.instance", Must, Plan, FETCH, 14, "an instance can be fetched if instances_retrievable says so", provision::fetch),
    active!("fetch.instance-body", Must, Plan, FETCH, 14, "a fetched instance is the one that was made, with fields of the right types", provision::fetch_body),
    active!("fetch.instance-hints", Must, Plan, FETCH, 16, "a fetch may carry service_id and plan_id", provision::fetch_hints),
    active!("provision.repeat", Must, Plan, PROVISION, 13, "the same request again: 200", provision::repeat),
    active!("provision.repeat-body", Should, Plan, PROVISION, 13, "the answer to the same request has the same dashboard_url", provision::repeat_body),
    active!("provision.unknown-fields", Must, Plan, EXTENSIONS, 13, "fields that the broker does not know are ignored", provision::unknown_fields),
    active!("provision.conflict-organization", Must, Plan, PROVISION, 13, "the same id for another organization: 409", provision::conflict_organization),
    active!("provision.conflict-space", Must, Plan, PROVISION, 13, "the same id for another space: 409", provision::conflict_space),
    active!("provision.conflict-plan", Must, Plan, PROVISION, 13, "the same id with another plan: 409", provision::conflict_plan),
    active!("provision.conflict-parameters", Must, Plan, PROVISION, 13, "the same id with other parameters: 409 (or they are refused)", provision::conflict_parameters),

    // Updates.
    active!("update.no-service-id", Must, Plan, UPDATE, 13, "without service_id: 400", update::no_service),
    active!("update.unknown-plan", Must, Plan, UPDATE, 13, "to a plan that is not in the catalog: 400 or 422", update::unknown_plan),
    active!("update.maintenance-conflict", Must, Plan, UPDATE, 15, "with another maintenance version than the catalog's: 422 MaintenanceInfoConflict", update::maintenance),
    active!("update.schema", Should, Plan, UPDATE, 13, "with parameters that break the plan's schema: refused", update::schema),
    active!("update.refused-changes-nothing", Must, Plan, UPDATE, 14, "an update that was refused changed nothing", update::unchanged),
    active!("update.apply", Must, Plan, UPDATE, 13, "an update is answered 200, 202 or 422", update::apply),
    active!("update.body", Must, Plan, UPDATE, 13, "the answer's fields have their types", update::body_of_answer),
    active!("update.repeat-in-progress", Must, Plan, UPDATE, 13, "the same update while it runs: 202 with the same operation", update::repeat_in_progress),
    active!("fetch.during-update", Must, Plan, FETCH, 14, "a fetch during an update: 200, or 422 ConcurrencyError", update::fetch_in_progress),
    active!("update.completes", Must, Plan, INTERVAL, 13, "the update ends in time", update::completes),
    active!("update.sync", Must, Plan, ASYNC, 13, "without accepts_incomplete: done at once (200), or 422, as AsyncRequired if that is why", update::sync),
    active!("update.context", Must, Plan, UPDATE, 15, "an update of the context alone is taken if allow_context_updates says so", update::context),
    active!("update.plan", Must, Plan, UPDATE, 13, "a change of the plan happens, or is refused with 422", update::plan),

    // Bindings.
    active!("bind.not-bindable", Should, Plan, BIND, 13, "a binding of a plan that is not bindable is refused", bind::not_bindable),
    active!("fetch.unknown-binding", Must, Plan, FETCH_BINDING, 14, "an unknown binding is answered 404", bind::fetch_unknown),
    active!("poll.unknown-binding", Should, Plan, POLL_BINDING, 14, "polling an unknown binding is answered 404, 410 or 400", bind::poll_unknown),
    active!("unbind.unknown", Must, Plan, UNBIND, 13, "removing an unknown binding is answered 410", bind::unbind_unknown),
    legacy!("legacy.unbind-existence-first", Plan, "removing an unknown binding without service_id or plan_id: 410", legacy::unbind_existence),
    active!("bind.no-service-id", Must, Plan, BIND, 13, "without service_id, or with an empty one: 400", bind::no_service),
    active!("bind.no-plan-id", Must, Plan, BIND, 13, "without plan_id, or with an empty one: 400", bind::no_plan),
    active!("bind.unknown-service", Must, Plan, BIND, 13, "with a service_id that is not in the catalog: 400", bind::unknown_service),
    active!("bind.unknown-plan", Must, Plan, BIND, 13, "with a plan_id that is not in the catalog: 400", bind::unknown_plan),
    active!("bind.wrong-types", Must, Plan, BIND, 13, "with fields of wrong types: 400", bind::wrong_types),
    active!("bind.schema", Should, Plan, BIND, 13, "with parameters that break the plan's schema: refused", bind::schema),
    active!("bind.sync", Must, Plan, ASYNC, 13, "without accepts_incomplete: done at once (201), or 422 AsyncRequired", bind::sync),
    active!("unbind.sync", Must, Plan, ASYNC, 13, "removing without accepts_incomplete: done at once (200), or 422 AsyncRequired", bind::sync_removal),
    active!("bind.without-app", Must, Plan, BIND, 13, "without an app: done, or 422 RequiresApp", bind::without_app),
    active!("bind.create", Must, Plan, BIND, 13, "a new binding is answered 201, or 202 while it is being made", bind::create),
    active!("bind.accepted-body", Must, Plan, BIND, 14, "202 holds no credentials", bind::accepted_body),
    active!("bind.async-retrievable", Must, Plan, BIND, 14, "only bindings that can be fetched are made asynchronously", bind::async_retrievable),
    active!("bind.repeat-in-progress", Must, Plan, BIND, 14, "the same request while it is being made: 202 with the same operation", bind::repeat_in_progress),
    active!("fetch.binding-in-progress", Must, Plan, FETCH_BINDING, 14, "a binding that is being made is answered 404", bind::fetch_in_progress),
    active!("bind.completes", Must, Plan, INTERVAL, 14, "binding succeeds in time", bind::completes),
    active!("fetch.binding", Must, Plan, FETCH_BINDING, 14, "a binding can be fetched if bindings_retrievable says so", bind::fetch),
    active!("bind.body", Must, Plan, BIND, 13, "a binding's fields have their types", bind::body),
    active!("bind.undeclared", Must, Plan, BIND, 13, "log drains, route services and volumes only if `requires` declares them", bind::undeclared),
    active!("bind.usable", Should, Plan, BIND, 13, "a binding holds something to use", bind::usable),
    active!("bind.metadata", Must, Plan, BIND, 16, "expires_at and renew_before are moments, and in this order", bind::metadata),
    active!("bind.endpoints", Must, Plan, BIND, 15, "endpoints are complete", bind::endpoints),
    active!("fetch.binding-body", Must, Plan, FETCH_BINDING, 14, "a fetched binding is the one that was made, without nulls for URLs", bind::fetch_body),
    active!("bind.repeat", Must, Plan, BIND, 13, "the same request again: 200", bind::repeat),
    active!("bind.repeat-body", Must, Plan, BIND, 13, "the same request again gives the same credentials", bind::repeat_body),
    active!("bind.unknown-fields", Must, Plan, EXTENSIONS, 13, "fields that the broker does not know are ignored", bind::unknown_fields),
    active!("bind.conflict-app", Must, Plan, BIND, 13, "the same id for another app: 409", bind::conflict_app),
    active!("bind.conflict-parameters", Must, Plan, BIND, 13, "the same id with other parameters: 409 (or they are refused)", bind::conflict_parameters),
    active!("bind.own-credentials", Should, Plan, BIND, 13, "each binding has credentials of its own", bind::own_credentials),
    active!("url.encoded-binding-id", Should, Plan, URLS, 13, "percent-encoded characters in binding ids are understood", bind::encoded_id),
    active!("rotate.create", Must, Plan, ROTATE, 17, "a binding with nothing but predecessor_binding_id follows another", bind::rotate),
    active!("rotate.both-work", Must, Plan, ROTATE, 17, "the predecessor stays until it is removed", bind::rotate_keeps),
    active!("rotate.unknown-predecessor", Must, Plan, ROTATE, 17, "an unknown predecessor is refused", bind::rotate_unknown),
    active!("unbind.no-service-id", Must, Plan, UNBIND, 13, "without service_id: 400", bind::unbind_no_service),
    active!("unbind.no-plan-id", Must, Plan, UNBIND, 13, "without plan_id: 400", bind::unbind_no_plan),
    active!("unbind.async-required", Must, Plan, ASYNC, 14, "removing without accepts_incomplete what was made asynchronously: 200, or 422 AsyncRequired", bind::delete_async_required),
    active!("unbind.delete", Must, Plan, UNBIND, 13, "removing is answered 200, or 202 while it runs", bind::delete),
    active!("unbind.repeat-in-progress", Must, Plan, UNBIND, 14, "the same request while it runs: 202 with the same operation", bind::delete_repeat),
    active!("unbind.completes", Must, Plan, INTERVAL, 14, "removing succeeds in time", bind::delete_completes),
    legacy!("legacy.last-poll-unbind", Plan, "after an asynchronous removal polls with its operation say 410, others 200 `succeeded`", legacy::last_poll_unbind),
    active!("unbind.repeat", Must, Plan, UNBIND, 13, "removing again is answered 410", bind::delete_again),
    active!("fetch.after-unbind", Must, Plan, FETCH_BINDING, 14, "a removed binding is answered 404", bind::fetch_after),

    legacy!("legacy.bodies", Plan, "answers to provisioning and binding hold only fields of 2.15, and no nulls", legacy::bodies),

    // The end of the instance.
    active!("deprovision.no-service-id", Must, Plan, DEPROVISION, 13, "without service_id: 400", deprovision::no_service),
    active!("deprovision.no-plan-id", Must, Plan, DEPROVISION, 13, "without plan_id: 400", deprovision::no_plan),
    active!("deprovision.async-required", Must, Plan, ASYNC, 13, "removing without accepts_incomplete what was made asynchronously: 200, or 422 AsyncRequired", deprovision::async_required),
    active!("deprovision.delete", Must, Plan, DEPROVISION, 13, "removing is answered 200, or 202 while it runs", deprovision::delete),
    active!("deprovision.repeat-in-progress", Must, Plan, DEPROVISION, 13, "the same request while it runs: 202 with the same operation", deprovision::repeat_in_progress),
    active!("deprovision.completes", Must, Plan, INTERVAL, 13, "removing succeeds in time", deprovision::completes),
    legacy!("legacy.last-poll-deprovision", Plan, "after an asynchronous removal polls with its operation say 410, others 200 `succeeded`", legacy::last_poll_deprovision),
    active!("deprovision.repeat", Must, Plan, DEPROVISION, 13, "removing again is answered 410", deprovision::again),
    active!("fetch.after-deprovision", Must, Plan, FETCH, 14, "a removed instance is answered 404", deprovision::fetch_after),
    active!("deprovision.during-provision", Must, Plan, DEPROVISION, 13, "removing while it is being made: stops it, or 422 ConcurrencyError", deprovision::during_provision),

    // Every answer.
    watching!("http.answers", Must, CONTENT, 13, "every request gets a whole answer, in time and of bounded size"),
    watching!("http.json", Must, CONTENT, 13, "every successful answer is a JSON object"),
    watching!("http.content-type", Should, CONTENT, 13, "bodies are declared as application/json"),
    watching!("http.error-body", Must, ERRORS, 13, "fields of errors have their types, and are where they belong"),
    watching!("http.error-description", Should, ERRORS, 13, "errors say what is wrong"),
    watching!("header.request-identity", Should, REQUEST_IDENTITY, 15, "answers repeat X-Broker-API-Request-Identity"),
    watching!("async.uninvited", Must, ASYNC, 13, "202 only if the request says accepts_incomplete=true"),
    watching!("async.operation", Must, ASYNC, 13, "`operation` is a string of at most 10000 characters"),
    watching!("poll.status", Must, POLL_INSTANCE, 13, "polls are answered 200; 410 only at the end of a removal"),
    watching!("poll.body", Must, POLL_INSTANCE, 13, "polls say `in progress`, `succeeded` or `failed`"),
    watching!("poll.retry-after", Should, INTERVAL, 15, "Retry-After holds seconds"),
    watching!("run.clean-up", Must, ORPHANS, 13, "whatever may have been made can be removed, after any failure"),
];

#[cfg(test)]
mod tests {
    use super::CASES;
    use std::collections::BTreeSet;

    #[test]
    fn each_case_has_an_id_of_its_own() {
        let ids: BTreeSet<_> = CASES.iter().map(|case| case.id).collect();
        assert_eq!(ids.len(), CASES.len());
    }
}
