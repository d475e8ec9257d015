"""Serves the WSGI application of app.py over wasi:http, which is how Coracle calls a component."""

import atexit  # weakref imports it for the first resource of a call: at the build that takes no time of a call.
import io
import os
import sys
import traceback  # wsgiref wants it when an application fails; what is not imported at the build is not there.
from urllib.parse import unquote_to_bytes, urlsplit
from wsgiref.handlers import BaseHandler

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import environment, types
from wit_world.imports.streams import StreamError_Closed

from app import app


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        # What Python knows of its environment is from the time of the build. One by one, because `update` asks a list
        # whether it is a mapping, and that takes long where nobody has asked before.
        for name, value in environment.get_environment():
            os.environ[name] = value
        Exchange(request, response_out).run(app)
        sys.stdout.flush()


class Exchange(BaseHandler):
    """One request and its response."""

    wsgi_multithread = False
    wsgi_run_once = True
    os_environ = {}

    def __init__(self, request, response_out):
        self.request = request
        self.response_out = response_out

    def add_cgi_vars(self):
        url = urlsplit(self.request.path_with_query() or "/")
        host, _, port = (self.request.authority() or "localhost").partition(":")
        self.environ.update(
            REQUEST_METHOD=method(self.request),
            SCRIPT_NAME="",
            PATH_INFO=unquote_to_bytes(url.path).decode("latin-1"),
            QUERY_STRING=url.query,
            SERVER_NAME=host,
            SERVER_PORT=port or "80",
            SERVER_PROTOCOL="HTTP/1.1",
        )
        for name, value in self.request.headers().entries():
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            self.environ[key] = value.decode("latin-1")

    def get_stdin(self):
        body = io.BytesIO()
        with self.request.consume() as incoming, incoming.stream() as stream:
            try:
                while True:
                    body.write(stream.blocking_read(1 << 16))
            except Err as error:
                if not isinstance(error.value, StreamError_Closed):
                    raise
        body.seek(0)
        return body

    def get_stderr(self):
        return sys.stderr

    def send_headers(self):
        self.cleanup_headers()
        self.headers_sent = True
        fields = [(name, value.encode("latin-1")) for name, value in self.headers.items()]
        response = types.OutgoingResponse(types.Fields.from_list(fields))
        response.set_status_code(int(self.status[:3]))
        self.body = response.body()
        self.stream = self.body.write()
        types.ResponseOutparam.set(self.response_out, Ok(response))

    def _write(self, data):
        while data:
            if room := self.stream.check_write():
                self.stream.write(data[:room])
                data = data[room:]
            else:
                self.stream.subscribe().block()

    def _flush(self):
        self.stream.flush()

    def close(self):
        if self.headers_sent:
            self.stream.__exit__(None, None, None)
            types.OutgoingBody.finish(self.body, None)
        super().close()


def method(request):
    known = request.method()
    if isinstance(known, types.Method_Other):
        return known.value
    return type(known).__name__.removeprefix("Method_").upper()
