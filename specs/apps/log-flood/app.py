import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def flood():
    """Writes numbered lines as fast as it can."""
    lines = int(os.environ.get("LINES_PER_FLOOD", "100000"))
    for number in range(lines):
        sys.stdout.write(f"flood line {number} {'x' * 80}\n")
    sys.stdout.flush()
    return {"lines": lines}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/flood": flood, "/env": lambda: dict(os.environ)}.get(self.path, lambda: "GET /flood writes 100,000 lines")()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


# At once, so that a push shows it; ON_REQUEST=1 waits for the request.
if not os.environ.get("ON_REQUEST"):
    print(flood(), flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
