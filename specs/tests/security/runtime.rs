//! Runtime, mounts, devices, privileges.

use crate::world::{CANARY, Container, Own, World, host};
use serde_json::json;
use specs::wait_for;
use std::{fs, path::Path, time::Duration};
use warden_client::ErrorKind;

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE.
const ROOT_CAPABILITIES: &str = "00000000000004fb";
const NO_CAPABILITIES: &str = "0000000000000000";

#[test]
fn a1_the_runtime_cannot_be_overwritten_through_proc() {
    let Some(world) = World::get() else { return };
    world.all_refused("a1", "", &["ETXTBSY", "EACCES", "EPERM", "ENOENT", "ESRCH", "EROFS"]);
    // While processes enter whose program is a script for their own executable, everything that is executed is opened for writing.
    let Some(own) = Own::new("128M") else { return };
    let script = "printf '#!/proc/self/exe\\n' > /home/vcap/sh; chmod 755 /home/vcap/sh";
    assert_eq!(own.container.exec("root", &["/bin/bash", "-c", script]).0, 0);
    let race = "import os\nbad = 0\nwhile not os.path.exists('/tmp/enough'):\n  for p in filter(str.isdigit, os.listdir('/proc')):\n    try:\n      fd = os.open(f'/proc/{p}/exe', os.O_WRONLY)\n      bad += not os.readlink(f'/proc/self/fd/{fd}').startswith(('/usr/', '/tmp/')); os.close(fd)\n    except OSError: pass\nprint(bad)";
    let container = own.container.clone();
    let racing = std::thread::spawn(move || container.exec("root", &["/usr/bin/python3", "-c", race]));
    for _ in 0..200 {
        let _ = own.container.try_exec(&Container::spec("root", &["/home/vcap/sh"]));
    }
    own.container.exec("root", &["/usr/bin/touch", "/tmp/enough"]);
    assert_eq!(racing.join().unwrap(), (0, "0\n".into()));
    assert_eq!(host(world.platform), world.host_before);
}

#[test]
fn a2_only_three_descriptors_and_a_working_directory_inside() {
    let Some(world) = World::get() else { return };
    world.each("a2", |place, found| {
        assert_eq!(found["descriptors"], json!([0, 1, 2]), "{place}");
        assert!(found["folder"].as_str().is_some_and(|folder| folder.starts_with('/')), "{place}: {found}");
    });
    for number in 3..=20 {
        let mut process = Container::spec("vcap", &["/bin/pwd"]);
        process.cwd = format!("/proc/self/fd/{number}").into();
        let refused = world.container.try_exec(&process).unwrap_err();
        assert_eq!(refused.kind(), Some(ErrorKind::Invalid), "{number}: {refused}");
    }
}

#[test]
fn a3_devices_that_are_links_lead_nowhere() {
    let Some(world) = World::get() else { return };
    world.each("a3", |place, found| {
        assert_eq!((&found["null"], &found["links"]), (&json!("cTrue"), &json!([])), "{place}");
    });
    // Links in the droplet stay links, and are followed inside.
    let planted = world.platform.get(&world.name, "/planted").json();
    assert_eq!(planted["null"], "/proc/sys/kernel/core_pattern");
    assert_eq!((&planted["folder"], &planted["relative"]), (&json!("/etc"), &json!("/etc/hostname")));
    assert_eq!(host(world.platform), world.host_before);
}

#[test]
fn a5_mount_points_are_no_links() {
    let Some(world) = World::get() else { return };
    world.each("a5", |place, found| {
        for (path, kind) in [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs")] {
            assert_eq!(found[path], kind, "{path} in {place}");
        }
    });
}

#[test]
fn a6_no_mount_has_a_peer_on_the_host_and_what_is_read_only_stays_so() {
    let Some(world) = World::get() else { return };
    world.each("a6", |place, found| {
        let mounts = found["mounts"].as_array().unwrap();
        assert!(mounts.len() > 10, "{place}");
        for line in mounts.iter().map(|line| line.as_str().unwrap()) {
            let words: Vec<&str> = line.split(" - ").next().unwrap().split(' ').collect();
            let (at, options) = (words[4], words[5]);
            assert!(!words[6..].iter().any(|tag| tag.starts_with("shared:") || tag.starts_with("master:")), "{place}: {line}");
            let kernel = ["/dev/", "/proc/", "/sys/"].iter().any(|top| at.starts_with(top));
            assert!(kernel || options.contains("nosuid"), "{place}: {line}");
            assert!(
                !at.starts_with("/sys") && !Path::new(at).starts_with("/proc/sys") || options.starts_with("ro"),
                "{place}: {line}"
            );
        }
    });
}

#[test]
fn a8_control_groups_are_read_only_and_cannot_be_mounted() {
    let Some(world) = World::get() else { return };
    world.all_refused("a8", "", &["EPERM", "EACCES", "EROFS"]);
}

#[test]
fn a9_device_rules_cannot_be_rewritten() {
    let Some(world) = World::get() else { return };
    world.all_refused("a9", "", &["EPERM", "EACCES", "EROFS"]);
}

#[test]
fn a10_no_device_can_be_made_and_the_list_is_pinned() {
    let Some(world) = World::get() else { return };
    world.all_refused("a10", "made", &["EPERM", "EACCES"]);
    let pinned = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"];
    world.each("a10", |place, found| assert_eq!(found["listed"], json!(pinned), "{place}"));
}

#[test]
fn a11_the_mount_family_is_closed() {
    let Some(world) = World::get() else { return };
    world.all_refused("a11", "", &["EPERM"]);
}

#[test]
fn a12_no_new_namespaces() {
    let Some(world) = World::get() else { return };
    world.all_refused("a12", "refused", &["EPERM"]);
    world.each("a12", |place, found| assert_eq!(found["clone3"], "ENOSYS", "{place}: libraries are to fall back"));
}

#[test]
fn a13_capabilities_are_pinned() {
    let Some(world) = World::get() else { return };
    world.each("a13", |place, found| {
        let held = if place == "exec as root" { ROOT_CAPABILITIES } else { NO_CAPABILITIES };
        for (set, value) in [
            ("CapInh", NO_CAPABILITIES),
            ("CapPrm", held),
            ("CapEff", held),
            ("CapBnd", ROOT_CAPABILITIES),
            ("CapAmb", NO_CAPABILITIES),
        ] {
            assert_eq!(found[set], value, "{set} in {place}");
        }
    });
}

#[test]
fn a14_nothing_is_gained_by_setuid_or_by_capabilities_of_files() {
    let Some(world) = World::get() else { return };
    world.each("a13", |place, found| assert_eq!(found["NoNewPrivs"], "1", "{place}"));
    world.each("a14", |place, found| {
        assert_eq!(found["setuid in the stack"], json!([]), "{place}");
        assert_eq!(found["made user"], found["own user"], "{place}");
        assert_eq!(found["capability of a file"], "EPERM", "{place}");
        if place != "staging" {
            assert_eq!(found["planted user"], found["own user"], "{place}");
            assert_eq!(found["planted bits"], "0o0", "bits are to be stripped where the droplet is unpacked: {place}");
        }
    });
}

#[test]
fn a15_the_filter_is_on_everywhere() {
    let Some(world) = World::get() else { return };
    world.each("a13", |place, found| assert_eq!(found["Seccomp"], "2", "{place}"));
}

#[test]
fn a16_risky_calls_are_refused() {
    let Some(world) = World::get() else { return };
    world.all_refused("a16", "", &["EPERM"]);
}

#[test]
fn a17_socket_families_that_reach_deep_into_the_kernel_are_closed() {
    let Some(world) = World::get() else { return };
    world.all_refused("a17", "refused", &["EPERM"]);
    world.each("a17", |place, found| assert_eq!(found["usual"], json!(["allowed", "allowed", "allowed"]), "{place}"));
}

#[test]
fn a18_32_bit_and_x32_calls_are_closed() {
    let Some(world) = World::get() else { return };
    world.all_refused("a18", "", &["SIGSYS", "SIGSEGV", "ENOSYS", "EPERM"]);
}

#[test]
fn a20_files_about_the_host_are_masked() {
    let Some(world) = World::get() else { return };
    world.all_refused("a20", "", &["hidden"]);
}

#[test]
fn a21_knobs_of_the_host_cannot_be_turned() {
    let Some(world) = World::get() else { return };
    world.all_refused("a21", "", &["EROFS", "EACCES", "EPERM", "ENOENT"]);
    assert_eq!(host(world.platform), world.host_before);
}

#[test]
fn a22_there_are_no_core_files() {
    let Some(world) = World::get() else { return };
    world.each("a22", |place, found| {
        assert_eq!((&found["limit"], &found["raised"]), (&json!([0, 0]), &json!("refused")), "{place}");
        assert_eq!((&found["dumped"], &found["files"]), (&json!(false), &json!([])), "{place}");
    });
}

#[test]
fn a23_only_own_processes_are_seen_and_the_first_has_no_secret() {
    let Some(world) = World::get() else { return };
    let folder = world.platform.folder().display().to_string();
    world.each("a23", |place, found| {
        let processes = found["processes"].as_object().unwrap();
        assert!(processes.len() < 20 && processes.contains_key("1"), "{place}: {processes:?}");
        for (_, command) in processes {
            let command = command.as_str().unwrap();
            let of_the_host = ["warden_shim", "warden_keeper", "cupola", "nats-server"].iter().any(|word| command.contains(word));
            assert!(!of_the_host && !command.contains(&folder), "{place}: {command}");
        }
        let secret = &found["environment of 1"];
        assert!(secret == "" || secret == "EACCES", "{place}: {secret}");
        for what in ["process_vm_readv beyond", "ptrace beyond"] {
            assert!(found[what] == "ESRCH" || found[what] == "EPERM", "{place}: {what}: {}", found[what]);
        }
        assert!(place == "exec as root" || found["ptrace 1"] == "EPERM", "{place}: {}", found["ptrace 1"]);
    });
}

#[test]
fn a24_no_abstract_socket_and_no_shared_memory_of_others() {
    let Some(world) = World::get() else { return };
    world.each("a24", |place, found| {
        assert_eq!((&found["sockets"], &found["segments"]), (&json!([]), &json!([])), "{place}");
    });
    let Some(neighbour) = Own::new("128M") else { return };
    let shared = |flags: &str| {
        format!(
            "import ctypes; l = ctypes.CDLL(None); print(l.shmget(4242, 4096, {flags}) >= 0, l.syscall(240, b'queue', {flags}, 0o600, 0) >= 0)"
        )
    };
    assert_eq!(
        neighbour.container.exec("vcap", &["/usr/bin/python3", "-c", &shared("0o1666")]).1.split(' ').next(),
        Some("True")
    );
    assert_eq!(world.container.exec("vcap", &["/usr/bin/python3", "-c", &shared("0")]).1, "False False\n");
}

#[test]
fn a25_no_socket_of_the_host_is_inside() {
    let Some(world) = World::get() else { return };
    let folder = world.platform.folder().display().to_string();
    world.each("a25", |place, found| {
        assert_eq!(found["sockets"], json!([]), "{place}");
        let mounts = found["mounts"].as_str().unwrap();
        assert!(!mounts.contains(".sock") && !mounts.contains("/run/"), "{place}: {mounts}");
        assert!(place == "staging" || !mounts.contains(&format!("{folder}/run")), "{place}: {mounts}");
    });
}

#[test]
fn a26_key_rings_are_closed() {
    let Some(world) = World::get() else { return };
    world.all_refused("a26", "calls", &["EPERM"]);
    world.each("a26", |place, found| assert_eq!(found["/proc/keys"], "hidden", "{place}"));
}

#[test]
fn a27_no_two_containers_share_a_user_of_the_host() {
    let Some(world) = World::get() else { return };
    let Some(other) = Own::new("128M") else { return };
    let base = |container: &Container| {
        let map = container.exec("vcap", &["/bin/cat", "/proc/self/uid_map"]).1;
        map.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 65_536
    };
    assert_ne!(base(&other.container), base(&world.container));
}

#[test]
fn a28_the_app_s_environment_reaches_no_process_of_the_host() {
    let Some(world) = World::get() else { return };
    let mark = world.platform.folder().display().to_string();
    let mut looked_at = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| String::from_utf8_lossy(&fs::read(entry.path().join(name)).unwrap_or_default()).into_owned();
        let command = read("cmdline");
        if read("cgroup").contains(&format!("/cupola-test-{}/", world.platform.slot())) {
            continue;
        }
        if command.contains(&mark) || command.starts_with("warden_") {
            looked_at += 1;
            assert!(!read("environ").contains(CANARY), "{command}");
        }
    }
    assert!(looked_at > 8, "{looked_at}");
    // A program by its bare name is found on the path that the caller gave, not on the app's.
    assert_eq!(world.container.exec("vcap", &["env"]).1.matches("canary").count(), 0);
}

#[test]
fn a29_the_container_s_user_database_is_not_trusted() {
    let Some(own) = Own::new("128M") else { return };
    let script = "rm /etc/passwd /etc/group && mkfifo /etc/passwd && ln -s /proc/kcore /etc/group";
    assert_eq!(own.container.exec("root", &["/bin/bash", "-c", script]).0, 0);
    let began = std::time::Instant::now();
    assert_eq!(own.container.exec("vcap", &["/usr/bin/id", "-ru"]), (0, "2000\n".into()));
    assert!(began.elapsed() < Duration::from_secs(5));
    for user in ["4294967296", "-1", "nobody"] {
        let refused = own.container.try_exec(&Container::spec(user, &["/bin/true"])).unwrap_err();
        assert_eq!(refused.kind(), Some(ErrorKind::Invalid), "{user}: {refused}");
    }
    wait_for("the app to answer", Duration::from_secs(5), || (own.platform.get(&own.name, "/").status == 200).then_some(()));
}
