import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def fill():
    """Writes to the app's disk until the first error; says how much it was and which. More than 4 GB means that nobody stops it."""
    written = 0
    try:
        with open("filler", "wb") as file:
            while written < 4 << 30:
                written += file.write(os.urandom(1 << 20))
                file.flush()
                os.fsync(file.fileno())
        error = None
    except OSError as failure:
        error = failure.strerror
    finally:
        os.unlink("filler")
    return {"written_mb": written >> 20, "error": error}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/fill": fill, "/env": lambda: dict(os.environ)}.get(self.path, lambda: "GET /fill writes until it may not")()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


# At once, so that a push shows it; ON_REQUEST=1 waits for the request.
if not os.environ.get("ON_REQUEST"):
    print(fill(), flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
