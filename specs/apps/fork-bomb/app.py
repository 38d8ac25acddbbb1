import json
import os
import signal
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def fork():
    """Makes processes until the first error, at most MOST of them; says how many, and ends them."""
    most = int(os.environ.get("MOST", "20000"))
    children, error = [], None
    while len(children) < most:
        try:
            child = os.fork()
        except OSError as failure:
            error = failure.strerror
            break
        if child == 0:
            time.sleep(30)
            os._exit(0)
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    return {"processes": len(children), "error": error}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/fork": fork, "/env": lambda: dict(os.environ)}.get(self.path, lambda: "GET /fork makes processes until it may not")()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


# At once, so that a push shows it; ON_REQUEST=1 waits for the request.
if not os.environ.get("ON_REQUEST"):
    print(fork(), flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
