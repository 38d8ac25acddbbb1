//! Brokers that cannot be talked to, and runs that end early.

use super::{Flaw, broken, broker, check, options};
use broker_check::{Ending, Report, run, text};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// Answers each connection with `work`.
fn listen(work: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || work(stream));
        }
    });
    format!("http://{address}")
}

async fn only_unanswered(url: &str) -> Report {
    let begun = Instant::now();
    let report = check(options(url)).await;
    assert_eq!(broken(&report), BTreeSet::from(["http.answers"]), "{}", text(&report));
    assert_eq!(report.exit_code(), 1);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    report
}

fn read_some(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 4_096]);
}

#[tokio::test]
async fn a_broker_that_closes_connections_is_a_finding() {
    only_unanswered(&listen(|mut stream| read_some(&mut stream))).await;
}

#[tokio::test]
async fn a_broker_that_is_silent_is_a_finding() {
    let report = only_unanswered(&listen(|mut stream| {
        read_some(&mut stream);
        std::thread::sleep(Duration::from_secs(60));
    }))
    .await;
    assert!(text(&report).contains("no whole answer within 1.5 s"), "{}", text(&report));
}

#[tokio::test]
async fn a_broker_that_drips_its_answer_is_a_finding() {
    only_unanswered(&listen(|mut stream| {
        read_some(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }))
    .await;
}

#[tokio::test]
async fn a_broker_that_breaks_its_answer_off_is_a_finding() {
    only_unanswered(&listen(|mut stream| {
        read_some(&mut stream);
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"services\"");
    }))
    .await;
}

#[tokio::test]
async fn something_that_is_not_http_is_a_finding() {
    only_unanswered(&listen(|mut stream| {
        let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n");
        read_some(&mut stream);
    }))
    .await;
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    only_unanswered(&listen(|mut stream| {
        read_some(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
        while stream.write_all(&[b' '; 65_536]).is_ok() {}
    }))
    .await;
}

#[tokio::test]
async fn nobody_at_the_address_means_that_the_check_could_not_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let report = check(options(&url)).await;
    assert!(matches!(report.ending, Ending::Unreachable(_)), "{:?}", report.ending);
    assert_eq!(report.exit_code(), 2);
}

#[tokio::test]
async fn a_choice_that_fits_no_plan_means_that_the_check_could_not_run() {
    let mut options = options(&format!("{}/None", broker::serve(&[Flaw::None])));
    options.plans = vec!["enormous".into()];
    let report = check(options).await;
    assert_eq!((&report.ending, report.exit_code()), (&Ending::NoPlan, 2));
}

#[tokio::test]
async fn only_the_chosen_plan_is_checked() {
    let mut options = options(&format!("{}/None", broker::serve(&[Flaw::None])));
    (options.services, options.plans) = (vec!["check-db".into()], vec!["db-small".into()]);
    let report = check(options).await;
    let plans: BTreeSet<_> = report.entries.iter().filter_map(|entry| entry.plan.as_deref()).collect();
    assert_eq!((plans, report.exit_code()), (BTreeSet::from(["check-db/small"]), 0));
}

#[tokio::test]
async fn the_limit_of_the_total_time_ends_a_run_and_what_was_made_is_removed() {
    let mut options = options(&format!("{}/NeverEnds", broker::serve(&[Flaw::NeverEnds])));
    options.plans = vec!["large".into()];
    options.limits.polling = Duration::from_secs(60);
    options.limits.total = Duration::from_secs(2);
    let report = check(options).await;
    assert_eq!((&report.ending, report.exit_code()), (&Ending::TimeLimit, 2), "{}", text(&report));
    assert_eq!(broken(&report), BTreeSet::new());
    assert!(report.took < Duration::from_secs(10), "{:?}", report.took);
}

#[tokio::test]
async fn stopping_a_run_removes_what_was_made() {
    let url = format!("{}/NeverEnds", broker::serve(&[Flaw::NeverEnds]));
    let mut options = options(&url);
    options.plans = vec!["large".into()];
    options.limits.polling = Duration::from_secs(60);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    // once the instance is being made, and its end is waited for
    let progress = |entry: &broker_check::Entry| {
        if entry.case.id == "concurrency.bind" {
            stop.take().map(|stop| stop.send(()));
        }
    };
    let stopped = async {
        let _ = stopped.await;
    };
    let report = run(options, Box::new(foundation::rng()), stopped, progress).await.unwrap();
    assert_eq!((&report.ending, report.exit_code()), (&Ending::Stopped, 2));
    assert!(super::passed(&report, "run.clean-up"), "{}", text(&report));
}
