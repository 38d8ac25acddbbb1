"""A service broker that does what it is told: it plays its part well until POST /script says otherwise, and GET /seen tells what it
was asked. PUT /catalog replaces its catalog. Everything else follows the Open Service Broker API."""

import base64
import json
import os
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NAME = os.environ.get("OFFERING", "scripted")
USER, PASSWORD = os.environ.get("BROKER_USER", "user"), os.environ.get("BROKER_PASSWORD", "password")
LOCK = threading.Lock()
SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"size": {"type": "integer", "minimum": 1, "maximum": 10}, "slow": {"type": "boolean"}},
    "additionalProperties": False,
}


def catalog():
    def plan(name, **more):
        return {"id": f"{NAME}-{name}", "name": name, "description": f"The plan {name}", "free": True, **more}

    def offering(name, plans, **more):
        return {
            "id": f"{name}-id", "name": name, "description": f"What {name} offers", "bindable": True, "plan_updateable": True,
            "plans": plans, **more,
        }

    schemas = {
        "service_instance": {"create": {"parameters": SCHEMA}, "update": {"parameters": SCHEMA}},
        "service_binding": {"create": {"parameters": SCHEMA}},
    }
    return {
        "services": [
            offering(
                NAME,
                [
                    plan("now", schemas=schemas, maintenance_info={"version": "1.0.0", "description": "First"}),
                    plan("later", maximum_polling_duration=60),
                    plan("paid", free=False, metadata={"costs": [{"amount": {"usd": 3.5}, "unit": "month"}]}),
                ],
                instances_retrievable=True,
                bindings_retrievable=True,
                tags=["scripted", "test"],
                metadata={"shareable": True, "documentationUrl": "https://docs.example.com"},
            ),
            offering(f"{NAME}-filter", [{**plan("route"), "id": f"{NAME}-route"}], requires=["route_forwarding"]),
        ]
    }


STATE = {"catalog": catalog(), "script": [], "seen": [], "instances": {}, "bindings": {}, "operations": {}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        size = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(size) or b"null")

    def answer(self, status, body, headers=()):
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        for key, value in headers:
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(payload)

    def handle_any(self):
        url = urlsplit(self.path)
        path, query = url.path, {key: values[0] for key, values in parse_qs(url.query).items()}
        body = self.body()
        if path == "/seen":
            with LOCK:
                return self.answer(200, {**STATE, "catalog": None})
        if path == "/script":
            with LOCK:
                STATE["script"] = body
            return self.answer(200, {})
        if path == "/catalog":
            with LOCK:
                STATE["catalog"] = body or catalog()
            return self.answer(200, {})
        if not path.startswith("/v2/"):
            # As a route service it answers itself, with what the router told it.
            forwarded = {key: self.headers.get(f"X-CF-{key}") for key in ("Forwarded-Url", "Proxy-Signature", "Proxy-Metadata")}
            return self.answer(200, {"hello": NAME, "forwarded": forwarded})
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            return self.answer(401, {"description": "who are you?"})
        seen = {
            "method": self.command, "path": path, "query": query, "body": body,
            "identity": self.headers.get("X-Broker-API-Originating-Identity"),
            "request": self.headers.get("X-Broker-API-Request-Identity"),
            "version": self.headers.get("X-Broker-API-Version"),
        }
        with LOCK:
            STATE["seen"].append(seen)
            step = next((s for s in STATE["script"] if s["method"] == self.command and s["path"] in path and s.get("times", 1) > 0), None)
            if step:
                step["times"] = step.get("times", 1) - 1
        if step:
            return self.play(step)
        with LOCK:
            status, answer = self.well(path, query, body)
        self.answer(status, answer, [("Retry-After", "1")] if status == 202 else [])

    def play(self, step):
        time.sleep(step.get("delay", 0))
        if step.get("close"):
            self.close_connection = True
            return
        headers = list(step.get("headers", {}).items())
        if "megabytes" in step:
            return self.answer(step.get("status", 200), b'"' + b"x" * (step["megabytes"] << 20) + b'"', headers)
        if "text" in step:
            return self.answer(step.get("status", 200), step["text"].encode(), headers)
        self.answer(step.get("status", 200), step.get("body", {}), headers)

    def well(self, path, query, body):
        parts = path.strip("/").split("/")
        if parts == ["v2", "catalog"]:
            return 200, STATE["catalog"]
        instance = parts[2]
        if parts[-1] == "last_operation":
            return self.last_operation("/".join(parts[:-1]))
        if len(parts) == 3:
            return self.instance(instance, query, body)
        return self.binding(instance, parts[4], query, body)

    def begin(self, resource, kind):
        STATE["operations"][resource] = {"kind": kind, "until": time.time() + float(os.environ.get("TAKES_S", "2"))}
        return 202, {"operation": f"{kind}-{uuid.uuid4()}"}

    def last_operation(self, resource):
        operation = STATE["operations"].get(resource)
        if operation is None:
            return 410, {}
        if time.time() < operation["until"]:
            return 200, {"state": "in progress", "description": f"still at {operation['kind']}"}
        if operation["kind"] == "delete":
            STATE["operations"].pop(resource)
            STATE["instances"].pop(resource, None)
            STATE["bindings"].pop(resource, None)
            return 410, {}
        return 200, {"state": "succeeded", "description": f"{operation['kind']} is done"}

    def instance(self, guid, query, body):
        resource = f"v2/service_instances/{guid}"
        known = STATE["instances"].get(resource)
        if self.command == "GET":
            return (200, known) if known else (404, {})
        later = ((body or {}).get("plan_id") or query.get("plan_id", "")).endswith("-later")
        if later and query.get("accepts_incomplete") != "true":
            return 422, {"error": "AsyncRequired", "description": "this takes a while"}
        if self.command == "DELETE":
            if known is None:
                return 410, {}
            if later:
                return self.begin(resource, "delete")
            STATE["instances"].pop(resource)
            return 200, {}
        if self.command == "PATCH":
            known.update({key: body[key] for key in ("plan_id", "parameters") if key in body})
            return self.begin(resource, "update") if later else (200, {})
        created = {"service_id": body["service_id"], "plan_id": body["plan_id"], "parameters": body.get("parameters", {})}
        if known is not None:
            return (200, {}) if known == created else (409, {"description": "another one with this id is here"})
        STATE["instances"][resource] = created
        if later:
            return self.begin(resource, "create")
        return 201, {"dashboard_url": f"https://dashboard.example.com/{guid}"}

    def binding(self, instance, guid, query, body):
        resource = f"v2/service_instances/{instance}/service_bindings/{guid}"
        known = STATE["bindings"].get(resource)
        if self.command == "GET":
            return (200, known) if known else (404, {})
        later = ((body or {}).get("plan_id") or query.get("plan_id", "")).endswith("-later")
        if later and query.get("accepts_incomplete") != "true":
            return 422, {"error": "AsyncRequired", "description": "this takes a while"}
        if self.command == "DELETE":
            if known is None:
                return 410, {}
            if later:
                return self.begin(resource, "delete")
            STATE["bindings"].pop(resource)
            return 200, {}
        if known is not None:
            return 200, known
        if (body.get("bind_resource") or {}).get("route"):
            answer = {"route_service_url": os.environ.get("ROUTE_SERVICE_URL", "https://filter.example.com")}
        else:
            answer = {"credentials": {"uri": f"scripted://{guid}", "username": guid, "password": uuid.uuid4().hex}}
        STATE["bindings"][resource] = {**answer, "parameters": body.get("parameters", {})}
        return self.begin(resource, "create") if later else (201, answer)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST = handle_any


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
