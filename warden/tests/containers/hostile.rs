//! What a tenant may try from inside, as `vcap` and as the container's root. Names begin with the case's id.

use crate::{
    need_containers,
    support::{World, shell, spec},
};
use std::path::Path;
use warden_client::{ContainerSpec, ErrorKind};

/// Both users that a process inside can have.
const USERS: [&str; 2] = ["vcap", "root"];

/// Lets a Python program make system calls: `call(number, ...)` gives the error number, 0 for success.
const CALLS: &str = "import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.syscall.restype = ctypes.c_long\ndef call(number, *a):\n  ctypes.set_errno(0)\n  r = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(x) if isinstance(x, int) else x for x in a])\n  return ctypes.get_errno() if r < 0 else 0\ndef tried(f):\n  try: f()\n  except OSError as e: return e.errno\n  return 0\n";

async fn world_with_box() -> World {
    let world = World::start().await;
    world.sleeper("box").await;
    world
}

/// Runs a program that prints one line for each thing it tried, as both users.
async fn try_all(world: &World, program: &str) -> Vec<(&'static str, String)> {
    let mut lines = vec![];
    for user in USERS {
        let (status, text) = world.python("box", user, &format!("{CALLS}{program}")).await;
        assert_eq!(status, 0, "{user}: {text}");
        lines.extend(text.lines().map(|line| (user, line.to_owned())));
    }
    assert!(!lines.is_empty());
    lines
}

/// Asserts that every line ends with one of these error numbers.
async fn all_refused(world: &World, program: &str, numbers: &[i32]) {
    for (user, line) in try_all(world, program).await {
        let number: i32 = line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        assert!(numbers.contains(&number), "as {user}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_the_runtime_cannot_be_overwritten_through_proc() {
    need_containers!();
    let before = digests();
    let world = world_with_box().await;
    world
        .exec_as("box", "root", &["/bin/bash", "-c", "printf '#!/proc/self/exe\\n' > /home/vcap/sh; chmod 755 /home/vcap/sh"])
        .await;
    let looping = "import time\nend = time.time() + 2\nbad = 0\nwhile time.time() < end:\n  for p in [p for p in os.listdir('/proc') if p.isdigit()]:\n    try:\n      fd = os.open(f'/proc/{p}/exe', os.O_WRONLY); bad += os.readlink(f'/proc/self/fd/{fd}').startswith('/memfd'); os.close(fd)\n    except OSError: pass\nprint(bad)";
    let racing = format!("{CALLS}{looping}");
    let (race, ()) = tokio::join!(world.python("box", "root", &racing), async {
        for _ in 0..50 {
            let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
            let streams = warden_client::Streams { stdin: null(), stdout: null(), stderr: null() };
            let _ = world.client.exec("box", &crate::support::process("root", &["/home/vcap/sh"]), streams).await;
        }
    });
    assert_eq!(race, (0, "0\n".into()));
    assert_eq!(digests(), before);
    world.end().await;
}

fn digests() -> Vec<Vec<u8>> {
    ["warden_shim", "warden_keeper", "warden_init"]
        .map(|name| std::fs::read(crate::support::programs().join(name)).unwrap())
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_only_three_descriptors_and_a_working_directory_inside() {
    need_containers!();
    let world = world_with_box().await;
    let listing = "import os\nopen_now = []\nfor n in range(100):\n  try: os.fstat(n); open_now.append(n)\n  except OSError: pass\nprint(open_now, os.getcwd())";
    for user in USERS {
        assert_eq!(world.python("box", user, listing).await.1, "[0, 1, 2] /home/vcap\n");
    }
    let told = format!("{listing}\nimport sys\nprint(open_now, os.getcwd(), file=sys.stderr)");
    let exit = world.run(&spec("main", &["/usr/bin/python3", "-c", &told])).await;
    assert_eq!(exit.last_stderr, ["[0, 1, 2] /home/vcap"]);
    for number in 3..=20 {
        let mut asked = spec("cwd", &["/bin/true"]);
        asked.process.cwd = format!("/proc/self/fd/{number}").into();
        assert_eq!(world.client.create(&asked).await.unwrap_err().kind(), Some(ErrorKind::Invalid));
    }
    // A link to it is followed inside, by a process that has no such descriptor.
    world.exec("box", "ln -s /proc/self/fd/3 /home/vcap/out").await;
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let mut process = crate::support::process("vcap", &["/bin/pwd"]);
    process.cwd = "/home/vcap/out".into();
    let streams = warden_client::Streams { stdin: null(), stdout: null(), stderr: null() };
    assert_eq!(world.client.exec("box", &process, streams).await.unwrap_err().kind(), Some(ErrorKind::Invalid));
    world.end().await;
}

/// A layer over the whole root with one link in it.
async fn with_link(world: &World, name: &str, path: &str, target: &str) -> ContainerSpec {
    let archive = world.raw.sources[0].join(format!("{name}.tgz"));
    let mut tar =
        tar::Builder::new(flate2::write::GzEncoder::new(std::fs::File::create(&archive).unwrap(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    header.set_mtime(0);
    tar.append_link(&mut header, path, target).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    world.client.create_layer(name, &archive, Path::new("/")).await.unwrap();
    let mut asked = shell(name, "sleep 1000");
    asked.layers = vec![name.into()];
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_device_files_that_are_links_lead_nowhere() {
    need_containers!();
    let world = World::start().await;
    let before = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    for (name, path) in [("null", "dev/null"), ("console", "dev/console"), ("pts", "dev/pts/0")] {
        let asked = with_link(&world, name, path, "/proc/sys/kernel/core_pattern").await;
        // What a layer has under /dev is hidden by the container's own /dev.
        world.create(&asked).await;
        let (_, text) = world.exec(name, "stat -c '%F %t:%T' /dev/null; echo x > /dev/null; ls /dev/pts").await;
        assert_eq!(text, "character special file 1:3\nptmx\n");
    }
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_mount_points_that_are_links_are_refused() {
    need_containers!();
    let world = World::start().await;
    for name in ["proc", "sys", "dev"] {
        let asked = with_link(&world, name, name, "/home/vcap").await;
        match world.client.create(&asked).await {
            Err(e) => assert!(matches!(e.kind(), Some(ErrorKind::Internal | ErrorKind::Invalid)), "{name}: {e}"),
            Ok(_) => {
                let (_, text) =
                    world.exec(name, &format!("grep -c ' /home/vcap ' /proc/self/mountinfo; stat -fc %T /{name}")).await;
                panic!("a container with /{name} as a link: {text}");
            }
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_no_mount_has_a_peer_on_the_host() {
    need_containers!();
    let world = world_with_box().await;
    let (_, text) = world.exec("box", "cat /proc/self/mountinfo").await;
    assert!(text.lines().count() > 10, "{text}");
    for line in text.lines() {
        let optional = line.split(" - ").next().unwrap();
        assert!(!optional.contains("shared:") && !optional.contains("master:"), "{line}");
        let at = line.split(' ').nth(4).unwrap();
        let options = line.split(' ').nth(5).unwrap();
        let kernel = ["/dev/", "/proc/", "/sys/"].iter().any(|top| at.starts_with(top));
        assert!(kernel || options.contains("nosuid"), "{line}");
        if at.starts_with("/sys") || Path::new(at).starts_with("/proc/sys") {
            assert!(options.starts_with("ro"), "{line}");
        }
    }
    // No path of the host is to be seen.
    assert!(!text.contains(world.folder.to_str().unwrap()), "{text}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_a9_cgroups_are_read_only_and_cannot_be_mounted() {
    need_containers!();
    let world = world_with_box().await;
    let program = "import glob\nfor kind in (b'cgroup', b'cgroup2'):\n  print('mount', call(165, b'x', b'/tmp', kind, 0, b'memory'))\nfor f in glob.glob('/sys/fs/cgroup/*/*') + glob.glob('/sys/fs/cgroup/cgroup.*'):\n  if f.rsplit('/', 1)[1] in ('release_agent', 'notify_on_release', 'cgroup.procs', 'tasks', 'devices.allow', 'memory.limit_in_bytes', 'memory.max', 'pids.max', 'cpu.shares'):\n    print(f, tried(lambda: open(f, 'w').write('0')))\nprint('mkdir', tried(lambda: os.mkdir('/sys/fs/cgroup/x')))";
    all_refused(&world, program, &[1, 13, 30]).await;
    // What is shown is the container's own.
    let (_, own) = world
        .exec(
            "box",
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max; cat /proc/self/cgroup",
        )
        .await;
    assert!(own.starts_with(&format!("{}\n", 128 << 20)) && !own.contains(&world.raw.cgroup_parent), "{own}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_devices_are_a_pinned_list_and_none_can_be_made() {
    need_containers!();
    let world = world_with_box().await;
    let program = "import stat\nfor kind, major, minor in ((stat.S_IFBLK, 7, 0), (stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 254, 0), (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 1, 11), (stat.S_IFCHR, 10, 237)):\n  for place in ('/tmp/d', '/dev/d', '/dev/shm/d'):\n    print(place, kind, major, minor, tried(lambda: os.mknod(place, kind | 0o666, os.makedev(major, minor))))";
    all_refused(&world, program, &[1, 13]).await;
    let (_, listed) = world.exec("box", "cd /dev; ls -1").await;
    // A link to /proc/kcore, where the kernel has that: it is masked.
    let names: Vec<&str> = listed.lines().filter(|name| *name != "kcore").collect();
    assert_eq!(
        names,
        ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_the_mount_family_is_closed() {
    need_containers!();
    let world = world_with_box().await;
    let program = "print('mount', call(165, b'none', b'/tmp', b'tmpfs', 0, 0))\nprint('remount', call(165, b'none', b'/sys', b'', 0x20, 0))\nprint('bind', call(165, b'/', b'/mnt', b'', 0x1000, 0))\nprint('umount2', call(166, b'/proc', 2))\nprint('pivot_root', call(155, b'/tmp', b'/tmp'))\nprint('chroot', call(161, b'/tmp'))\nfor name, n in (('open_tree', 428), ('move_mount', 429), ('fsopen', 430), ('fsconfig', 431), ('fsmount', 432), ('fspick', 433), ('mount_setattr', 442)):\n  print(name, call(n, -100, b'/', 1, 0, 0))";
    all_refused(&world, program, &[1]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a12_no_new_namespaces() {
    need_containers!();
    let world = world_with_box().await;
    let program = "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):\n  print('unshare', hex(flag), call(272, flag))\n  print('clone', hex(flag), call(56, flag | 17, 0, 0, 0, 0))\nfd = os.open('/proc/self/ns/net', 0)\nprint('setns', call(308, fd, 0))";
    all_refused(&world, program, &[1]).await;
    let program = "print(call(435, ctypes.create_string_buffer(88), 88))";
    assert!(try_all(&world, program).await.iter().all(|(_, line)| line == "38"), "ENOSYS, so that libraries fall back");
    assert_ne!(world.exec("box", "unshare -Ur true").await.0, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a13_a14_a15_capabilities_no_new_privileges_and_filter_are_pinned() {
    need_containers!();
    let world = world_with_box().await;
    let look = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t' | tr '\\n' ' '";
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE
    let set = "00000000000004fb";
    let nothing = "0000000000000000";
    let vcap =
        format!("CapInh:{nothing} CapPrm:{nothing} CapEff:{nothing} CapBnd:{set} CapAmb:{nothing} NoNewPrivs:1 Seccomp:2 ");
    let root = format!("CapInh:{nothing} CapPrm:{set} CapEff:{set} CapBnd:{set} CapAmb:{nothing} NoNewPrivs:1 Seccomp:2 ");
    assert_eq!(world.exec("box", look).await.1, vcap);
    assert_eq!(world.exec_as("box", "root", &["/bin/bash", "-c", look]).await.1, root);
    let exit = world.run(&shell("main", &format!("{{ {look}; }} >&2"))).await;
    assert_eq!(exit.last_stderr, [vcap]);
    let mut as_root = shell("main-root", &format!("{{ {look}; }} >&2"));
    as_root.process.user = "root".into();
    assert_eq!(world.run(&as_root).await.last_stderr, [root]);
    // A program that claims to change its user does not.
    let (_, text) =
        world.exec_as("box", "root", &["/bin/bash", "-c", "cp /usr/bin/id /opt/id && chmod 4755 /opt/id && echo made"]).await;
    assert_eq!(text, "made\n");
    assert_eq!(world.exec("box", "/opt/id -u").await.1, "2000\n");
    assert_eq!(world.exec("box", "find / -xdev -perm /6000 -type f 2>/dev/null | grep -v '^/opt/id$'").await.1, "");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a16_a26_risky_calls_are_refused() {
    need_containers!();
    let world = world_with_box().await;
    let calls = [
        ("bpf", 321),
        ("io_uring_setup", 425),
        ("userfaultfd", 323),
        ("perf_event_open", 298),
        ("open_by_handle_at", 304),
        ("kexec_load", 246),
        ("kexec_file_load", 320),
        ("init_module", 175),
        ("finit_module", 313),
        ("delete_module", 176),
        ("quotactl", 179),
        ("swapon", 167),
        ("swapoff", 168),
        ("syslog", 103),
        ("settimeofday", 164),
        ("clock_settime", 227),
        ("reboot", 169),
        ("acct", 163),
        ("iopl", 172),
        ("ioperm", 173),
        ("sethostname", 170),
        ("setdomainname", 171),
        ("vhangup", 153),
        ("lookup_dcookie", 212),
        ("fanotify_init", 300),
        ("kcmp", 312),
        ("pidfd_getfd", 438),
        ("uselib", 134),
        ("nfsservctl", 180),
        ("add_key", 248),
        ("request_key", 249),
        ("keyctl", 250),
        ("move_pages", 279),
        ("mbind", 237),
        ("migrate_pages", 256),
    ];
    let list: Vec<String> = calls.iter().map(|(name, number)| format!("('{name}', {number})")).collect();
    let program = format!("for name, n in ({}):\n  print(name, call(n, 0, 0, 0, 0, 0))", list.join(", "));
    all_refused(&world, &program, &[1]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a17_socket_families_that_reach_the_kernel_are_closed() {
    need_containers!();
    let world = world_with_box().await;
    let program = "for name, family, kind, protocol in (('alg', 38, 5, 0), ('vsock', 40, 1, 0), ('packet', 17, 3, 0), ('key', 15, 3, 2), ('netfilter', 16, 3, 12), ('audit', 16, 3, 9), ('uevent', 16, 3, 15), ('xfrm', 16, 3, 6), ('bluetooth', 31, 3, 1), ('can', 29, 3, 1), ('rds', 21, 5, 0), ('tipc', 30, 5, 0), ('xdp', 44, 3, 0), ('smc', 43, 1, 0), ('alg, odd bits', (1 << 32) + 38, 5, 0)):\n  print(name, call(41, family, kind, protocol))";
    all_refused(&world, program, &[1]).await;
    let (_, text) = world.exec("box", "python3 -c \"import socket; [socket.socket(f, socket.SOCK_STREAM) for f in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)]; socket.if_nameindex(); print('usual ones work')\"").await;
    assert_eq!(text, "usual ones work\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a18_32_bit_and_x32_calls_end_the_process() {
    need_containers!();
    let world = world_with_box().await;
    // mov eax, 20 (getpid); int 0x80; ret
    let program = format!(
        "{CALLS}import mmap\nm = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\nm.write(bytes.fromhex('b814000000cd80c3'))\nf = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint('got', f())"
    );
    let x32 = format!("{CALLS}print('got', call(0x40000000 + 39))");
    for user in USERS {
        for program in [&program, &x32] {
            let (status, text) = world.python("box", user, program).await;
            assert!(status == 128 + 31 || text == "got 38\n" || text == "got 1\n", "{status} {text}");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a20_a21_kernel_files_about_the_host_are_masked_or_read_only() {
    need_containers!();
    let world = world_with_box().await;
    let program = "for p in ('/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kallsyms', '/proc/kcore', '/proc/keys', '/proc/key-users', '/proc/latency_stats', '/proc/sched_debug', '/proc/scsi', '/proc/sysrq-trigger', '/proc/timer_list', '/proc/timer_stats', '/sys/devices/virtual/powercap', '/sys/firmware', '/sys/kernel'):\n  if not os.path.exists(p): continue\n  s = os.stat(p)\n  print(p, 'hidden' if s.st_rdev == os.makedev(1, 3) or os.path.isdir(p) and os.listdir(p) == [] else 'VISIBLE')";
    for (user, line) in try_all(&world, program).await {
        assert!(line.ends_with("hidden"), "as {user}: {line}");
    }
    let program = "for p in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sys/kernel/hostname', '/proc/sys/vm/panic_on_oom', '/proc/sys/vm/drop_caches', '/proc/sys/kernel/sysrq', '/proc/sys/fs/binfmt_misc/register', '/proc/sys/net/ipv4/ip_forward', '/proc/irq/default_smp_affinity', '/sys/kernel/uevent_helper', '/sys/power/state', '/proc/1/oom_score_adj' if os.getuid() else '/proc/sys/kernel/domainname'):\n  print(p, tried(lambda: open(p, 'w').write('0')))\nprint('kmsg', tried(lambda: open('/proc/kmsg').read(1)))";
    all_refused(&world, program, &[1, 2, 13, 30]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a22_no_core_files() {
    need_containers!();
    let world = world_with_box().await;
    let (_, text) = world.exec("box", "ulimit -Hc; ulimit -c unlimited; cp /bin/sleep '/tmp/%p %s'; cd /tmp; './%p %s' 10 & sleep 0.1; kill -ABRT $!; wait; ls /tmp | wc -l").await;
    // The hard limit is 0, and of all files only the program itself is there; where the shell tells of the abort is up to it.
    assert!(text.starts_with("0\n") && text.lines().any(|line| line == "1"), "{text}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a23_a24_a25_only_the_container_s_own_processes_sockets_and_memory() {
    need_containers!();
    let world = world_with_box().await;
    world.sleeper("neighbour").await;
    let (_, text) = world.exec("box", "ls -d /proc/[0-9]* | wc -l; cat /proc/net/unix | wc -l; find / -xdev -type s 2>/dev/null; find /run /tmp /dev /sys /var/run/ -type s 2>/dev/null").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].parse::<u32>().unwrap() < 10, "{text}");
    let program = "print('environ of 1:', repr(open('/proc/1/environ').read()) if os.getuid() == 0 else tried(lambda: open('/proc/1/environ').read()))\nprint('ptrace 1:', call(101, 16, 1, 0, 0) if os.getuid() else 1)\nfor n in ('pid', 'net', 'ipc', 'mnt', 'uts', 'user', 'cgroup'):\n  assert os.readlink(f'/proc/self/ns/{n}')";
    for (user, line) in try_all(&world, program).await {
        assert!(line.ends_with("''") || line.ends_with(" 13") || line.ends_with(" 1"), "as {user}: {line}");
    }
    let make = format!("{CALLS}libc.shmget.restype = ctypes.c_int\nprint(libc.shmget(4242, 4096, 0o1666) >= 0)");
    assert_eq!(world.python("neighbour", "vcap", &make).await.1, "True\n");
    let find = format!("{CALLS}print(libc.shmget(4242, 4096, 0) >= 0)");
    assert_eq!(world.python("box", "vcap", &find).await.1, "False\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a27_no_two_containers_share_a_user_id_of_the_host() {
    need_containers!();
    let world = World::start().await;
    let mut seen = std::collections::BTreeSet::new();
    for handle in ["one", "two", "three"] {
        world.sleeper(handle).await;
        let (_, map) = world.exec(handle, "cat /proc/self/uid_map").await;
        let numbers: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!((numbers[0], numbers[2]), (0, 65_536));
        assert!(seen.insert(numbers[1] / 65_536), "{map}");
    }
    world.end().await;
}
