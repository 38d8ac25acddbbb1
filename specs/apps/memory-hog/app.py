import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def eat():
    """Takes memory until somebody ends it."""
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20)))
        if len(kept) % 16 == 0:
            print(f"{len(kept)} MB taken", flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/eat": eat, "/env": lambda: dict(os.environ)}.get(self.path, lambda: "GET /eat takes memory without end")()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


# At once, so that a push shows it; ON_REQUEST=1 waits for the request.
if not os.environ.get("ON_REQUEST"):
    print(eat(), flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
