"""The rows: each returns what it measured, as `Row`s."""

import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from node import ROOT, cpu_seconds, run, wait_for


@dataclass
class Row:
    what: str
    ours: str
    peer: str = "-"
    ratio: str = "-"
    cpu: str = "-"
    target: str = "-"
    met: bool | None = None


BEGAN = time.monotonic()


def say(text):
    print(f"==> [{time.monotonic() - BEGAN:4.0f}s] {text}", flush=True)


def milliseconds(times):
    return f"{statistics.median(times) * 1e3:.1f} ms"


def spread(times):
    ordered = sorted(times)
    return f"p50 {milliseconds(times)}, least {ordered[0] * 1e3:.1f}, p90 {ordered[int(len(ordered) * 0.9)] * 1e3:.1f}, n {len(times)}"


def router(profile):
    """CPU time a request, beside HAProxy and nginx: the work is done by router.sh."""
    built = "debug" if profile == "dev" else profile
    output = run(ROOT / "specs/bench/router.sh", env={**os.environ, "ROUTER_BENCH": str(ROOT / f"target/{built}/examples/router_bench")})
    print(output, flush=True)
    table = {}
    for count, name, us, rate, _ in (line.split() for line in output.splitlines()[1:]):
        table.setdefault(int(count), {})[name] = (float(us), int(rate))
    rows = []
    for count, by in table.items():
        ratio = by["ours"][0] / by["haproxy"][0]
        rows.append(Row(
            f"router, {count:,} routes: CPU time a request", f"{by['ours'][0]:.1f} µs",
            f"HAProxy {by['haproxy'][0]:.1f} µs, nginx {by['nginx'][0]:.1f} µs",
            f"{ratio:.2f} x HAProxy, {by['ours'][0] / by['nginx'][0]:.2f} x nginx", "is the figure", "2.2 x HAProxy", ratio <= 2.2))
    figures = [by["ours"][0] for by in table.values()]
    growth = max(figures) / min(figures)
    rows.append(Row("router: the dearer table against the cheaper", f"{growth:.2f} x", target="same figure (within 10 %)", met=growth <= 1.1))
    return rows


class Warden:
    """Speaks to the platform's Warden as a DEA does: a connection a request, a length, JSON."""

    def __init__(self, node):
        self.path = str(node.warden_socket)

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(self.path)
            body = json.dumps(request).encode()
            stream.sendall(struct.pack(">I", len(body)) + body)
            length = struct.unpack(">I", self.exactly(stream, 4))[0]
            answer = json.loads(self.exactly(stream, length))
        if answer["response"] == "error":
            raise SystemExit(f"bench: warden: {answer['message']}")
        return answer

    @staticmethod
    def exactly(stream, count):
        data = b""
        while len(data) < count:
            part = stream.recv(count - len(data))
            if not part:
                raise SystemExit("bench: warden closed the connection")
            data += part
        return data


def processes(mark):
    """Processes whose command line or cgroup has a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "cmdline").read_bytes() or mark in (entry / "cgroup").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def stat(pid):
    """What `/proc/<pid>/stat` says after the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()


def parent(pid):
    return int(stat(pid)[1])


def children_seconds(pid):
    """CPU time of a process's children that have ended, in ticks: good for sums of many."""
    return sum(map(int, stat(pid)[13:15])) / os.sysconf("SC_CLK_TCK")


LIMITS = {"memory_bytes": 128 << 20, "disk_bytes": 64 << 20, "cpu_shares": 128, "pids": 100, "nofile": 1024, "log_bytes_per_second": -1}
SLEEP, PATH = ["/bin/sleep", "1000"], "PATH=/usr/local/bin:/usr/bin:/bin"


def container_ours(node, warden, daemon, name):
    """Create and start by Warden: limits, overlay, disk image, own user ids, network, a host port. Wall and CPU time."""
    request = {"request": "create", "handle": name, "labels": {"bench": name}, "stack": "debian12", "limits": LIMITS, "ports": [8080],
               "process": {"argv": SLEEP, "env": [PATH], "cwd": "/home/vcap", "user": "vcap"}}
    before, began = cpu_seconds([daemon]) + children_seconds(daemon), time.perf_counter()
    warden.ask(request)
    wall = time.perf_counter() - began
    inside = set(processes(name.encode()))
    shims = {parent(pid) for pid in inside} - inside
    cpu = cpu_seconds([daemon]) + children_seconds(daemon) - before + cpu_seconds(inside | shims) + sum(map(children_seconds, shims))
    warden.ask({"request": "destroy", "handle": name})
    wait_for(f"{name} is gone", lambda: not (node.state / "warden/containers" / name).exists())
    return wall, cpu


def runc_bundle(folder):
    """What `runc spec` says, with the same root, process and limits; no network: the namespace has its loopback alone."""
    folder.mkdir()
    run("runc", "spec", "--bundle", folder)
    spec = json.loads((folder / "config.json").read_text())
    spec["root"] = {"path": str((ROOT / "target/stacks/debian12/rootfs").resolve()), "readonly": True}
    spec["process"] |= {"terminal": False, "args": SLEEP, "env": [PATH], "user": {"uid": 2000, "gid": 2000},
                        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": LIMITS["nofile"], "soft": LIMITS["nofile"]}]}
    spec["linux"]["resources"] |= {"memory": {"limit": LIMITS["memory_bytes"]}, "cpu": {"shares": LIMITS["cpu_shares"]},
                                   "pids": {"limit": LIMITS["pids"]}}
    spec["linux"]["cgroupsPath"] = "/cupola-bench-runc/box"
    (folder / "config.json").write_text(json.dumps(spec))


def container_runc(folder, name):
    runc = shutil.which("runc")
    state, pid_file = folder / "state", folder / "pid"
    command = [runc, "--root", str(state), "run", "--detach", "--pid-file", str(pid_file), "--bundle", str(folder / "bundle"), name]
    quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    began = time.perf_counter()
    pid = os.posix_spawn(runc, command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise SystemExit(f"bench: runc ended with {status}")
    cpu = usage.ru_utime + usage.ru_stime + cpu_seconds([int(pid_file.read_text())])
    run(runc, "--root", state, "delete", "--force", name)
    return wall, cpu


def containers(node, rounds):
    """Ours, theirs, ours, theirs, ...; five pairs are not counted."""
    warden = Warden(node)
    daemon = next(part["pid"] for part in json.loads(node.cupola("status", "--json"))["parts"] if part["service"] == "warden")
    folder = node.folder / "runc"
    folder.mkdir()
    runc_bundle(folder / "bundle")
    ours, theirs = [], []
    try:
        for number in range(-5, rounds):
            pair = container_ours(node, warden, daemon, f"bench-box-{number + 5}"), container_runc(folder, f"bench-runc-{number + 5}")
            if number >= 0:
                ours.append(pair[0])
                theirs.append(pair[1])
    finally:
        for hierarchy in Path("/sys/fs/cgroup").glob("**/cupola-bench-runc"):
            hierarchy.rmdir()
    (wall, cpu), (their_wall, their_cpu) = zip(*ours), zip(*theirs)
    say(f"Warden {spread(wall)}; runc {spread(their_wall)}")
    ratio = statistics.median(wall) / statistics.median(their_wall)
    return [Row("container create + start, p50", milliseconds(wall), f"runc {milliseconds(their_wall)}", f"{ratio:.2f} x runc",
                f"{statistics.mean(cpu) * 1e3:.1f} ms; runc {statistics.mean(their_cpu) * 1e3:.1f} ms (means)", "under runc's median", ratio < 1)]


def call(connection, headers, method, path, body=None):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"bench: {method} {path}: {answer.status} {text.decode()}")
    return text


def instance(node, rounds):
    """From the request that starts a stopped app, droplet unpacked on this host, to the first 200 through the router."""
    folder = node.folder / "binary"
    run(ROOT / "specs/apps/binary/build", folder)
    node.cf("push", "binary", "-p", folder, "-f", folder / "manifest.yml")
    say("pushed")
    guid = node.cf("app", "binary", "--guid").strip()
    headers = {"Authorization": node.cf("oauth-token").strip(), "Content-Type": "application/json"}
    times, cpus = [], []
    for number in range(-3, rounds):
        connection = node.api()
        call(connection, headers, "POST", f"/v3/apps/{guid}/actions/stop")
        wait_for("the route is gone", lambda: node.get("binary")[0] != 200)
        # No trace of the old instance: its end must not be measured as part of the next start.
        wait_for("its container is gone", lambda: not any((node.state / "warden/containers").iterdir()))
        time.sleep(0.5)
        pids = node.pids()
        before, began = cpu_seconds(pids), time.perf_counter()
        call(connection, headers, "POST", f"/v3/apps/{guid}/actions/start")
        wait_for("200", lambda: node.get("binary")[0] == 200, pause=0.002)
        wall = time.perf_counter() - began
        cpu = cpu_seconds(pids) - before
        connection.close()
        if number >= 0:
            times.append(wall)
            cpus.append(cpu)
    node.cf("delete", "binary", "-f")
    say(f"instance start {spread(times)}")
    return [Row("instance start to first 200, p50", milliseconds(times), cpu=f"{milliseconds(cpus)} (all parts)", target="250 ms",
                met=statistics.median(times) <= 0.25)]


def push(node, rounds):
    """`cf push` of the static site again, one page changed each time, until the client returns; then the page must be the new one."""
    folder = node.folder / "static"
    shutil.copytree(ROOT / "specs/apps/static", folder)
    times, cpus = [], []
    for number in range(-1, rounds):
        page = f"<!doctype html><title>bench</title>round {number}\n".encode()
        (folder / "public/index.html").write_bytes(page)
        pids = node.pids()
        before, began = cpu_seconds(pids), time.perf_counter()
        client = subprocess.Popen([node.bin / "cf", "push", "static", "-p", folder, "-m", "64M"], env=node.environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output = client.stdout.read()
        _, status, usage = os.wait4(client.pid, 0)
        wall = time.perf_counter() - began
        client.returncode = status
        if status:
            raise SystemExit(f"bench: cf push failed:\n{output}")
        if node.get("static") != (200, page):
            raise SystemExit("bench: the new page is not served after the push")
        if number < 0:
            say(f"first push {wall:.2f} s")
        else:
            times.append(wall)
            cpus.append((usage.ru_utime + usage.ru_stime, cpu_seconds(pids) - before))
    say(f"warm push {spread(times)}")
    node.cf("delete", "static", "-f")
    client_cpu, parts_cpu = zip(*cpus)
    return [Row("warm push of the static site, our client, p50", f"{statistics.median(times):.2f} s",
                cpu=f"client {milliseconds(client_cpu)}, all parts {milliseconds(parts_cpu)}", target="4 s",
                met=statistics.median(times) <= 4)]


def boot(node, rounds):
    """`cupola up --detach` on a state that is there, to the first 200 of `GET /v3` over HTTPS."""
    times, cpus = [], []

    def answers():
        try:
            connection = node.api()
            connection.request("GET", "/v3")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            if "connection" in locals():
                connection.close()

    for _ in range(rounds):
        node.cupola("down")
        began = time.perf_counter()
        starting = subprocess.Popen([node.bin / "cupola", "up", "--detach", "--state", node.state], stdout=subprocess.DEVNULL)
        wait_for("the API answers", answers)
        times.append(time.perf_counter() - began)
        cpus.append(cpu_seconds(set(node.pids()) - {starting.pid}))
        if starting.wait():
            raise SystemExit("bench: cupola up failed")
    say(f"boot {spread(times)}")
    return [Row("boot to first API answer, p50", f"{statistics.median(times):.2f} s", cpu=f"{milliseconds(cpus)} (all parts)", target="5 s",
                met=statistics.median(times) <= 5)]


def memory(node, settle):
    """PSS of the supervisor and all parts, nothing pushed, a while after boot; and what idling costs."""
    time.sleep(settle)
    pids = node.pids()
    before, began = cpu_seconds(pids), time.monotonic()
    samples = []
    for _ in range(5):
        time.sleep(2)
        samples.append(node.pss())
    share = (cpu_seconds(pids) - before) / (time.monotonic() - began)
    middle = sorted(samples, key=lambda sizes: sum(sizes.values()))[2]
    say("idle memory: " + ", ".join(f"{name} {size:.1f}" for name, size in sorted(middle.items(), key=lambda item: -item[1])))
    whole = sum(middle.values())
    return [Row("idle memory (PSS) of all processes", f"{whole:.0f} MB", cpu=f"{share * 100:.1f} % of a core, idle", target="300 MB", met=whole <= 300)]


if __name__ == "__main__":
    sys.exit("run bin/bench")
