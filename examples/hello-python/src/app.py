"""Greets whoever calls: a request in, a response out, a line in the log."""


def app(environ, start_response):
    name = environ["wsgi.input"].read().decode().strip() or "world"

    # What a function prints is its log: `coracle logs hello-python`.
    print(f"greeting {name}")

    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Hello, {name}!\n".encode()]
