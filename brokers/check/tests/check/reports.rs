//! The report in all its forms.

use super::{Flaw, broker, check, options};
use broker_check::{json, junit, text};

fn plain(report: &broker_check::Report) -> String {
    anstream::adapter::strip_str(&text(report)).to_string()
}

#[tokio::test]
async fn a_finding_shows_what_was_asked_and_answered_without_credentials() {
    let base = broker::serve(&[Flaw::OrganizationOptional, Flaw::CredentialsShared]);
    let report = check(options(&format!("{base}/OrganizationOptional"))).await;
    let shown = plain(&report);
    for part in [
        "FINDING provision.no-organization (section \"Provisioning\") in plan check-db/small",
        "  Rule      without organization_guid: 400",
        "  Asked     PUT /OrganizationOptional/v2/service_instances/",
        "            Authorization: (the given user and password)",
        "            X-Broker-API-Version: 2.17",
        "\"plan_id\":\"db-small\"",
        "  Answered  201, after",
        "  Expected  400, because `organization_guid` is missing",
        "  Found     201",
        "FAILED: 4 findings, 0 pieces of advice",
    ] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
    let report = check(options(&format!("{base}/CredentialsShared"))).await;
    for form in [plain(&report), json(&report).to_string(), junit(&report).unwrap()] {
        assert!(form.contains("bind.own-credentials") && !form.contains("hunter2") && !form.contains("s3cret"), "{form}");
    }
}

#[tokio::test]
async fn advice_fails_only_strict_runs() {
    let url = format!("{}/RequestIdentityLost", broker::serve(&[Flaw::RequestIdentityLost]));
    let strict = check(options(&url)).await;
    let mut options = options(&url);
    options.strict = false;
    let mild = check(options).await;
    assert_eq!((strict.exit_code(), strict.totals()), (1, (1, 0)));
    assert_eq!((mild.exit_code(), mild.totals()), (0, (0, 1)));
    assert!(
        plain(&mild).contains("ADVICE header.request-identity") && plain(&mild).contains("PASSED: 0 findings, 1 piece of advice")
    );
    assert!(junit(&mild).unwrap().contains("failures=\"0\""));
}

#[tokio::test]
async fn junit_is_well_formed_and_counts_findings() {
    let url = format!("{}/UnbindIs204", broker::serve(&[Flaw::UnbindIs204]));
    let report = check(options(&url)).await;
    let xml = junit(&report).unwrap();
    let mut reader = quick_xml::Reader::from_str(&xml);
    let (mut failures, mut suites) = (0, vec![]);
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Start(element) => match element.name().as_ref() {
                "failure" => failures += 1,
                "testsuite" => suites.push(element.try_get_attribute("name").unwrap().unwrap().value.into_owned()),
                _ => {}
            },
            _ => {}
        }
    }
    assert_eq!(failures, report.totals().0);
    assert_eq!(suites, ["broker", "check-db/small", "check-db/large", "check-logs/basic", "check-batch/batch"]);
}

#[tokio::test]
async fn json_says_everything_that_people_see() {
    let url = format!("{}/Forbids403", broker::serve(&[Flaw::Forbids403]));
    let value = json(&check(options(&url)).await);
    assert_eq!(
        (value["findings"].as_u64(), value["exit_code"].as_u64(), value["ending"].as_str()),
        (Some(3), Some(1), Some("complete"))
    );
    let case = value["cases"].as_array().unwrap().iter().find(|case| case["id"] == "auth.none").unwrap();
    assert_eq!(case["verdict"], "finding");
    assert_eq!(case["finding"]["exchange"]["answered"]["status"], 403);
    assert_eq!(case["finding"]["exchange"]["asked"]["headers"]["Authorization"], "(none)");
}
