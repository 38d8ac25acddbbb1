"""The rows about services: life of a database, many at once, a large catalog, the conformance tool."""

import json
import statistics
import subprocess
import threading
import time

from node import ROOT, run, wait_for
from rows import Row, milliseconds, say, spread

PLANS = 500
MANY, CLIENTS = 200, 8


class Session:
    """One client's connection to the API."""

    def __init__(self, node, token):
        self.connection = node.api()
        self.headers = {"Authorization": token, "Content-Type": "application/json"}

    def ask(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body is not None else None, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"bench: {method} {path}: {answer.status} {text.decode()}")
        return answer.headers.get("Location"), json.loads(text) if text else None

    def finish(self, method, path, body=None):
        """A request and the end of its job."""
        location, answer = self.ask(method, path, body)
        while location:
            path = location[location.index("/v3/"):]
            _, job = self.ask("GET", path)
            if job["state"] == "FAILED":
                raise SystemExit(f"bench: {method} {path}: {job['errors']}")
            if job["state"] == "COMPLETE":
                return answer
            time.sleep(0.01)
        return answer

    def first(self, path):
        return self.ask("GET", path)[1]["resources"][0]["guid"]


class Database:
    """Instances of the shared postgres plan in the space of the benchmark."""

    def __init__(self, node):
        self.node, self.token = node, node.cf("oauth-token").strip()
        session = Session(node, self.token)
        self.space = session.first("/v3/spaces?names=bench")
        self.plan = session.first("/v3/service_plans?names=shared&service_offering_names=postgres")

    def create(self, session, name):
        session.finish("POST", "/v3/service_instances", {
            "type": "managed", "name": name,
            "relationships": {"space": {"data": {"guid": self.space}}, "service_plan": {"data": {"guid": self.plan}}},
        })
        return session.first(f"/v3/service_instances?names={name}")


def life(node, rounds):
    """Create, bind to an app, unbind, delete, each to the end of its job."""
    database = Database(node)
    session = Session(node, database.token)
    _, app = session.ask("POST", "/v3/apps", {"name": "bound", "relationships": {"space": {"data": {"guid": database.space}}}})
    # The first instance starts the engine; it stays, so that no round does.
    keeper = database.create(session, "keeper")
    times = []
    for number in range(-2, rounds):
        began = time.perf_counter()
        guid = database.create(session, f"life-{number + 2}")
        session.finish("POST", "/v3/service_credential_bindings", {"type": "app", "relationships": {
            "app": {"data": {"guid": app["guid"]}}, "service_instance": {"data": {"guid": guid}}}})
        binding = session.first(f"/v3/service_credential_bindings?service_instance_guids={guid}")
        session.finish("DELETE", f"/v3/service_credential_bindings/{binding}")
        session.finish("DELETE", f"/v3/service_instances/{guid}")
        if number >= 0:
            times.append(time.perf_counter() - began)
    say(f"life of a database {spread(times)}")
    session.finish("DELETE", f"/v3/service_instances/{keeper}")
    return [Row("shared postgres: create + bind + unbind + delete, p50", milliseconds(times), target="500 ms",
                met=statistics.median(times) <= 0.5)]


def many(node, count):
    """Many instances from some clients at the same time; all must be there and well."""
    database = Database(node)
    failures = []

    def client(number):
        try:
            session = Session(node, database.token)
            for index in range(number, count, CLIENTS):
                database.create(session, f"many-{index}")
        except BaseException as failure:
            failures.append(str(failure))

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    if failures:
        raise SystemExit(f"bench: {len(failures)} of {CLIENTS} clients failed: {failures[0]}")
    session = Session(node, database.token)
    _, page = session.ask("GET", "/v3/service_instances?per_page=5000")
    made = [one for one in page["resources"] if one["name"].startswith("many-")]
    well = sum(one["last_operation"]["state"] == "succeeded" for one in made)
    for one in made:
        session.finish("DELETE", f"/v3/service_instances/{one['guid']}")
    say(f"{count} instances from {CLIENTS} clients in {wall:.1f} s, {well} well")
    return [Row(f"{count} shared postgres instances from {CLIENTS} clients", f"{wall:.1f} s, {count - well} lost", target="none lost",
                met=well == count)]


def catalog(node, rounds):
    """A broker, itself an app, whose catalog has many plans: from the request to the end of the job."""
    folder = node.folder / "broker"
    run("cp", "-r", ROOT / "specs/apps/broker", folder)
    node.cf("push", "broker", "-p", folder, "-m", "64M")
    url = f"http://broker.appbench.localhost:{node.http}"
    plans = [{"id": f"plan-{n}", "name": f"plan-{n}", "description": f"Plan {n}"} for n in range(PLANS)]
    offering = {"id": "large", "name": "large", "description": "Many plans", "bindable": True, "plans": plans}
    text = json.dumps({"services": [offering]})
    run("curl", "-sf", "--noproxy", "*", "-X", "PUT", "--data-binary", text, f"{url}/catalog")
    node.cf("create-service-broker", "large", "user", "password", url)
    session = Session(node, node.cf("oauth-token").strip())
    broker = session.first("/v3/service_brokers?names=large")
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        session.finish("PATCH", f"/v3/service_brokers/{broker}", {"url": url})
        times.append(time.perf_counter() - began)
    _, page = session.ask("GET", "/v3/service_plans?service_broker_names=large&per_page=1")
    if page["pagination"]["total_results"] != PLANS:
        raise SystemExit(f"bench: {page['pagination']['total_results']} plans of {PLANS}")
    node.cf("delete-service-broker", "-f", "large")
    node.cf("delete", "-f", "broker")
    say(f"catalog {spread(times)}")
    return [Row(f"catalog of {PLANS} plans read again, p50", milliseconds(times), target="1 s", met=statistics.median(times) <= 1)]


def check(node):
    """The conformance tool against the platform's own postgres broker."""
    broker = node.own_broker("postgres")
    began = time.perf_counter()
    done = subprocess.run([node.bin / "cupola", "check-broker", broker["url"], "--user", broker["user"], "--service", "postgres"],
                          env={**node.environment, "BROKER_PASSWORD": broker["password"]}, stdout=subprocess.PIPE, text=True)
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"bench: cupola check-broker:\n{done.stdout}")
    say(f"conformance in {wall:.1f} s: {done.stdout.strip().splitlines()[-1]}")
    return [Row("conformance tool, whole run against the postgres broker", f"{wall:.1f} s", target="60 s", met=wall <= 60)]


def services(node, quick):
    wait_for("the marketplace", lambda: "postgres" in node.cf("marketplace"), pause=0.5)
    return (life(node, 3 if quick else 30) + many(node, 16 if quick else MANY) + catalog(node, 1 if quick else 10) + check(node))
