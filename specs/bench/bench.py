"""The benchmarks: builds, boots a platform of its own, measures each row, takes everything away, prints one table.

usage: bin/bench [--write] [--profile release|dev] [--rows router,containers,instance,push,boot,memory] [--quick]
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import rows
import services
from node import ROOT, Node, run

ALL = ["router", "containers", "instance", "push", "boot", "memory", "services"]
DOCUMENT = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- bin/bench --write begins here -->", "<!-- bin/bench --write ends here -->"


def build(profile):
    """Whatever is measured, from the sources as they are."""
    def step(*command):
        rows.say(" ".join(command))
        if subprocess.run(command, cwd=ROOT).returncode:
            raise SystemExit(f"bench: {' '.join(command)} failed")
    step("bin/prepare", "bench")
    step("cargo", "build", "--profile", profile, "--locked", "-p", "cupola", "-p", "cf")
    step("cargo", "build", "--profile", profile, "--locked", "-p", "gorouter", "--example", "router_bench")
    step("bin/build-static", profile)
    step("bin/pack-buildpacks")
    step("bin/stack", "target/stacks")


def measure(wanted, profile, quick):
    """All rows, in an order in which none disturbs the next."""
    found = []
    if "router" in wanted:
        rows.say("Router, HAProxy, nginx (about four minutes)")
        found += rows.router(profile)
    if wanted == ["router"]:
        return found
    rows.say("Booting a platform")
    node = Node(profile)
    try:
        node.up()
        node.log_in()
        if "containers" in wanted:
            rows.say("Containers: Warden, runc")
            found += rows.containers(node, 3 if quick else 30)
        if "instance" in wanted:
            rows.say("Instance start")
            found += rows.instance(node, 3 if quick else 20)
        if "push" in wanted:
            rows.say("Warm push")
            found += rows.push(node, 1 if quick else 5)
        if "boot" in wanted:
            rows.say("Boot")
            found += rows.boot(node, 1 if quick else 5)
        if "memory" in wanted:
            rows.say("Idle memory")
            found += rows.memory(node, 2 if quick else 30)
        if "services" in wanted:
            rows.say("Services")
            found += services.services(node, quick)
    finally:
        node.end()
    return found


def busy_cores(seconds=5):
    """How many cores other work keeps busy right now."""
    def ticks():
        fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
        return sum(fields), fields[3] + fields[4]
    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    return os.cpu_count() * (1 - (idle_after - idle_before) / (all_after - all_before))


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return next(iter((done.stdout + done.stderr).splitlines()), "")


def table(found):
    heads = ["row", "Cupola", "peer", "ratio", "CPU time", "target", "met"]
    cells = [[row.what, row.ours, row.peer, row.ratio, row.cpu, row.target, {None: "-", True: "yes", False: "**no**"}[row.met]] for row in found]
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(heads))]
    line = lambda texts: "| " + " | ".join(text.ljust(width) for text, width in zip(texts, widths)) + " |"
    return "\n".join([line(heads), line(["-" * width for width in widths]), *map(line, cells)])


def verdict(found, wanted):
    missed = [row.what for row in found if row.met is False]
    left_out = [name for name in ALL if name not in wanted]
    text = f"{sum(row.met is True for row in found)} of {sum(row.met is not None for row in found)} targets measured are met"
    text += f"; not met: {'; '.join(missed)}." if missed else "."
    return text + (f" Not measured in this run: {', '.join(left_out)}." if left_out else "")


def facts(profile, before, after):
    """Machine and peers; no names of hosts."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    debian = Path("/etc/debian_version").read_text().strip()
    cgroups = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    peers = [re.sub(r"nginx version: nginx/", "nginx ", first_line("nginx", "-v")), re.search(r"version ([^ ]+)", first_line("haproxy", "-v")).expand(r"HAProxy \1"),
             first_line("runc", "--version").replace("version ", ""), first_line("wrk", "-v").split(" [")[0], first_line("rustc", "--version")]
    changed = bool(first_line("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"))
    commit = first_line("git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD")
    rounds, seconds = os.environ.get("ROUNDS", "3"), os.environ.get("SECONDS_EACH", "8")
    return (f"- Measured {time.strftime('%Y-%m-%d')}, profile `{profile}`, sources of {commit}{' with changes' if changed else ''}, by `bin/bench --write`.\n"
            f"- Machine: {os.cpu_count()} cores ({cpu}), {memory:.0f} GB, Linux {os.uname().release.split('-')[0]}, cgroups {cgroups}, Debian {debian}; "
            f"other work kept {before:.1f} cores busy before and {after:.1f} after the run{'' if max(before, after) < 0.2 else ', so times are longer than on a quiet machine'}.\n"
            f"- Peers and tools: {'; '.join(peers)}. Each router: {rounds} rounds of {seconds} s at each size.\n")


def write(text):
    document = DOCUMENT.read_text()
    if BEGIN not in document or END not in document:
        raise SystemExit(f"bench: {DOCUMENT} has lost its marks")
    head, rest = document.split(BEGIN)
    DOCUMENT.write_text(head + BEGIN + "\n\n" + text + "\n" + END + rest.split(END)[1])


def stop(*_):
    """A terminated run takes its platform away too."""
    raise SystemExit("bench: ended from outside")


def main():
    signal.signal(signal.SIGTERM, stop)
    parser = argparse.ArgumentParser(prog="bin/bench", description="Measures the platform beside its peers and prints one table.")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    parser.add_argument("--rows", default=",".join(ALL), help="which, with commas (default: all)")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see whether it works")
    parser.add_argument("--no-build", action="store_true", help="measure what was built before")
    options = parser.parse_args()
    wanted = options.rows.split(",")
    if unknown := set(wanted) - set(ALL):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if options.write and (options.quick or options.profile != "release"):
        parser.error("--write needs the release build and all rounds")
    if os.geteuid():
        sys.exit("bin/bench: needs root, because it makes sandboxes, networks and mounts")
    if not options.no_build:
        build(options.profile)
    before = busy_cores()
    if before > 0.2:
        rows.say(f"Other work keeps {before:.1f} cores busy: times will be longer than on a quiet machine")
    found = measure(wanted, options.profile, options.quick)
    text = facts(options.profile, before, busy_cores()) + "\n" + table(found) + "\n\n" + verdict(found, wanted) + "\n"
    print("\n" + text)
    if options.write:
        write(text)


main()
