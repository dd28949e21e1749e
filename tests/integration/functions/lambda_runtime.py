"""A small Lambda Runtime API, and a function that AWS's own runtime client for Python runs against it.

The client asks for the next invocation, calls the handler, and posts its response or error (Lambda developer guide,
"Using the Lambda runtime API for custom runtimes").
"""

from __future__ import annotations

import importlib.util
import io
import json
import queue
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from cqrsctl.local.ports import LOOPBACK, listener
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION = "/2018-06-01/runtime"
_BOOTSTRAP = """
import sys
task, libraries, handler = sys.argv[1:]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"typer", "rich", "msgspec", "moto", "tenacity", "platformdirs"}:
            raise ImportError(f"{name} is not in Lambda")

sys.meta_path.insert(0, Refuse())
sys.path += [task, libraries]
from awslambdaric.__main__ import main
main(["bootstrap", handler])
"""


@dataclass(frozen=True)
class Invocation:
    """What an invocation came to: its response or its error, and what it wrote to standard output."""

    request_id: str
    response: Any
    error: dict[str, Any] | None
    output: str

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines among the output; the client writes an error's trace in a form of its own."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]

    def measured(self, *names: str) -> tuple[float, ...]:
        """Measures of the one line that a successful invocation writes."""
        assert self.error is None, self.error
        (line,) = self.lines()
        return tuple(line[name] for name in names)


@dataclass
class _Api:
    """What the client is to be given, and what it gave."""

    invocations: queue.Queue[tuple[str, bytes] | None] = field(default_factory=queue.Queue)
    outcomes: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: _Api) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.api = api


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        assert self.path == f"{_VERSION}/invocation/next", self.path
        invocation = self.server.api.invocations.get()
        if invocation is None:
            self.close_connection = True
            return
        request_id, body = invocation
        headers = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + 60) * 1_000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:ProductHandler",
            "Content-Type": "application/json",
        }
        self._answer(200, body, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(202, b'{"status":"OK"}', {})
        self.server.api.outcomes.put((self.path.removeprefix(f"{_VERSION}/"), json.loads(body)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name in the class above
        """The tests tell what matters."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Function:
    """A function that runs. `process` is its execution environment: one, as its invocations follow each other."""

    process: subprocess.Popen[bytes]
    output: Path
    _api: _Api

    def invoke(self, event: Any, seconds: float = 60) -> Invocation:
        """Run the handler once."""
        before = self.output.stat().st_size
        request_id = str(uuid.uuid4())
        self._api.invocations.put((request_id, json.dumps(event).encode()))
        path, content = self.outcome(seconds)
        written = self.output.read_bytes()[before:].decode()
        if path == f"invocation/{request_id}/response":
            return Invocation(request_id, content, None, written)
        assert path == f"invocation/{request_id}/error", (path, content)
        return Invocation(request_id, None, content, written)

    def outcome(self, seconds: float = 60) -> tuple[str, Any]:
        """The next thing that the client posts: where to, and what."""
        found: list[tuple[str, Any]] = []

        def posted() -> bool:
            try:
                found.append(self._api.outcomes.get(timeout=0.5))
            except queue.Empty:
                assert self.process.poll() is None, f"the function ended: {self.output.read_text()}"
            return bool(found)

        wait_for(posted, "the function answers", seconds)
        return found[0]


def _libraries() -> str:
    """The folder in which the runtime client is installed, and boto3 with it."""
    spec = importlib.util.find_spec("awslambdaric")
    assert spec is not None, "awslambdaric is not installed: pip install '.[dev]'"
    assert spec.origin is not None
    return str(Path(spec.origin).parent.parent)


@contextmanager
def running(package: bytes, handler: str, variables: dict[str, str], folder: Path) -> Iterator[Function]:
    """A handler of the zip under the runtime client, with these variables; Lambda unpacks a zip in the same way."""
    task, output = folder / "task", folder / "output"
    if not task.exists():
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            archive.extractall(task)
    api = _Api()
    server = _Server(api)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    environment = {
        "AWS_LAMBDA_RUNTIME_API": f"{LOOPBACK}:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "ProductHandler",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "LAMBDA_TASK_ROOT": str(task),
        "LANG": "C.UTF-8",
        **variables,
    }
    command = [sys.executable, "-I", "-S", "-B", "-c", _BOOTSTRAP, str(task), _libraries(), handler]
    with output.open("ab") as written:
        process = subprocess.Popen(command, env=environment, cwd=task, stdout=written, stderr=subprocess.STDOUT)
    try:
        yield Function(process, output, api)
    finally:
        process.kill()
        process.wait()
        api.invocations.put(None)
        server.shutdown()
        server.server_close()
        thread.join()


class Relay:
    """The way to the database, which a test can cut."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listening: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[Thread] = []
        self.port = 0

    def open(self) -> None:
        """Let connections through, on the same port as before."""
        self._listening = listener(self.port or None)
        self.port = self._listening.getsockname()[1]
        self._start(self._accept, self._listening)

    def cut(self) -> None:
        """End all connections and take no new ones."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        self.cut_connections()

    def cut_connections(self) -> None:
        """End all connections; new ones come through."""
        for one in self._sockets:
            _shut(one)
        self._sockets.clear()

    def close(self) -> None:
        """Cut, and wait until nothing of it is left."""
        self.cut()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.create_connection((LOOPBACK, self._target_port))
            self._sockets += [client, server]
            self._start(_pump, client, server)
            self._start(_pump, server, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes, until either side, or the test, ends it."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    _shut(target)
    source.close()


def _shut(one: socket.socket) -> None:
    with suppress(OSError):  # it is shut already
        one.shutdown(socket.SHUT_RDWR)
