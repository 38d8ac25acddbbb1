"""Tries from inside of a container what a hostile tenant would try.

`python3 probe.py` prints one JSON object: case -> detail -> what happened. A thing that was tried is "allowed" or has the name of its
error. `python3 probe.py serve` is an app: /probe answers what the probe found in the app's own container, /staging what it found where
the droplet was made, /do/NAME misbehaves.
"""

import ctypes
import errno
import glob
import json
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ROOT = os.getuid() == 0
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def call(number, *arguments):
    """A system call: the name of its error, or "allowed"."""
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(x) if isinstance(x, int) else x for x in arguments])
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "allowed"


def tried(action):
    try:
        action()
    except OSError as failure:
        return errno.errorcode[failure.errno]
    return "allowed"


def write(path, text="0"):
    def action():
        with open(path, "w") as file:
            file.write(text)

    return tried(action)


def in_child(action):
    """Runs it in a process of its own: how that ended."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def descriptors():
    found = []
    for number in range(256):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    return found


def own_status():
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    lines = (line.split(":", 1) for line in open("/proc/self/status"))
    return {key: value.strip() for key, value in lines if key in wanted}


@case
def a1():
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) != os.getpid():
            found[pid] = tried(lambda: os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY)))
    return found


@case
def a2():
    return {"descriptors": OPEN_AT_START, "folder": os.getcwd()}


@case
def a3():
    found = {"null": stat.filemode(os.stat("/dev/null").st_mode)[0] + str(os.stat("/dev/null").st_rdev == os.makedev(1, 3))}
    found["links"] = [path for path in glob.glob("/dev/*") if os.path.islink(path) and not os.readlink(path).startswith(("/proc/self/fd", "pts/", "/proc/kcore"))]
    return found


@case
def a5():
    kinds = {}
    for line in open("/proc/self/mountinfo"):
        left, right = line.split(" - ")
        kinds[left.split()[4]] = right.split()[0]
    return {path: ("link" if os.path.islink(path) else kinds.get(path, "no mount")) for path in ("/proc", "/sys", "/dev")}


@case
def a6():
    return {"mounts": open("/proc/self/mountinfo").read().splitlines()}


@case
def a8():
    found = {}
    for kind in (b"cgroup", b"cgroup2"):
        found[kind.decode()] = call(165, b"x", b"/tmp", kind, 0, b"memory")
    for path in glob.glob("/sys/fs/cgroup/*/*") + glob.glob("/sys/fs/cgroup/cgroup.*"):
        if path.rsplit("/", 1)[1] in ("release_agent", "notify_on_release", "cgroup.procs", "tasks", "memory.limit_in_bytes", "memory.max", "pids.max", "cpu.shares"):
            found[path] = write(path)
    found["mkdir"] = tried(lambda: os.mkdir("/sys/fs/cgroup/x"))
    return found


@case
def a9():
    found = {"bpf": call(321, 5, 0, 0)}
    for path in glob.glob("/sys/fs/cgroup/devices/devices.*"):
        found[path] = write(path, "b *:* rwm")
    return found


@case
def a10():
    found = {}
    for kind, major, minor in ((stat.S_IFBLK, 7, 0), (stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 254, 0), (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 1, 11), (stat.S_IFCHR, 10, 237)):
        for folder in ("/tmp", "/dev", "/dev/shm", "/home/vcap"):
            path = f"{folder}/device-{major}-{minor}"
            found[f"{path} {kind:o}"] = tried(lambda: os.mknod(path, kind | 0o666, os.makedev(major, minor)))
    return {"made": found, "listed": sorted(set(os.listdir("/dev")) - {"core"})}


@case
def a11():
    found = {
        "mount": call(165, b"none", b"/tmp", b"tmpfs", 0, 0),
        "remount": call(165, b"none", b"/sys", b"", 0x20, 0),
        "bind": call(165, b"/", b"/mnt", b"", 0x1000, 0),
        "umount2": call(166, b"/proc", 2),
        "pivot_root": call(155, b"/tmp", b"/tmp"),
        "chroot": call(161, b"/tmp"),
    }
    for name, number in (("open_tree", 428), ("move_mount", 429), ("fsopen", 430), ("fsconfig", 431), ("fsmount", 432), ("fspick", 433), ("mount_setattr", 442)):
        found[name] = call(number, -100, b"/", 1, 0, 0)
    return found


@case
def a12():
    found = {}
    for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
        found[f"unshare {flag:x}"] = call(272, flag)
        found[f"clone {flag:x}"] = call(56, flag | 17, 0, 0, 0, 0)
    for kind in ("net", "mnt", "user", "pid"):
        number = os.open(f"/proc/self/ns/{kind}", 0)
        found[f"setns {kind}"] = call(308, number, 0)
        os.close(number)
    return {"refused": found, "clone3": call(435, ctypes.create_string_buffer(88), 88)}


@case
def a13():
    return own_status()


@case
def a14():
    found = {"setuid in the stack": []}
    for top in ("/usr", "/bin", "/sbin", "/lib", "/opt", "/etc"):
        for folder, _, files in os.walk(top):
            for name in files:
                try:
                    mode = os.lstat(os.path.join(folder, name)).st_mode
                except OSError:
                    continue
                if stat.S_ISREG(mode) and mode & 0o6000:
                    found["setuid in the stack"].append(os.path.join(folder, name))
    planted = "/home/vcap/app/planted/id"
    if os.path.exists(planted):
        found["planted bits"] = oct(os.stat(planted).st_mode & 0o6000)
        found["planted user"] = subprocess.run([planted, "-u"], capture_output=True, text=True).stdout.strip()
    subprocess.run(["cp", "/usr/bin/id", "/tmp/id"], check=True)
    os.chmod("/tmp/id", 0o6755)
    found["own user"] = str(os.getuid())
    found["made user"] = subprocess.run(["/tmp/id", "-u"], capture_output=True, text=True).stdout.strip()
    # VFS_CAP_REVISION_2, effective, CAP_SYS_ADMIN
    wanted = (0x02000001).to_bytes(4, "little") + (1 << 21).to_bytes(4, "little") + bytes(12)
    found["capability of a file"] = tried(lambda: os.setxattr("/tmp/id", "security.capability", wanted))
    os.unlink("/tmp/id")
    return found


@case
def a16():
    calls = {
        "bpf": 321, "io_uring_setup": 425, "userfaultfd": 323, "perf_event_open": 298, "open_by_handle_at": 304, "kexec_load": 246,
        "kexec_file_load": 320, "init_module": 175, "finit_module": 313, "delete_module": 176, "quotactl": 179, "swapon": 167,
        "swapoff": 168, "syslog": 103, "settimeofday": 164, "clock_settime": 227, "reboot": 169, "acct": 163, "iopl": 172, "ioperm": 173,
        "sethostname": 170, "setdomainname": 171, "vhangup": 153, "lookup_dcookie": 212, "fanotify_init": 300, "kcmp": 312,
        "pidfd_getfd": 438, "uselib": 134, "nfsservctl": 180, "move_pages": 279, "mbind": 237, "migrate_pages": 256,
    }
    return {name: call(number, 0, 0, 0, 0, 0) for name, number in calls.items()}


@case
def a17():
    families = {
        "alg": (38, 5, 0), "vsock": (40, 1, 0), "packet": (17, 3, 0), "key": (15, 3, 2), "netfilter": (16, 3, 12), "audit": (16, 3, 9),
        "uevent": (16, 3, 15), "xfrm": (16, 3, 6), "bluetooth": (31, 3, 1), "can": (29, 3, 1), "rds": (21, 5, 0), "tipc": (30, 5, 0),
        "xdp": (44, 3, 0), "smc": (43, 1, 0), "alg, odd bits": ((1 << 32) + 38, 5, 0),
    }
    usual = [tried(lambda: socket.socket(family, socket.SOCK_STREAM).close()) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)]
    return {"refused": {name: call(41, *numbers) for name, numbers in families.items()}, "usual": usual}


def machine_code(code):
    """Runs it in a child: its result as an exit status; the signal that ended it otherwise."""

    def run():
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(bytes.fromhex(code))
        result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
        os._exit(-result if -100 < result < 0 else 0)

    status = in_child(run)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else errno.errorcode.get(os.WEXITSTATUS(status), "allowed")


@case
def a18():
    # mov eax, 20 (getpid); int 0x80; ret, then socketcall(socket, ..) likewise, then getpid by its x32 number with syscall.
    return {
        "int 0x80": machine_code("b814000000cd80c3"),
        "socketcall": machine_code("53b866000000bb01000000b900000000cd805bc3"),
        "x32": machine_code("b8270000400f05c3"),
    }


@case
def a20():
    found = {}
    for path in (
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/key-users",
        "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
        "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/kernel",
    ):
        if os.path.exists(path):
            hidden = os.stat(path).st_rdev == os.makedev(1, 3) or os.path.isdir(path) and os.listdir(path) == []
            found[path] = "hidden" if hidden else "visible"
    return found


@case
def a21():
    found = {}
    for path in (
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
        "/proc/sys/vm/panic_on_oom", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/sysrq", "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/power/state",
    ):
        found[path] = write(path)
    # Masked by /dev/null: what is written goes nowhere.
    trigger = "/proc/sysrq-trigger"
    if os.path.exists(trigger):
        found[trigger] = "EROFS" if os.stat(trigger).st_rdev == os.makedev(1, 3) else write(trigger, "h")
    found["/proc/kmsg"] = tried(lambda: open("/proc/kmsg").read(1))
    found["syslog"] = call(103, 3, 0, 0)
    return found


@case
def a22():
    raised = "refused"
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        raised = "allowed"
    except (ValueError, OSError):
        pass
    folder = "/tmp/%p %s\n"
    os.makedirs(folder, exist_ok=True)

    def abort():
        os.chdir(folder)
        os.abort()

    dumped = os.WCOREDUMP(in_child(abort))
    return {"limit": resource.getrlimit(resource.RLIMIT_CORE), "raised": raised, "dumped": dumped, "files": os.listdir(folder)}


@case
def a23():
    processes = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            processes[pid] = open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
        except OSError:
            pass
    found = {"processes": processes}
    try:
        found["environment of 1"] = open("/proc/1/environ").read()
    except OSError as failure:
        found["environment of 1"] = errno.errorcode[failure.errno]
    buffer = ctypes.create_string_buffer(64)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    beyond = max(map(int, processes)) + 1000
    found["process_vm_readv beyond"] = call(310, beyond, vector, 1, vector, 1, 0)
    found["ptrace beyond"] = call(101, 16, beyond, 0, 0)
    if not ROOT:
        found["ptrace 1"] = call(101, 16, 1, 0, 0)
    return found


@case
def a24():
    names = [line.split()[7] for line in open("/proc/net/unix").read().splitlines()[1:] if len(line.split()) > 7]
    return {"sockets": names, "segments": open("/proc/sysvipc/shm").read().splitlines()[1:]}


@case
def a25():
    found = []
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if name != "proc"]
        for name in files:
            try:
                if stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode):
                    found.append(os.path.join(folder, name))
            except OSError:
                pass
    return {"sockets": found, "mounts": open("/proc/self/mountinfo").read()}


@case
def a26():
    found = {name: call(number, 0, 0, 0, 0, 0) for name, number in (("add_key", 248), ("request_key", 249), ("keyctl", 250))}
    hidden = not os.path.exists("/proc/keys") or os.stat("/proc/keys").st_rdev == os.makedev(1, 3)
    return {"calls": found, "/proc/keys": "hidden" if hidden else "visible"}


@case
def a27():
    return {"map": open("/proc/self/uid_map").read().split()}


@case
def a44():
    return {
        "nice": tried(lambda: os.nice(-5)),
        "fifo": tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))),
    }


@case
def a32():
    children, error = fork_many(20_000)
    end_all(children)
    threads, idle = 0, threading.Event()
    try:
        while threads < 20_000:
            threading.Thread(target=idle.wait, daemon=True).start()
            threads += 1
    except RuntimeError:
        pass
    idle.set()
    while threading.active_count() > 1 + SERVING:
        time.sleep(0.01)
    return {"processes": len(children), "error": error, "threads": threads}


@case
def a35():
    numbers = {}
    for name in ("limit_in_bytes", "memsw.limit_in_bytes"):
        path = f"/sys/fs/cgroup/memory/memory.{name}"
        if os.path.exists(path):
            numbers[name] = int(open(path).read())
    if os.path.exists("/sys/fs/cgroup/memory.swap.max"):
        numbers["swap.max"] = open("/sys/fs/cgroup/memory.swap.max").read().strip()
    return numbers


def fill(folder):
    """Takes all room: the error, and how much it was."""
    path, chunk = os.path.join(folder, "filler"), 32 << 20
    with open(path, "wb") as file:
        taken = 0
        try:
            while taken < 64 << 30:
                os.posix_fallocate(file.fileno(), taken, chunk)
                taken += chunk
        except OSError:
            pass
        file.seek(0, os.SEEK_END)
        try:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        except OSError as failure:
            error = errno.errorcode[failure.errno]
    size = os.stat(path).st_blocks * 512
    os.unlink(path)
    return {"error": error, "mb": size >> 20}


@case
def a36():
    return {"shm": fill("/dev/shm")}


@case
def a39():
    return {folder: fill(folder) for folder in ("/home/vcap", "/tmp", "/var/tmp")}


@case
def a41():
    folder = "/tmp/many"
    limit = os.statvfs("/tmp").f_files
    if limit > 100_000:  # too many to make them all: the number itself is the answer
        return {"limit": limit}
    os.mkdir(folder)
    made, error = 0, "none"
    try:
        while made < 4_000_000:
            os.mknod(f"{folder}/{made}")
            made += 1
    except OSError as failure:
        error = errno.errorcode[failure.errno]
    for number in range(made):
        os.unlink(f"{folder}/{number}")
    os.rmdir(folder)
    return {"error": error, "made": made, "limit": limit}


@case
def a43():
    found = []
    try:
        while True:
            found.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as failure:
        error = errno.errorcode[failure.errno]
    for number in found:
        os.close(number)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    raised = "allowed"
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit + 1, limit + 1))
    except (ValueError, OSError):
        raised = "refused"
    return {"error": error, "open": len(found), "raised": raised}


def fork_many(most):
    children = []
    while len(children) < most:
        try:
            child = os.fork()
        except OSError as failure:
            return children, errno.errorcode[failure.errno]
        if child == 0:
            signal.pause()
            os._exit(0)
        children.append(child)
    return children, "none"


def end_all(children):
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)


def probe():
    found = {}
    for name, function in CASES.items():
        began = time.monotonic()
        try:
            found[name] = function()
        except Exception as failure:
            found[name] = {"broken": repr(failure)}
        found[name]["seconds"] = round(time.monotonic() - began, 2)
    return found


# What the app does on request.


def eat():
    """Memory without end, in a child, while this process only waits."""

    def action():
        kept = []
        while True:
            kept.append(b"x" * (1 << 20))

    in_child(action)


def zombies():
    made = 0
    try:
        while made < 50_000:
            if os.fork() == 0:
                os._exit(0)
            made += 1
    except OSError as failure:
        return {"made": made, "error": errno.errorcode[failure.errno]}
    return {"made": made, "error": "none"}


def orphans():
    """Processes whose parent has gone: somebody else must take their ends."""
    for _ in range(3000):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.waitpid(child, 0)
    time.sleep(0.5)
    states = [line.split()[2] for line in (open(path).read() for path in glob.glob("/proc/[0-9]*/stat"))]
    return {"zombies": states.count("Z")}


def leave():
    """Ends the app, and leaves processes that do not want to go."""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            while True:
                try:
                    if os.fork():
                        time.sleep(0.002)
                except OSError:
                    time.sleep(0.01)
    time.sleep(0.3)
    os._exit(5)


def deaf():
    """All processes deaf for TERM; one traces another; all that may be stopped is stopped."""
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    children, _ = fork_many(20)
    call(101, 16, children[0], 0, 0)
    for child in children[1:]:
        os.kill(child, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def many_files():
    """Files to the limit in several processes, held open."""
    held = []
    for _ in range(16):
        child = os.fork()
        if child == 0:
            try:
                while True:
                    os.open("/dev/null", os.O_RDONLY)
            except OSError:
                signal.pause()
        held.append(child)
    time.sleep(2)
    counts = [len(os.listdir(f"/proc/{child}/fd")) for child in held]
    numbers = {"each": min(counts)}
    end_all(held)
    return numbers


def serve():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    at_start = {"a2": {"descriptors": OPEN_AT_START, "folder": os.getcwd()}, "a13": own_status()}
    result = {}

    def work():
        output = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
        print(output.stderr, file=sys.stderr, flush=True)
        found = json.loads(output.stdout)
        found.update(at_start)
        result["text"] = json.dumps(found)

    if os.environ.get("PROBE_AT_START"):
        threading.Thread(target=work, daemon=True).start()

    actions = {f"/do/{action.__name__}": action for action in (eat, zombies, orphans, leave, deaf, many_files)}

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status, text):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self):
            if self.path == "/probe":
                self.answer(200 if "text" in result else 503, result.get("text", "{}"))
            elif self.path == "/staging":
                self.answer(200, open("/home/vcap/app/staging.json").read())
            elif self.path == "/planted":
                folder = "/home/vcap/app/planted"
                self.answer(200, json.dumps({name: os.path.realpath(f"{folder}/{name}") for name in sorted(os.listdir(folder))}))
            elif self.path in actions:
                self.answer(200, json.dumps(actions[self.path]()))
            else:
                self.answer(200, json.dumps("up"))

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()


OPEN_AT_START = descriptors()
SERVING = 0
if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        print(json.dumps(probe()))
