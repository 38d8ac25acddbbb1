use super::*;
use crate::domain::services::operations::MAX_POLLING;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn facts(step: Step) -> Facts {
    Facts {
        step,
        attempts: 0,
        began: NOW - Duration::from_secs(100),
        deadline: NOW + Duration::from_secs(1000),
        orphan: false,
        fetch_may_fail: false,
    }
}
fn failure(kind: FailureKind, status: Option<u16>, orphan: bool) -> Failure {
    Failure { status, orphan, ..Failure::new(kind, "no") }
}
fn accepted(retry_after: Option<u64>) -> Reply {
    Reply::Accepted { operation: Some("op".into()), body: Object::new(), retry_after: retry_after.map(Duration::from_secs) }
}
fn in_progress(retry_after: Option<u64>) -> Reply {
    Reply::InProgress { description: None, retry_after: retry_after.map(Duration::from_secs) }
}
fn after(decision: Decision) -> Duration {
    match decision {
        Decision::Accept { poll_at: at, .. } | Decision::PollAgain { at, .. } | Decision::Retry { at } => at.since(NOW),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_poll_follows_at_once_unless_the_broker_asks_for_patience() {
    assert_eq!(after(decide(&facts(Step::Call), accepted(None), NOW)), Duration::from_millis(200));
    assert_eq!(after(decide(&facts(Step::Call), accepted(Some(7)), NOW)), Duration::from_secs(7));
    assert_eq!(after(decide(&facts(Step::Call), accepted(Some(0)), NOW)), Duration::from_secs(1));
    assert_eq!(after(decide(&facts(Step::Call), accepted(Some(1_000_000)), NOW)), Duration::from_secs(86_400));
}

#[test]
fn polls_come_slower_the_longer_the_work_takes() {
    let since = |seconds: u64| {
        let facts = Facts { began: NOW - Duration::from_secs(seconds), ..facts(Step::Poll) };
        after(decide(&facts, in_progress(None), NOW))
    };
    assert_eq!(since(0), Duration::from_millis(200));
    assert_eq!(since(10), Duration::from_secs(1));
    assert_eq!(since(50), Duration::from_secs(5));
    assert_eq!(since(5000), Duration::from_secs(60));
    assert_eq!(after(decide(&facts(Step::Poll), in_progress(Some(30)), NOW)), Duration::from_secs(30));
}

#[test]
fn an_operation_fails_when_its_next_poll_would_come_too_late_and_is_cleaned_up_after() {
    let decision = decide(&facts(Step::Poll), in_progress(Some(2000)), NOW);
    let Decision::Fail { failure, mitigate } = decision else { panic!("{decision:?}") };
    assert_eq!((failure.kind, mitigate), (FailureKind::Overdue, true));
}

#[test]
fn of_what_polling_meets_only_failed_and_400_are_final() {
    let poll = |kind, status| decide(&facts(Step::Poll), Reply::Failed(failure(kind, status, true)), NOW);
    for (kind, status) in [
        (FailureKind::Rejected, Some(404)),
        (FailureKind::Gone, Some(410)),
        (FailureKind::BadResponse, Some(500)),
        (FailureKind::Malformed, Some(200)),
        (FailureKind::Unauthorized, Some(401)),
        (FailureKind::Unreachable, None),
        (FailureKind::Timeout, None),
    ] {
        assert!(matches!(poll(kind, status), Decision::PollAgain { .. }), "{kind:?}");
    }
    for (kind, status) in [(FailureKind::OperationFailed, Some(200)), (FailureKind::Rejected, Some(400))] {
        assert!(matches!(poll(kind, status), Decision::Fail { mitigate: false, .. }), "{kind:?}");
    }
}

#[test]
fn a_failed_call_is_cleaned_up_after_only_where_something_may_be_left_over() {
    for orphan in [true, false] {
        let decision = decide(&facts(Step::Call), Reply::Failed(failure(FailureKind::BadResponse, Some(500), orphan)), NOW);
        assert!(matches!(decision, Decision::Fail { mitigate, .. } if mitigate == orphan));
    }
}

#[test]
fn an_orphan_is_deleted_eleven_times_with_gaps_that_double() {
    let refused = || Reply::Failed(failure(FailureKind::BadResponse, Some(500), false));
    let gaps: Vec<u64> = (0..10)
        .map(|attempts| {
            let facts = Facts { attempts, orphan: true, ..facts(Step::Call) };
            after(decide(&facts, refused(), NOW)).as_secs() / 60
        })
        .collect();
    assert_eq!(gaps, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
    let last = Facts { attempts: 10, orphan: true, ..facts(Step::Call) };
    assert!(matches!(decide(&last, refused(), NOW), Decision::Fail { mitigate: false, .. }));
    let polled = Facts { orphan: true, ..facts(Step::Poll) };
    let failed = Reply::Failed(failure(FailureKind::OperationFailed, Some(200), false));
    assert!(matches!(decide(&polled, failed, NOW), Decision::Retry { .. }));
}

#[test]
fn a_fetch_that_fails_fails_what_needs_it_only() {
    let missing = || Reply::Failed(failure(FailureKind::Rejected, Some(404), true));
    assert!(matches!(decide(&facts(Step::Fetch), missing(), NOW), Decision::Fail { mitigate: false, .. }));
    let harmless = Facts { fetch_may_fail: true, ..facts(Step::Fetch) };
    assert_eq!(decide(&harmless, missing(), NOW), Decision::Succeed(Object::new()));
}

#[test]
fn a_plan_only_ever_shortens_the_time() {
    assert_eq!(polling_time(MAX_POLLING, None), MAX_POLLING);
    assert_eq!(polling_time(MAX_POLLING, Some(60)), Duration::from_secs(60));
    assert_eq!(polling_time(MAX_POLLING, Some(0)), MAX_POLLING);
    assert_eq!(polling_time(MAX_POLLING, Some(i64::MAX)), MAX_POLLING);
}
