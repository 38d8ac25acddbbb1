//! Containers from their making to their end.

use crate::{
    need_containers,
    support::{World, process, shell, spec, until},
};
use std::{collections::BTreeMap, fs, time::Duration};
use warden_client::{Error, ErrorKind, Event, InjectedFile};

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_its_process_and_keeps_its_exit_status() {
    need_containers!();
    let world = World::start().await;
    let exit = world.run(&shell("seven", "echo out; echo one >&2; echo two >&2; exit 7")).await;
    assert_eq!((exit.status, exit.out_of_memory), (7, false));
    assert_eq!(exit.last_stderr, ["one", "two"]);
    let killed = world.run(&shell("killed", "kill -SEGV $$")).await;
    assert_eq!(killed.status, 128 + 11);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_start_is_told_and_leaves_nothing() {
    need_containers!();
    let world = World::start().await;
    let missing = world.client.create(&spec("missing", &["/no/such/program"])).await.unwrap_err();
    assert_eq!(missing.to_string(), "cannot run /no/such/program: No such file or directory (os error 2)");
    let mut lost = spec("lost", &["/bin/true"]);
    lost.process.cwd = "/no/such/folder".into();
    assert_eq!(kind(world.client.create(&lost).await), Some(ErrorKind::Invalid));
    assert_eq!(kind(world.client.info("missing").await), Some(ErrorKind::NotFound));
    let mut strange = spec("strange", &["/bin/true"]);
    strange.stack = "solaris".into();
    assert_eq!(kind(world.client.create(&strange).await), Some(ErrorKind::NotFound));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_twice_for_the_same_container_makes_one_and_another_spec_is_a_conflict() {
    need_containers!();
    let world = World::start().await;
    let spec = spec("once", &["/bin/sleep", "100"]);
    let (first, second) = tokio::join!(world.client.create(&spec), world.client.create(&spec));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(kind(world.client.create(&shell("once", "true")).await), Some(ErrorKind::Conflict));
    let labels = BTreeMap::from([("test".to_owned(), "once".to_owned())]);
    assert_eq!(world.client.list(&labels).await.unwrap().len(), 1);
    let others = BTreeMap::from([("test".to_owned(), "other".to_owned())]);
    assert_eq!(world.client.list(&others).await.unwrap(), []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_exactly_what_was_asked_with_placeholders_filled_in() {
    need_containers!();
    let world = World::start().await;
    let mut asked = shell("env", "cat /proc/$$/environ | tr '\\0' '\\n' >&2; id -u >&2; pwd >&2");
    asked.process.env =
        vec!["PATH=/bin".into(), "IP=@CONTAINER_IP@".into(), "PORT=@HOST_PORT_8080@".into(), "HOST=@HOST_IP@".into()];
    asked.ports = vec![8080];
    let info = world.create(&asked).await;
    let exit = world.ended("env").await;
    let expected = [
        "PATH=/bin".to_owned(),
        format!("IP={}", info.address),
        format!("PORT={}", info.ports[&8080]),
        format!("HOST={}", info.host_address),
        "2000".into(),
        "/home/vcap".into(),
    ];
    assert_eq!(exit.last_stderr, expected);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_files_and_host_names_are_there() {
    need_containers!();
    let world = World::start().await;
    let mut asked = spec("files", &["/bin/sleep", "100"]);
    asked.files = vec![
        InjectedFile { path: "/home/vcap/deep/mine".into(), mode: 0o600, user_owned: true, content: "mine".into() },
        InjectedFile { path: "/etc/theirs".into(), mode: 0o644, user_owned: false, content: "theirs".into() },
    ];
    let info = world.create(&asked).await;
    let (status, text) = world
        .exec("files", "cat /home/vcap/deep/mine /etc/theirs; stat -c ' %u %a' /home/vcap/deep/mine /etc/theirs; hostname; cat /etc/hosts; echo x > /home/vcap/deep/new")
        .await;
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("minetheirs 2000 600\n 0 644\nfiles\n"), "{text}");
    assert!(text.contains(&format!("{} files", info.address)), "{text}");
    let (_, resolv) = world.exec("files", "cat /etc/resolv.conf; test -s /etc/cf-system-certificates/trusted-ca-certificates.crt && cmp /etc/cf-system-certificates/*.crt /etc/ssl/certs/ca-certificates.crt && echo same").await;
    assert!(resolv.contains("nameserver ") && resolv.ends_with("same\n"), "{resolv}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_runs_beside_the_main_process_and_dies_with_its_caller() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    assert_eq!(world.exec("box", "echo hello; exit 3").await, (3, "hello\n".into()));
    assert_eq!(world.exec_as("box", "root", &["id", "-u"]).await, (0, "0\n".into()));
    let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let streams = || warden_client::Streams { stdin: null(), stdout: null(), stderr: null() };
    let endless = process("vcap", &["/bin/sleep", "4242"]);
    let cut = tokio::time::timeout(Duration::from_millis(500), world.client.exec("box", &endless, streams())).await;
    assert!(cut.is_err());
    let mut left = String::new();
    for _ in 0..100 {
        left = world.exec("box", "ps -eo args | grep -c '[s]leep 4242'").await.1;
        if left == "0\n" {
            break;
        }
    }
    assert_eq!(left, "0\n");
    let refused = world.client.exec("box", &process("vcap", &["/nothing"]), streams()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Invalid));
    assert_eq!(kind(world.client.exec("nobody", &endless, streams()).await), Some(ErrorKind::NotFound));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_asks_first_and_kills_after_the_grace_time() {
    need_containers!();
    let world = World::start().await;
    world.create(&shell("polite", "trap 'exit 9' TERM; while true; do sleep 0.01; done")).await;
    tokio::time::sleep(Duration::from_millis(200)).await; // the trap is set by then
    assert_eq!(world.client.stop("polite", Duration::from_secs(10)).await.unwrap().status, 9);
    world.create(&shell("deaf", "trap '' TERM; while true; do sleep 0.01; done")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = std::time::Instant::now();
    assert_eq!(world.client.stop("deaf", Duration::from_millis(500)).await.unwrap().status, 128 + 9);
    assert!(began.elapsed() > Duration::from_millis(490) && began.elapsed() < Duration::from_secs(5));
    assert_eq!(world.client.stop("deaf", Duration::from_secs(10)).await.unwrap().status, 128 + 9, "stopping twice says the same");
    assert_eq!(kind(world.client.stop("nobody", Duration::ZERO).await), Some(ErrorKind::NotFound));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_of_ends_past_and_present() {
    need_containers!();
    let world = World::start().await;
    world.run(&shell("past", "exit 1")).await;
    let mut events = world.client.events().await.unwrap();
    assert!(matches!(events.next().await.unwrap(), Event::Exited { handle, exit } if handle == "past" && exit.status == 1));
    world.create(&shell("present", "sleep 0.1; exit 2")).await;
    assert!(matches!(events.next().await.unwrap(), Event::Exited { handle, exit } if handle == "present" && exit.status == 2));
    world.client.destroy("past").await.unwrap();
    assert_eq!(events.next().await.unwrap(), Event::Gone { handle: "past".into() });
    world.client.destroy("past").await.unwrap(); // unknown by now: a success
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_takes_its_containers_back() {
    need_containers!();
    let mut world = World::start().await;
    let mut asked = shell("served", "sleep 1000");
    asked.ports = vec![8080];
    let info = world.create(&asked).await;
    world.sleeper("ends").await;
    let before = world.exec("served", "cat /proc/1/stat | cut -d' ' -f22").await;
    world.halt().await;
    world.boot().await;
    assert_eq!(world.client.info("served").await.unwrap(), info);
    assert_eq!(world.exec("served", "cat /proc/1/stat | cut -d' ' -f22").await, before);
    assert_eq!(world.client.create(&asked).await.unwrap(), info, "the spec is still known");
    // What ends while no daemon runs is found by the next one.
    world.halt().await;
    let socket = fs::read_dir(&world.raw.run).unwrap().flatten().map(|e| e.path()).find(|p| p.ends_with("1.sock")).unwrap();
    let mut shim = tokio::net::UnixStream::connect(socket).await.unwrap();
    let stop = warden_client::shim::ShimRequest::Stop { grace_ms: 0 };
    warden_client::frame::send(&mut shim, &stop, &[]).await.unwrap();
    let record = world.raw.state.join("containers/ends/exit.json");
    until("the exit is recorded", || record.exists()).await;
    world.boot().await;
    assert_eq!(world.ended("ends").await.status, 128 + 9);
    assert!(world.client.info("served").await.unwrap().exit.is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_takes_its_container_with_it_and_everything_is_cleared() {
    need_containers!();
    let world = World::start().await;
    let mut events = world.client.events().await.unwrap();
    world.create(&shell("victim", "trap '' TERM; (trap '' TERM HUP; setsid sleep 1000) & sleep 1000")).await;
    let keeper = tokio::net::UnixStream::connect(world.raw.run.join("0.sock")).await.unwrap().peer_cred().unwrap().pid().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(keeper).unwrap(), rustix::process::Signal::KILL).unwrap();
    assert_eq!(events.next().await.unwrap(), Event::Gone { handle: "victim".into() });
    assert_eq!(kind(world.client.info("victim").await), Some(ErrorKind::NotFound));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_can_be_used_again_while_its_former_container_goes() {
    need_containers!();
    let world = World::start().await;
    let first = world.sleeper("phoenix").await;
    world.client.destroy("phoenix").await.unwrap();
    let second = world.sleeper("phoenix").await;
    assert_ne!(first.address, second.address, "addresses rest");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_promised_is_counted_and_a_refusal_says_what_is_free() {
    need_containers!();
    let world = World::start_with(|raw| raw.capacity.memory_mb = 200).await;
    world.sleeper("first").await;
    let refused = world.client.create(&spec("second", &["/bin/true"])).await.unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::NoRoom));
    assert_eq!(refused.to_string(), "128 MB of memory asked, 72 MB free");
    world.end().await;
}

/// Shims of a world that have no container yet: they have left the host's mounts.
fn waiting(world: &World) -> Vec<rustix::process::Pid> {
    let scratch = world.raw.run.join("scratch").display().to_string();
    let read = |pid: &str, what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let names = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let found = names.filter(|pid| read(pid, "cmdline").starts_with("warden_shim") && read(pid, "mountinfo").contains(&scratch));
    found.filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_waits_for_its_container_may_be_killed_and_goes_with_the_daemon() {
    need_containers!();
    let mut world = World::start().await;
    world.sleeper("first").await;
    until("a shim waits", || waiting(&world).len() == 1).await;
    let first = waiting(&world);
    // It may still be at its disk, and then the next container does without it.
    for handle in ["second", "another", "one-more"] {
        world.sleeper(handle).await;
        until("a shim waits", || waiting(&world).len() == 1).await;
    }
    assert_ne!(waiting(&world), first, "none of them took it");
    rustix::process::kill_process(waiting(&world)[0], rustix::process::Signal::KILL).unwrap();
    world.sleeper("third").await;
    // One with a disk of another size does not take the place of the first.
    let mut larger = spec("larger", &["/bin/sleep", "1000"]);
    larger.limits.disk_bytes = 96 << 20;
    world.create(&larger).await;
    assert!(world.exec("larger", "df -m --output=size /home | tail -1").await.1.trim().parse::<u64>().unwrap() > 80);
    until("one waits for each size", || waiting(&world).len() == 2).await;
    world.halt().await;
    assert_eq!(waiting(&world), []);
    assert_eq!(fs::read_dir(world.raw.state.join("spares")).unwrap().count(), 0);
    world.boot().await;
    for handle in ["first", "second", "third", "larger"] {
        assert_eq!(world.exec(handle, "echo lives").await.1, "lives\n");
    }
    world.end().await;
}
