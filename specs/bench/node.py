"""A platform of the benchmarks' own, and what its processes cost."""

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HTTP, HTTPS = 18_380, 18_381
STAGING = """GOPROXY GOSUMDB GONOSUMDB GOFLAGS GOPRIVATE PIP_INDEX_URL PIP_EXTRA_INDEX_URL NPM_CONFIG_REGISTRY
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy""".split()


def run(*command, **options):
    """Runs a command that must succeed; its standard output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"bench: {command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(what, look, limit=60.0, pause=0.01):
    """Looks until there is something to see."""
    deadline = time.monotonic() + limit
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: not after {limit:.0f} s: {what}")
        time.sleep(pause)


def cpu_seconds(pids):
    """CPU time of processes, to the nanosecond, threads that have ended included."""
    seconds = 0
    for pid in pids:
        try:
            seconds += time.clock_gettime((~pid << 3) | 2)  # the process's CPU clock, as clock_getcpuclockid(3) makes it
        except OSError:
            pass  # it ended meanwhile
    return seconds


class Node:
    """Own state, ports, domains, subnet, table, links, cgroups and user ids: it runs beside any other platform."""

    def __init__(self, profile):
        self.folder = Path(tempfile.mkdtemp(prefix="cupola-bench-"))
        self.folder.chmod(0o755)
        self.state, self.bin = self.folder / "state", self.folder / "bin"
        self.warden_socket = self.folder / "run/warden/warden.sock"
        self.environment = {**os.environ, "CF_HOME": str(self.folder), "CF_COLOR": "false", "LANG": "C.UTF-8",
                            "CF_CA_FILE": str(self.state / "certificates/ca.pem")}
        self.profile, self.http = profile, HTTP
        self.settings = self.folder / "settings.toml"

    def up(self):
        """Installs and boots it; returns when the supervisor says that it serves."""
        run(ROOT / "bin/install-to", self.bin, self.profile)
        staging = "".join(f"{key} = {json.dumps(os.environ[key])}\n" for key in STAGING if key in os.environ)
        self.settings.write_text(f"""run_dir = "{self.folder}/run"
system_domain = "cfbench.localhost"
apps_domain = "appbench.localhost"
http_port = {HTTP}
https_port = {HTTPS}
port_base = 18300
subnet = "10.220.0.0/18"
host_ports = [39000, 39999]
nft_table = "cupola_bench"
link_prefix = "cpb"
cgroup_parent = "cupola-bench"
container_uid_base = 2700000000
service_uid_base = 911000
memory_mb = 8192
disk_mb = 16384
quarantine_s = 5
stacks_dir = "{ROOT}/target/stacks"
[staging_environment]
{staging}""")
        self.cupola("up", "--detach", "--settings", self.settings)

    def cupola(self, command, *arguments):
        return run(self.bin / "cupola", command, "--state", self.state, *arguments)

    def pids(self):
        """The supervisor and all parts; not what runs for apps."""
        mark, found = str(self.folder).encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                    if mark in command and b"cupola-bench/" not in (entry / "cgroup").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    pass
        return found

    def pss(self):
        """Memory of the supervisor and each part, by name, in MB; what they share is divided among them."""
        names = {part["pid"]: part["service"] for part in json.loads(self.cupola("status", "--json"))["parts"]}
        sizes = {}
        for pid in self.pids():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            size = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
            name = names.get(pid, "supervisor")
            sizes[name] = sizes.get(name, 0) + size
        return sizes

    def cf(self, *arguments, **options):
        return run(self.bin / "cf", *arguments, env=self.environment, **options)

    def log_in(self):
        self.cf("api", f"https://api.cfbench.localhost:{HTTPS}")
        self.cf("auth", "admin", (self.state / "admin-password").read_text().strip())
        self.cf("create-org", "bench")
        self.cf("target", "-o", "bench")
        self.cf("create-space", "bench")
        self.cf("target", "-o", "bench", "-s", "bench")

    def api(self):
        """A connection to the API that stays open."""
        context = ssl.create_default_context(cafile=self.state / "certificates/ca.pem")
        connection = http.client.HTTPSConnection("api.cfbench.localhost", HTTPS, timeout=10)
        plain = socket.create_connection(("127.0.0.1", HTTPS), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = context.wrap_socket(plain, server_hostname="api.cfbench.localhost")
        return connection

    def own_broker(self, name):
        """Where one of the platform's own brokers is, and as whom the platform comes to it."""
        found = json.loads(self.cf("curl", f"/v3/service_brokers?names={name}"))["resources"][0]
        secrets = tomllib.loads((self.state / "secrets.toml").read_text())
        return {"url": found["url"], "user": "cupola", "password": secrets[f"broker-{name}"]}

    @staticmethod
    def get(app, connection=None):
        """Status and body of an app's first page, through the router."""
        own = connection or http.client.HTTPConnection("127.0.0.1", HTTP, timeout=10)
        try:
            own.request("GET", "/", headers={"Host": f"{app}.appbench.localhost:{HTTP}"})
            answer = own.getresponse()
            return answer.status, answer.read()
        finally:
            if not connection:
                own.close()

    def end(self):
        """Takes everything away."""
        if (self.state / "cupola.toml").exists():
            print(self.cupola("down", "--purge").strip().splitlines()[-1])
        shutil.rmtree(self.folder)
