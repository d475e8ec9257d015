"""Greets whoever calls: a web server of Python's own library, with a line in the log."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Greeter(BaseHTTPRequestHandler):
    # Connections are kept for the next call, and an answer is sent in one piece.
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer("ok\n")
        name = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode().strip() or "world"

        # What a function prints is its log: `coracle logs hello-python-http`.
        print(f"greeting {name}")

        self.answer(f"Hello, {name}!\n")

    do_POST = do_GET

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Calls are counted and timed by Coracle: `coracle calls`."""


class Server(ThreadingHTTPServer):
    # Connections that may wait to be accepted: the usual 5 is soon too few.
    request_queue_size = 128


Server(("", int(os.environ.get("PORT", 8080))), Greeter).serve_forever()
