//! What a container may use: each limit is hit from inside, from the main process and from an exec.

use crate::{
    need_containers,
    support::{World, shell, spec},
};
use std::time::{Duration, Instant};

/// Takes so many MiB and touches every page.
fn eat(mib: u32) -> String {
    format!("b = bytearray({mib} << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('ate')")
}

#[tokio::test(flavor = "multi_thread")]
async fn a34_memory_over_the_limit_ends_the_whole_container_and_says_so() {
    need_containers!();
    let world = World::start().await;
    // In a child, while the main process only waits.
    let script = format!("python3 -c \"{}\" & wait; sleep 1000", eat(400));
    let exit = world.run(&shell("main", &script)).await;
    assert!(exit.out_of_memory, "{exit:?}");
    // From an exec.
    world.sleeper("exec").await;
    let (status, text) = world.python("exec", "vcap", &eat(400)).await;
    assert_eq!((status, text.as_str()), (128 + 9, ""));
    assert!(world.ended("exec").await.out_of_memory);
    // A neighbour with room is not touched.
    world.sleeper("neighbour").await;
    assert_eq!(world.python("neighbour", "vcap", &eat(60)).await, (0, "ate\n".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a36_files_in_memory_are_charged_to_the_container_and_capped() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    let (_, text) = world
        .exec("box", "head -c 100M /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x; head -c 1M /dev/zero > /dev/x || true")
        .await;
    assert!(text.contains("No space left") && text.contains("67108864"), "{text}");
    let metrics = world.client.metrics(&["box".into()]).await.unwrap()["box"];
    assert!(metrics.memory_bytes > 64 << 20, "{metrics:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a32_a_fork_bomb_stops_at_the_limit_and_the_container_can_still_be_stopped() {
    need_containers!();
    let world = World::start().await;
    world.create(&shell("bomb", "f() { f | f & }; f; while true; do sleep 0.1; done")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = world.client.metrics(&["bomb".into()]).await.unwrap()["bomb"];
    assert!(metrics.pids <= 100, "{metrics:?}");
    let neighbour = Instant::now();
    world.run(&shell("neighbour", "true")).await;
    assert!(neighbour.elapsed() < Duration::from_secs(5));
    let began = Instant::now();
    world.client.stop("bomb", Duration::from_secs(1)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(15));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a32_threads_count_as_processes() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    let program = "import threading, time\nn = 0\ntry:\n  while n < 1000:\n    threading.Thread(target=time.sleep, args=(20,), daemon=True).start(); n += 1\nexcept RuntimeError: pass\nprint(n)";
    let (_, text) = world.python("box", "vcap", program).await;
    let made: u32 = text.trim().parse().unwrap_or_else(|_| panic!("{text}"));
    assert!((50..100).contains(&made), "{made}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a39_the_disk_is_full_at_its_limit_wherever_one_writes() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    for (user, place) in [("vcap", "/home/vcap"), ("vcap", "/tmp"), ("vcap", "/var/tmp"), ("root", "/opt")] {
        let script = format!("head -c 80M /dev/zero > {place}/full; stat -c %s {place}/full; rm {place}/full");
        let (_, text) = world.exec_as("box", user, &["/bin/bash", "-c", &script]).await;
        assert!(text.contains("No space left on device"), "{place}: {text}");
        let size: u64 = text.lines().last().unwrap().parse().unwrap();
        assert!(size < 64 << 20 && size > 48 << 20, "{place}: {size}");
    }
    let (_, text) =
        world.exec("box", "fallocate -l 80M /tmp/x; truncate -s 1T /tmp/sparse && echo sparse; rm -f /tmp/x /tmp/sparse").await;
    assert!(text.contains("No space left") || text.contains("fallocate failed"), "{text}");
    let used = world.client.metrics(&["box".into()]).await.unwrap()["box"].disk_bytes;
    assert!(used < 10 << 20, "{used}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a41_empty_files_are_limited_for_each_container() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    world.sleeper("neighbour").await;
    let program = "import os\nos.mkdir('/tmp/f')\nn = 0\ntry:\n  while True:\n    open(f'/tmp/f/{n}', 'w').close(); n += 1\nexcept OSError as e: print(e.errno, n)";
    let (_, text) = world.python("box", "vcap", program).await;
    let made: u64 = text.trim().strip_prefix("28 ").unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    assert!((1_000..20_000).contains(&made), "{made}");
    assert_eq!(world.exec("neighbour", "touch /tmp/mine && echo ok").await, (0, "ok\n".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a42_a_file_tree_that_resists_deletion_is_gone_at_once_with_its_disk() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    let program = "import os\nos.chdir('/tmp')\ntry:\n  for i in range(5000):\n    os.mkdir('d'); os.chdir('d')\nexcept OSError: pass\nos.chdir('/tmp')\nfor n in (b'new\\nline', b'\\xff\\xfe', b'.wh.x'):\n  open(n, 'w').close()\nos.mkdir('closed', 0)\nprint('made')";
    assert_eq!(world.python("box", "vcap", program).await, (0, "made\n".into()));
    let began = Instant::now();
    world.client.destroy("box").await.unwrap();
    world.all_gone().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a43_open_files_end_at_the_limit() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    let program =
        "import os\nf = []\ntry:\n  while True: f.append(os.open('/dev/null', 0))\nexcept OSError as e: print(e.errno, len(f))";
    for user in ["vcap", "root"] {
        let (_, text) = world.python("box", user, program).await;
        assert!(text.starts_with("24 10"), "{text}");
    }
    assert_ne!(world.exec("box", "ulimit -n 2000").await.0, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a44_real_time_and_negative_nice_values_are_refused_and_a_ceiling_holds() {
    need_containers!();
    let world = World::start().await;
    let mut asked = shell("box", "sleep 1000");
    asked.limits.cpu_quota_millis = Some(200);
    world.create(&asked).await;
    let program = "import os\nfor call in (lambda: os.nice(-5), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))):\n  try: call(); print('allowed')\n  except PermissionError: print('refused')";
    for user in ["vcap", "root"] {
        assert_eq!(world.python("box", user, program).await.1, "refused\nrefused\n", "{user}");
    }
    let busy = "import time\nend = time.time() + 1\nwhile time.time() < end: pass\nprint(time.process_time())";
    let used: f64 = world.python("box", "vcap", busy).await.1.trim().parse().unwrap();
    assert!(used < 0.4, "{used} s of CPU in one second under a ceiling of 0.2");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_zombies_are_reaped() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    // Orphans that end: 500 of them, with room for 100.
    let (status, text) = world.exec("box", "for i in $(seq 500); do (true & ); done; sleep 0.2; ps -eo stat | grep -c Z").await;
    // On a busy machine the shell may meet the limit and try again.
    assert_eq!((status, text.lines().last()), (1, Some("0")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a47_nothing_survives_the_main_process() {
    need_containers!();
    let world = World::start().await;
    let script = "for i in 1 2 3; do (trap '' TERM HUP INT; setsid bash -c 'trap \"\" TERM; while true; do sleep 0.01 & wait; done' &) ; done; sleep 0.3; exit 5";
    assert_eq!(world.run(&shell("box", script)).await.status, 5);
    let processes = crate::support::remains(&world.raw).into_iter().filter(|line| line.starts_with("process")).count();
    assert_eq!(processes, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a48_stopping_works_against_stopped_and_deaf_processes() {
    need_containers!();
    let world = World::start().await;
    world.create(&shell("box", "trap '' TERM; while true; do sleep 0.01; done")).await;
    world.exec_as("box", "root", &["/bin/bash", "-c", "kill -STOP -1; kill -STOP 1; true"]).await;
    let began = Instant::now();
    world.client.stop("box", Duration::from_millis(500)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(5_500));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a49_exec_against_a_dying_container_is_a_clean_error() {
    need_containers!();
    let world = World::start().await;
    for round in 0..20 {
        let handle = format!("box{round}");
        world.create(&shell(&handle, "sleep 0.02; exit 1")).await;
        loop {
            let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
            let streams = warden_client::Streams { stdin: null(), stdout: null(), stderr: null() };
            match world.client.exec(&handle, &crate::support::process("vcap", &["/bin/true"]), streams).await {
                Ok(exit) => assert!(matches!(exit.status, 0 | 137), "{exit:?}"),
                Err(e) => {
                    assert_eq!(e.kind(), Some(warden_client::ErrorKind::NotFound), "{e}");
                    break;
                }
            }
        }
        world.client.destroy(&handle).await.unwrap();
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a27_a_container_at_its_limit_of_watchers_leaves_neighbours_theirs() {
    need_containers!();
    let world = World::start().await;
    // Takes what it gets, says how much, and keeps it.
    let hog = "import ctypes, os, time\nlibc = ctypes.CDLL(None, use_errno=True)\nopen_now = 0\nwhile open_now < 1000 and libc.inotify_init1(0) >= 0: open_now += 1\nprint(open_now, ctypes.get_errno(), file=open('/home/vcap/took.new', 'w')); os.rename('/home/vcap/took.new', '/home/vcap/took')\ntime.sleep(1000)";
    for handle in ["one", "two", "three"] {
        world.create(&spec(handle, &["/usr/bin/python3", "-c", hog])).await;
    }
    for handle in ["one", "two", "three"] {
        let (_, took) = world.exec(handle, "until [ -e /home/vcap/took ]; do sleep 0.02; done; cat /home/vcap/took").await;
        assert_eq!(took, "128 24\n", "{handle}: as many as any user has, then EMFILE");
    }
    // Nobody inside can raise it.
    for user in ["vcap", "root"] {
        let raise = "for n in instances watches; do cat /proc/sys/user/max_inotify_$n; echo 4096 > /proc/sys/user/max_inotify_$n; done 2>&1 | grep -v Read-only";
        let (_, text) = world.exec_as("one", user, &["/bin/bash", "-c", raise]).await;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.retain(|line| !line.contains("denied"));
        assert_eq!(lines, ["128", "65536"], "{user}: {text}");
    }
    world.end().await;
}
