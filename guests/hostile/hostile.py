#!/usr/bin/python3
"""A web server whose paths are misdeeds: what a program must not be able to do, and what it must be able to survive.

Each attempt answers what came of it; the tests say what should have.
"""
import ctypes
import http.server
import os
import pathlib
import signal
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

LIBC = ctypes.CDLL(None, use_errno=True)


def errno_of(result):
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read(200).decode(errors="replace") or "(empty)"
    except OSError as error:
        return f"refused: {error.strerror}"


def write(path):
    try:
        pathlib.Path(path).write_text("x")
        return "done"
    except OSError as error:
        return f"refused: {error.strerror}"


def listing(path):
    try:
        return "\n".join(sorted(os.listdir(path)))
    except OSError as error:
        return f"refused: {error.strerror}"


def reach(host, port):
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return "reached"
    except OSError as error:
        return f"refused: {error.strerror or error}"


def resolve(name):
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        return f"refused: {error.strerror or error}"


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError as error:
        return f"refused: {error}"


def mount():
    return errno_of(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None))


def unshare():
    return errno_of(LIBC.unshare(0x10000000))  # CLONE_NEWUSER


def ptrace():
    return errno_of(LIBC.ptrace(16, 1, None, None))  # PTRACE_ATTACH


def keyctl():
    return errno_of(LIBC.syscall(250, 0, -3, 1))  # KEYCTL_GET_KEYRING_ID, as x86-64 numbers it


def device():
    try:
        os.mknod("/tmp/disk", 0o600 | 0o060000, os.makedev(254, 0))
        return "done"
    except OSError as error:
        return f"refused: {error.strerror}"


def fork_bomb():
    made = 0
    children = []
    try:
        for _ in range(10_000):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
            made += 1
    except OSError as error:
        return f"{made} processes, then: {error.strerror}"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return f"{made} processes"


def fill(path):
    written = 0
    try:
        with open(path, "wb") as file:
            for _ in range(100_000):
                written += file.write(b"x" * 65536)
                file.flush()
    except OSError as error:
        return f"{written // 1024} KiB, then: {error.strerror}"
    finally:
        try:
            os.remove(path)
        except OSError:
            pass
    return f"{written // 1024} KiB"


def memory():
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20)))


def who():
    status = pathlib.Path("/proc/self/status").read_text()
    wanted = ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp:")
    return "\n".join(line for line in status.splitlines() if line.startswith(wanted)) + f"\npid {os.getpid()}"


def owner(path):
    return os.stat(path).st_uid


DEEDS = {
    "read": read, "write": write, "list": listing, "reach": reach, "resolve": resolve, "fetch": fetch, "mount": mount,
    "unshare": unshare, "ptrace": ptrace, "keyctl": keyctl, "device": device, "forks": fork_bomb, "fill": fill,
    "memory": memory, "who": who, "owner": owner,
    "env": lambda name: os.environ.get(name, "(not set)"),
    "sleep": lambda seconds: time.sleep(float(seconds)) or "slept",
    "print": lambda text: print(text, flush=True) or "printed",
    "policy": lambda: {os.SCHED_BATCH: "batch"}.get(os.sched_getscheduler(0), "another"),
    "instance": lambda: pathlib.Path("/etc/hostname").read_text() + str(BORN),
}
BORN = time.monotonic_ns()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        deed = url.path.strip("/")
        arguments = [value for _, value in urllib.parse.parse_qsl(url.query)]
        if deed == "exit":
            print("asked to leave", file=sys.stderr, flush=True)
            os._exit(int(arguments[0]))
        if deed == "exit-in-body":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.wfile.flush()
            os._exit(3)
        if deed == "events":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for number in range(3):
                self.wfile.write(f"data: {number}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.05)
            self.close_connection = True
            return
        if deed == "upgrade":
            self.send_response(101)
            self.send_header("connection", "upgrade")
            self.send_header("upgrade", "echo")
            self.end_headers()
            while chunk := self.rfile.read1(4096):
                self.wfile.write(chunk)
                self.wfile.flush()
            self.close_connection = True
            return
        action = DEEDS.get(deed)
        body = (str(action(*arguments)) if action else "ready").encode()
        self.send_response(200 if action or not deed else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if os.environ.get("IGNORE_TERM"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("LISTEN_ON") or os.environ["PORT"])), Handler).serve_forever()
