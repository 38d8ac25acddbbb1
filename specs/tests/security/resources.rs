//! Memory, processes, disk, descriptors.

use crate::world::{Container, Own, SOON, World};
use specs::{Platform, app, unique, wait_for};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Each container may have so many processes and threads.
const PIDS: u64 = 1_024;

#[test]
fn a32_processes_and_threads_end_at_the_limit() {
    let Some(world) = World::get() else { return };
    world.each("a32", |place, found| {
        assert_eq!(found["error"], "EAGAIN", "{place}: {found}");
        for what in ["processes", "threads"] {
            let made = found[what].as_u64().unwrap();
            assert!((PIDS / 2..PIDS).contains(&made), "{place}: {found}");
        }
    });
}

#[test]
fn a34_memory_over_the_limit_ends_the_app_and_it_alone() {
    let (Some(own), Some(neighbour)) = (Own::new("128M"), Own::new("128M")) else { return };
    own.does("eat");
    wait_for("the reason of the crash", SOON, || {
        own.cf.run(&["events", &own.name]).stdout.to_lowercase().contains("out of memory").then_some(())
    });
    own.gone(&own.container, Duration::from_secs(15));
    assert_eq!(neighbour.platform.get(&neighbour.name, "/").status, 200);
    // Its next instance, from a process beside it.
    own.platform.wait_for_status(&own.name, "/", 200, SOON);
    let again = Container::of(own.platform, &own.cf, &own.name);
    let eat = "kept = []\nwhile True: kept.append(b'x' * (1 << 20))";
    assert_eq!(again.exec("vcap", &["/usr/bin/python3", "-c", eat]).0, 128 + 9);
    own.gone(&again, Duration::from_secs(15));
    assert_eq!(neighbour.platform.get(&neighbour.name, "/").status, 200);
}

#[test]
fn a34_memory_over_the_limit_ends_a_staging_and_says_so() {
    let Some(platform) = Platform::shared() else { return };
    let cf = platform.cf();
    let (name, buildpack) = (unique("eats"), unique("eats").replace('-', "_"));
    cf.ok(&["create-buildpack", &buildpack, &app("hostile/buildpack").display().to_string(), "99"]);
    cf.ok_in(&app("hostile"), &["push", &name, "-b", &buildpack, "-m", "64M", "-k", "128M", "--no-start"]);
    cf.ok(&["set-env", &name, "EAT_IN_STAGING", "1"]);
    let began = Instant::now();
    let said = cf.fails(&["start", &name]).all();
    assert!(said.to_lowercase().contains("memory"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(60));
    cf.ok(&["delete", "-f", "-r", &name]);
    cf.ok(&["delete-buildpack", "-f", &buildpack]);
}

#[test]
fn a35_swap_is_no_way_around_the_limit() {
    let Some(world) = World::get() else { return };
    world.each("a35", |place, found| {
        let together = &found["memsw.limit_in_bytes"];
        assert!(together.is_null() || together == &found["limit_in_bytes"], "{place}: {found}");
        assert!(found["swap.max"].is_null() || found["swap.max"] == "0", "{place}: {found}");
    });
}

#[test]
fn a36_files_in_memory_are_capped() {
    let Some(world) = World::get() else { return };
    world.each("a36", |place, found| {
        assert_eq!(found["shm"]["error"], "ENOSPC", "{place}");
        assert!(found["shm"]["mb"].as_u64().is_some_and(|mb| mb <= 64), "{place}: {found}");
    });
}

#[test]
fn a39_the_disk_is_full_at_its_limit_wherever_one_writes() {
    let Some(world) = World::get() else { return };
    world.each("a39", |place, found| {
        let limit = if place == "staging" { 4096 } else { 128 };
        for folder in ["/home/vcap", "/tmp", "/var/tmp"] {
            assert_eq!(found[folder]["error"], "ENOSPC", "{place}: {folder}");
            let mb = found[folder]["mb"].as_u64().unwrap();
            assert!(mb <= limit && mb > limit / 2, "{place}: {folder}: {mb}");
        }
    });
    let cf = world.platform.cf();
    for quota in ["0", "-1", "0M", "1000T", "99999999999999999999M"] {
        cf.fails(&["push", &unique("quota"), "-k", quota, "-p", &app("static").display().to_string()]);
    }
}

#[test]
fn a41_empty_files_are_limited_for_each_container() {
    let Some(world) = World::get() else { return };
    world.each("a41", |place, found| {
        // One for each 8 KiB of disk.
        let most = if place == "staging" { 4096 * 128 } else { 128 * 128 };
        assert!(found["limit"].as_u64().is_some_and(|limit| limit > 1_000 && limit <= most), "{place}: {found}");
        if place != "staging" {
            assert_eq!(found["error"], "ENOSPC", "{place}");
            assert!(found["made"].as_u64().is_some_and(|made| made > 1_000 && made <= most), "{place}: {found}");
        }
    });
}

#[test]
fn a43_open_files_end_at_the_limit() {
    let Some(world) = World::get() else { return };
    world.each("a43", |place, found| {
        assert_eq!((&found["error"], &found["raised"]), (&"EMFILE".into(), &"refused".into()), "{place}: {found}");
        assert!(found["open"].as_u64().is_some_and(|open| (16_000..=16_384).contains(&open)), "{place}: {found}");
    });
    let Some(own) = Own::new("512M") else { return };
    let held = std::thread::scope(|scope| {
        let holding = scope.spawn(|| own.does("many_files"));
        while !holding.is_finished() {
            let numbers = fs::read_to_string("/proc/sys/fs/file-nr").unwrap();
            let numbers: Vec<u64> = numbers.split_whitespace().map(|word| word.parse().unwrap()).collect();
            assert!(numbers[0] < numbers[2] / 2, "{numbers:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        holding.join().unwrap()
    });
    assert!(held["each"].as_u64().is_some_and(|each| each > 16_000), "{held}");
    assert_eq!(own.container.exec("vcap", &["/bin/true"]).0, 0);
}

#[test]
fn a44_real_time_and_negative_nice_values_are_refused() {
    let Some(world) = World::get() else { return };
    world.all_refused("a44", "", &["EPERM", "EACCES"]);
}

#[test]
fn a46_zombies_end_at_the_limit_and_orphans_are_taken() {
    let Some(own) = Own::new("256M") else { return };
    let orphans = own.does("orphans");
    assert_eq!(orphans["zombies"], 0, "{orphans}");
    let zombies = own.does("zombies");
    assert_eq!(zombies["error"], "EAGAIN", "{zombies}");
    assert!(zombies["made"].as_u64().is_some_and(|made| made < PIDS), "{zombies}");
    // The app still answers, and can be stopped.
    own.cf.ok(&["stop", &own.name]);
    own.gone(&own.container, Duration::from_secs(15));
}

#[test]
fn a47_nothing_survives_the_main_process() {
    let Some(own) = Own::new("256M") else { return };
    own.does("leave");
    own.gone(&own.container, Duration::from_secs(15));
    own.cf.ok(&["events", &own.name]).says("app.crash");
}

#[test]
fn a48_stopping_works_against_stopped_and_deaf_processes() {
    let Some(own) = Own::new("128M") else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| own.does("deaf"));
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        own.cf.ok(&["stop", &own.name]);
        // The grace of 10 seconds, and 5.
        own.gone(&own.container, Duration::from_secs(15).saturating_sub(began.elapsed()));
    });
}
