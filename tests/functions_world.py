"""The functions of one environment on moto, with clients that remember; what moto lacks is answered on purpose."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from moto import mock_aws

from cqrsctl.config import Flags, load
from cqrsctl.functions.deploy import Options
from cqrsctl.pipeline.function_operations import Functions, Which
from cqrsctl.wiring import Wiring
from cqrsctl.write_model import table
from cqrsctl.write_model.table import TableSpec
from tests.aws.api import Api
from tests.aws.states import States

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from cqrsctl.functions.parts import Part

# A zip without files: what is in it matters to nobody here.
ZIP = b"PK\x05\x06" + bytes(18)
OTHER_ZIP = b"PK\x05\x06" + bytes(16) + b"\x01\x00x"
SETTINGS = """
[environments.prod]
region = "eu-west-1"
[environments.prod.database]
host = "db.example"
user = "projector"
"""
PASSWORD = {"CQRSCTL_DATABASE_PASSWORD": "s3cret"}
ACCOUNT = "123456789012"
QUEUE = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:ProductHandlerFunction-failures"
TAG = {"managed-by": "cqrsctl"}
TAG_LIST = [{"Key": "managed-by", "Value": "cqrsctl"}]
POLICY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}]}
)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Operated(Functions):
    """The functions with clients that remember, and the notes that were told."""

    def __init__(self, wiring: Wiring) -> None:
        self.notes: list[str] = []
        self.states = States()
        super().__init__(wiring, Clock(), self.notes.append, self.notes.append)

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = Api(self.wiring.client(service), self.states)
        return self.clients[service]


@contextmanager
def moto_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS of the test's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with mock_aws():
        yield


def operated(tmp_path: Path, settings: str = SETTINGS, variables: dict[str, str] | None = None) -> Operated:
    """The functions of an environment; by default its password is known by the variable only."""
    (tmp_path / "cqrsctl.toml").write_text(settings)
    return Operated(Wiring(load(Flags(env="prod"), PASSWORD if variables is None else variables, tmp_path)))


def with_table(tmp_path: Path) -> Operated:
    """The functions of an environment whose table is there."""
    found = operated(tmp_path)
    TableSpec("Products", deletion_protection=False).create_call().make(found.client("dynamodb"))
    return found


def remake_table(found: Operated) -> None:
    """Delete the table and make it again: it has another stream then."""
    found.client("dynamodb").delete_table(TableName="Products")
    table.wait_until_gone(found.client("dynamodb"), "Products", found.clock)
    TableSpec("Products").create_call().make(found.client("dynamodb"))


def deploy_all(found: Operated) -> Operated:
    """Deploy both functions, and forget what was asked for that."""
    found.deploy(Which.ALL, Options(), ZIP, wait=True)
    for api in found.clients.values():
        api.forget()
    return found


def changes(parts: list[Part]) -> dict[str, str]:
    return {part.name: part.change for part in parts}


def writes(found: Operated) -> list[str]:
    looks = ("get_", "describe_", "list_", "filter_")
    return [name for api in found.clients.values() for name, _ in api.calls if not name.startswith(looks)]


def stream_arn(found: Operated) -> str:
    described = found.client("dynamodb").describe_table(TableName="Products")["Table"]
    arn: str = described["LatestStreamArn"]
    return arn


def secret_arn(found: Operated) -> str:
    arn: str = found.client("secretsmanager").describe_secret(SecretId="cqrsctl/prod/database")["ARN"]
    return arn
