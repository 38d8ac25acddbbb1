//! Each way of being wrong gives exactly the findings that it should.

use super::{Flaw as F, broken, broker, check, options, passed};
use broker_check::{Verdict, text};
use futures::{StreamExt, stream};
use std::collections::BTreeSet;

const AUTH: [&str; 3] = ["auth.none", "auth.wrong-password", "auth.wrong-user"];

/// Each flaw and the cases that find it.
fn flaws() -> Vec<(F, Vec<&'static str>)> {
    vec![
        (F::None, vec![]),
        (F::AnybodyMayEnter, AUTH.to_vec()),
        (F::AnyPasswordWorks, vec!["auth.wrong-password"]),
        (F::Forbids403, AUTH.to_vec()),
        (F::VersionBeforeLogin, vec!["auth.before-version"]),
        (F::VersionIgnored, vec!["version.missing", "version.major", "version.unreadable"]),
        (F::MajorVersionIgnored, vec!["version.major"]),
        (F::NewerMinorRefused, vec!["version.newer-minor"]),
        (F::VersionAfterIds, vec!["version.missing", "version.major"]),
        (F::IdentityRefused, vec!["header.originating-identity"]),
        (F::RequestIdentityLost, vec!["header.request-identity"]),
        (F::TraceHeaderRefused, vec!["header.others"]),
        (F::CatalogIsAnError, vec!["catalog.fetch"]),
        (F::CatalogIsHtml, vec!["http.json"]),
        (F::CatalogIsHuge, vec!["http.answers"]),
        (F::CatalogHangs, vec!["http.answers"]),
        (F::CatalogMoved, vec!["catalog.fetch"]),
        (F::CatalogWithoutServices, vec!["catalog.fetch"]),
        (F::FreeIsText, vec!["catalog.rules"]),
        (F::IdsChange, vec!["catalog.stable"]),
        (F::NameWithSpace, vec!["catalog.advice"]),
        (F::EtagBreaks, vec!["catalog.not-modified"]),
        (F::ServiceIdOptional, vec!["provision.no-service-id", "update.no-service-id", "bind.no-service-id"]),
        (F::OrganizationOptional, vec!["provision.no-organization"]),
        (F::UnknownPlanIs404, vec!["provision.unknown-plan"]),
        (F::ForeignPlanTaken, vec!["provision.foreign-plan"]),
        (F::WrongTypeIs500, vec!["provision.wrong-types", "bind.wrong-types"]),
        (F::BadJsonIs422, vec!["provision.not-json"]),
        (F::MaintenanceIgnored, vec!["provision.maintenance-conflict", "update.maintenance-conflict"]),
        (F::MaintenanceWordless, vec!["provision.maintenance-conflict", "update.maintenance-conflict"]),
        (F::SchemaIgnored, vec!["provision.schema", "update.schema", "bind.schema"]),
        (F::RefusesButMakes, vec!["provision.refused-leaves-nothing"]),
        (F::AsyncWithoutFlag, vec!["async.uninvited"]),
        (F::AsyncRequiredWordless, vec!["provision.sync"]),
        (F::NewIs200, vec!["provision.sync", "provision.create"]),
        (F::RepeatIs201, vec!["provision.repeat"]),
        (F::RepeatInProgressIs200, vec!["provision.repeat-in-progress"]),
        (F::RepeatHasNewOperation, vec!["provision.repeat-in-progress"]),
        (F::UnknownFieldsRefused, vec!["provision.unknown-fields"]),
        (F::SpaceNotCompared, vec!["provision.conflict-space"]),
        (F::PlanNotCompared, vec!["provision.conflict-plan"]),
        (F::ParametersNotCompared, vec!["provision.conflict-parameters", "bind.conflict-parameters"]),
        (F::DashboardIsNumber, vec!["provision.body"]),
        (F::InstanceHangs, vec!["http.answers"]),
        (F::ConcurrencyWordless, vec!["concurrency.update", "concurrency.bind", "fetch.during-update"]),
        (F::StateMisspelled, vec!["poll.body"]),
        (F::GoneWhileCreating, vec!["poll.status"]),
        (F::NeverEnds, vec!["provision.completes"]),
        (F::ProvisionFails, vec!["provision.completes"]),
        (F::OperationIsNumber, vec!["async.operation"]),
        (F::OperationTooLong, vec!["async.operation"]),
        (F::RetryAfterIsDate, vec!["poll.retry-after"]),
        (F::ForgetsOperation, vec!["poll.after-end"]),
        (F::HintsDemanded, vec!["poll.hints-optional"]),
        (F::FetchUnknownIs200, vec!["fetch.unknown-instance", "fetch.after-deprovision"]),
        (F::FetchInProgressIs200, vec!["fetch.in-progress"]),
        (F::DashboardNullInFetch, vec!["fetch.instance-body"]),
        (F::FetchesOtherPlan, vec!["fetch.instance-body", "update.plan"]),
        (F::UpdateToUnknownPlan, vec!["update.unknown-plan"]),
        (F::RefusedUpdateApplies, vec!["update.refused-changes-nothing"]),
        (F::UpdateIs201, vec!["update.apply", "update.context", "update.plan"]),
        (F::UpdateAsyncWordless, vec!["update.sync"]),
        (F::ContextUpdateRefused, vec!["update.context"]),
        (F::PlanChangeLies, vec!["update.plan"]),
        (F::BindWithoutPlan, vec!["bind.no-plan-id"]),
        (F::NewBindingIs200, vec!["bind.sync", "bind.create", "bind.without-app"]),
        (F::CredentialsAreText, vec!["bind.body"]),
        (F::CredentialsIn202, vec!["bind.accepted-body"]),
        (F::UndeclaredDrain, vec!["bind.undeclared"]),
        (F::NothingBound, vec!["bind.usable"]),
        (F::ExpiryIsNumber, vec!["bind.metadata"]),
        (F::PortsAreNumbers, vec!["bind.endpoints"]),
        (F::CredentialsShared, vec!["bind.own-credentials"]),
        (F::DrainNullInFetch, vec!["fetch.binding-body"]),
        (F::BindingInProgressIs200, vec!["fetch.binding-in-progress"]),
        (F::BindRepeatIs409, vec!["bind.repeat"]),
        (F::BindRepeatChanges, vec!["bind.repeat-body"]),
        (F::AppNotCompared, vec!["bind.conflict-app"]),
        (F::RequiresAppWordless, vec!["bind.without-app"]),
        (F::RotationRefused, vec!["rotate.create"]),
        (F::RotationRevokes, vec!["rotate.both-work"]),
        (F::NotBindableBinds, vec!["bind.not-bindable"]),
        (F::BindHangs, vec!["http.answers"]),
        (F::UnbindWithoutServiceId, vec!["unbind.no-service-id"]),
        (F::UnbindIs204, vec!["unbind.sync", "unbind.delete", "url.encoded-binding-id"]),
        (F::UnbindAgainIs200, vec!["unbind.repeat"]),
        (F::UnknownIs404, vec!["deprovision.unknown", "deprovision.repeat", "deprovision.during-provision"]),
        (
            F::UnknownIs200,
            vec!["provision.refused-leaves-nothing", "deprovision.unknown", "deprovision.repeat", "deprovision.during-provision"],
        ),
        (F::DeprovisionWithoutPlanId, vec!["deprovision.no-plan-id"]),
        (F::DeprovisionKeeps, vec!["deprovision.repeat", "deprovision.during-provision", "fetch.after-deprovision"]),
        (F::DeprovisionNeverEnds, vec!["deprovision.completes", "deprovision.during-provision", "run.clean-up"]),
        (F::CancelIs409, vec!["deprovision.during-provision", "run.clean-up"]),
        (F::SyncRemovalIs202, vec!["async.uninvited"]),
        (F::OddIdsRefused, vec!["url.encoded-instance-id", "url.encoded-binding-id"]),
        (F::ErrorsSilent, vec!["http.error-description"]),
        (F::ErrorIsNumber, vec!["http.error-body"]),
        (F::RepeatableEverywhere, vec!["http.error-body"]),
        (F::ContentTypeIsText, vec!["http.content-type"]),
        (F::EmptyRemovals, vec!["http.json"]),
    ]
}

#[tokio::test]
async fn each_flaw_gives_exactly_its_findings() {
    let table = flaws();
    let all: Vec<_> = table.iter().map(|(flaw, _)| *flaw).collect();
    let base = broker::serve(&all);
    let only = std::env::var("BROKER_CHECK_FLAW").ok();
    let checks = table.into_iter().filter(|(flaw, _)| only.as_ref().is_none_or(|only| *only == broker::name(*flaw))).map(
        |(flaw, expected)| {
            let url = format!("{base}/{}", broker::name(flaw));
            async move { (flaw, expected, check(options(&url)).await) }
        },
    );
    let mut wrong = vec![];
    let mut checks = stream::iter(checks).buffer_unordered(8);
    while let Some((flaw, expected, report)) = checks.next().await {
        let (expected, found) = (BTreeSet::from_iter(expected), broken(&report));
        if expected != found {
            let shown = if only.is_some() { anstream::adapter::strip_str(&text(&report)).to_string() } else { String::new() };
            wrong.push(format!("{flaw:?}: expected {expected:?}, found {found:?} in {:?}\n{shown}", report.took));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_broker_without_flaws_passes_all_that_apply_to_it() {
    let url = format!("{}/None", broker::serve(&[F::None]));
    let report = check(options(&url)).await;
    assert_eq!(report.exit_code(), 0, "{}", text(&report));
    // what this broker cannot show: ETags, volumes and what only older checkers want
    let never: Vec<_> =
        broker_check::CASES.iter().filter(|case| !case.legacy && !passed(&report, case.id)).map(|case| case.id).collect();
    assert_eq!(never, ["catalog.not-modified"]);
}

#[tokio::test]
async fn older_checkers_are_pleased_only_by_brokers_that_leave_newer_fields_out() {
    let base = broker::serve(&[F::None, F::Legacy]);
    for (flaw, expected) in [(F::None, vec!["legacy.catalog", "legacy.bodies"]), (F::Legacy, vec![])] {
        let mut options = options(&format!("{base}/{flaw:?}"));
        options.strict_legacy = true;
        let report = check(options).await;
        assert_eq!(broken(&report), BTreeSet::from_iter(expected), "{}", text(&report));
    }
}

#[tokio::test]
async fn an_older_version_leaves_newer_cases_out() {
    let url = format!("{}/None", broker::serve(&[F::None]));
    let mut options = options(&url);
    options.version = "2.13".parse().unwrap();
    let report = check(options).await;
    assert_eq!(broken(&report), BTreeSet::new(), "{}", text(&report));
    let skipped = |id: &str| {
        report
            .entries
            .iter()
            .any(|entry| entry.case.id == id && matches!(&entry.verdict, Verdict::Skipped(why) if why.starts_with("new in")))
    };
    assert!(skipped("rotate.create") && skipped("fetch.instance") && skipped("header.request-identity"));
}
