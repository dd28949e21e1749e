"""The embedded stack's AWS endpoint: moto's server in a process of its own.

Its tables live in that process's memory. `python -m cqrsctl.local.emulator FD` serves on a listening socket
that it inherits, so the port is known, and taken, before the process starts.
"""

from __future__ import annotations

import http.client
import importlib.util
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import CqrsctlError
from cqrsctl.local.ports import LOOPBACK, listener, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cqrsctl.local.state import Service, StackState

NAME = "emulator"


def check_installed() -> None:
    """Raises CqrsctlError where moto's server is not installed."""
    missing = [module for module in ("moto", "flask", "flask_cors") if importlib.util.find_spec(module) is None]
    if missing:
        raise CqrsctlError(
            f"The embedded AWS endpoint needs {', '.join(missing)}, which is not installed.",
            hint="Install it with: pip install 'cqrsctl[local]'",
        )


def start(state: StackState, preferred_port: int | None = None) -> Service:
    """Start the endpoint and wait until it answers."""
    with listener(preferred_port) as sock:
        command = [sys.executable, "-m", "cqrsctl.local.emulator", str(sock.fileno())]
        service = state.launch(NAME, command, sock.getsockname()[1], inherited=[sock.fileno()])
    wait_until(lambda: answers(service), service, state.log(NAME))
    return service


def answers(service: Service) -> bool:
    """Whether the endpoint serves requests."""
    connection = http.client.HTTPConnection(LOOPBACK, service.port, timeout=5)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def endpoint_url(service: Service) -> str:
    return f"http://{LOOPBACK}:{service.port}"


def serialised(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """One request at a time: moto takes a change's sequence number and appends the change in two steps, so that
    two writes at once can get the same number."""
    lock = threading.Lock()

    def serve_one(environ: Any, start_response: Any) -> list[bytes]:
        with lock:
            return list(application(environ, start_response))

    return serve_one


def keep_records_in_streams() -> None:
    """moto gives each change to the functions that are mapped to the stream, which would need Docker, and takes it
    off the stream even where that failed. Here functions are kept but not run, and the projector reads the stream."""
    from moto.awslambda.models import LambdaBackend  # noqa: PLC0415 -- only the server process needs moto

    LambdaBackend.send_dynamodb_items = _deliver_nothing  # type: ignore[method-assign,assignment]


def let_streams_be_switched() -> None:
    """moto fails at each write once a stream is off, and refuses to switch it on again. DynamoDB makes a new one."""
    from moto.dynamodb.models import DynamoDBBackend  # noqa: PLC0415 -- as above

    update = DynamoDBBackend.update_table_streams

    def update_table_streams(backend: Any, table: Any, stream_specification: dict[str, Any]) -> None:
        if not table.stream_specification["StreamEnabled"]:
            table.latest_stream_label = None
        update(backend, table, stream_specification)
        if not table.stream_specification["StreamEnabled"]:
            table.stream_shard = None

    DynamoDBBackend.update_table_streams = update_table_streams  # type: ignore[method-assign,assignment]


def _deliver_nothing(*_: Any) -> None:
    """In place of moto's delivery."""


def serve(descriptor: int) -> None:
    """Serve on an inherited listening socket until the process is ended."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 -- only the server process needs moto
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    keep_records_in_streams()
    let_streams_be_switched()
    application = serialised(DomainDispatcherApplication(create_backend_app))
    make_server(
        LOOPBACK, 0, application, threaded=True, request_handler=MotoRequestHandler, fd=descriptor
    ).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
