import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(dict(os.environ)) if self.path == "/env" else "Hello from the web process\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if self.path == "/env" else "text/plain")
        self.end_headers()
        self.wfile.write(body.encode())


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
