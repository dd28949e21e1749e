"""Where clients and passwords come from."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.utils import JSONFileCache
from moto import mock_aws

from cqrsctl.clock import SystemClock
from cqrsctl.config import Flags, load
from cqrsctl.errors import ConfigurationError, CqrsctlError
from cqrsctl.read_model.connection import connect
from cqrsctl.wiring import Wiring

if TYPE_CHECKING:
    from pathlib import Path

    from cqrsctl.config import Environment
    from tests.conftest import Cqrsctl

PROD = """
[environments.prod]
region = "eu-west-1"
[environments.prod.database]
host = "127.0.0.1"
"""


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def prod(directory: Path, more: str = "", **variables: str) -> Environment:
    (directory / "cqrsctl.toml").write_text(PROD + more)
    return load(Flags(env="prod"), variables, directory)


def test_the_password_of_a_managed_secret_opens_the_database(
    tmp_path: Path, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = wiring.database
    secrets = wiring.client("secretsmanager")
    content = {"username": local.login().user, "password": local.login().password}
    arn = secrets.create_secret(Name=local.database, SecretString=json.dumps(content))["ARN"]
    secrets.create_secret(Name=f"{local.database}-odd", SecretString="no json")
    environment = prod(
        tmp_path,
        CQRSCTL_ENDPOINT_URL=secrets.meta.endpoint_url,
        CQRSCTL_REGION="us-east-1",
        CQRSCTL_DATABASE_PORT=str(local.port),
        CQRSCTL_DATABASE_NAME="",
        CQRSCTL_DATABASE_SECRET=arn,
    )

    with connect(Wiring(environment).database, with_database=False) as connection:
        assert connection.query("SELECT CURRENT_USER() AS user") == [{"user": "cqrsctl@127.0.0.1"}]

    odd = prod(
        tmp_path,
        CQRSCTL_ENDPOINT_URL=secrets.meta.endpoint_url,
        CQRSCTL_REGION="us-east-1",
        CQRSCTL_DATABASE_SECRET=f"{local.database}-odd",
    )
    with pytest.raises(CqrsctlError, match="not JSON with `username` and `password`") as caught:
        Wiring(odd).database.login()
    assert caught.value.code == "secret"


def test_an_iam_token_is_made_for_the_host_and_user_anew_each_time(tmp_path: Path) -> None:
    endpoint = Wiring(prod(tmp_path, 'iam_auth = true\nuser = "reader"')).database

    assert "127.0.0.1:3306/?Action=connect&DBUser=reader" in endpoint.login().password
    assert "X-Amz-Signature=" in endpoint.login().password


@pytest.mark.filterwarnings("ignore::getpass.GetPassWarning")
def test_a_role_with_a_code_from_a_device_is_assumed_once_for_many_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile me]\naws_access_key_id = a\naws_secret_access_key = b\n"
        "[profile ops]\nsource_profile = me\nrole_arn = arn:aws:iam::123456789012:role/ops\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setattr(JSONFileCache, "CACHE_DIR", str(tmp_path / ".aws" / "boto" / "cache"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    asked: list[str] = []

    def code(prompt: str, *_: object, **__: object) -> str:
        asked.append(prompt)
        return "123456"

    monkeypatch.setattr(getpass, "_raw_input", code)
    environment = prod(tmp_path, CQRSCTL_PROFILE="ops")
    used = set()
    with mock_aws(config={"core": {"mock_credentials": False}}):
        for _ in range(2):  # as two commands
            used.add(Wiring(environment)._session.get_credentials().access_key)
    assert len(used) == len(asked) == 1


def test_the_variable_wins_over_the_secret_and_never_shows(tmp_path: Path) -> None:
    environment = prod(tmp_path, 'secret = "arn"', CQRSCTL_DATABASE_PASSWORD="hidden-word")

    assert Wiring(environment).database.login().password == "hidden-word"
    assert "hidden-word" not in repr(environment) + repr(Wiring(environment).database)


def test_a_database_without_host_or_without_password_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="password") as caught:
        _ = Wiring(prod(tmp_path)).database
    assert "database.secret" in (caught.value.hint or "")
    (tmp_path / "cqrsctl.toml").write_text("[environments.bare]\n")

    with pytest.raises(ConfigurationError, match="names no database"):
        _ = Wiring(load(Flags(env="bare"), {}, tmp_path)).database


@pytest.mark.parametrize(
    ("variables", "profile", "expected"),
    [
        ({}, "", ("standard", 4)),
        ({"AWS_RETRY_MODE": "adaptive"}, "", ("adaptive", 4)),
        ({"AWS_MAX_ATTEMPTS": "9"}, "", ("standard", 9)),
        ({}, "retry_mode = adaptive\nmax_attempts = 7\n", ("adaptive", 7)),
        ({"AWS_MAX_ATTEMPTS": "2"}, "max_attempts = 7\n", ("standard", 2)),
    ],
)
def test_calls_are_retried_as_boto3s_settings_say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    profile: str,
    expected: tuple[str, int],
) -> None:
    (tmp_path / "config").write_text(f"[profile shop]\n{profile}")
    for name, value in {**variables, "AWS_CONFIG_FILE": str(tmp_path / "config")}.items():
        monkeypatch.setenv(name, value)
    wiring = Wiring(prod(tmp_path, CQRSCTL_PROFILE="shop"))

    retries = wiring.client("dynamodb").meta.config.retries
    quick = wiring.client("lambda", attempts=1).meta.config.retries

    assert (retries["mode"], retries["total_max_attempts"]) == expected
    assert (quick["mode"], quick["total_max_attempts"]) == (expected[0], 1)


def test_a_number_of_attempts_that_is_none_is_a_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")

    with pytest.raises(ConfigurationError, match="many"):
        Wiring(prod(tmp_path)).client("dynamodb")


SERVICES = ("dynamodb", "dynamodbstreams", "rds", "lambda", "secretsmanager", "cloudwatch", "iam", "sts")


@pytest.mark.parametrize(("fips", "dual_stack"), [("true", "false"), ("false", "true"), ("true", "true")])
def test_clients_use_the_kind_of_endpoint_that_boto3_is_set_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fips: str, dual_stack: str
) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", fips)
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", dual_stack)
    wiring = Wiring(prod(tmp_path))

    for service in SERVICES:
        client = wiring.client(service)
        assert client.meta.endpoint_url == boto3.client(service, "eu-west-1").meta.endpoint_url
        assert ("fips" in client.meta.endpoint_url) is (fips == "true")
    priced = wiring.client("pricing", "us-east-1").meta.endpoint_url
    assert priced == boto3.client("pricing", "us-east-1").meta.endpoint_url
    assert priced.endswith(".us-east-1.api.aws" if dual_stack == "true" else ".us-east-1.amazonaws.com")


def test_the_embedded_stack_has_one_endpoint_whatever_kind_boto3_is_set_to(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")

    assert "TableNames" in wiring.client("dynamodb").list_tables()
    assert "DBClusters" in wiring.client("rds").describe_db_clusters()
    assert "Functions" in wiring.client("lambda").list_functions()


def test_in_an_embedded_environment_the_variable_of_a_service_wins_over_the_stack(
    tmp_path: Path, pipeline: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000")
    variables = {**pipeline, "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:8000"}
    mixed = Wiring(load(Flags(), variables, tmp_path))
    flagged = Wiring(load(Flags(endpoint_url="http://127.0.0.1:9000"), variables, tmp_path))

    assert mixed.dynamodb.meta.endpoint_url == "http://127.0.0.1:8000"
    assert mixed.streams.meta.endpoint_url != "http://127.0.0.1:8000"
    assert flagged.dynamodb.meta.endpoint_url == "http://127.0.0.1:9000"


def test_a_stack_that_is_down_is_told_with_the_command_that_starts_it(tmp_path: Path) -> None:
    environment = load(Flags(env="demo"), {"CQRSCTL_STATE_DIR": str(tmp_path)}, tmp_path)

    with pytest.raises(CqrsctlError, match="'demo' is not running") as caught:
        _ = Wiring(environment).dynamodb

    assert caught.value.hint == "Start it with: cqrsctl local up"


def test_the_clocks_sleep_ends_when_it_is_stopped() -> None:
    clock = SystemClock()
    clock.stop.set()
    begun = time.monotonic()

    clock.sleep(30)

    assert time.monotonic() - begun < 5


def test_the_exported_variables_bring_other_programs_to_the_stack(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    exported = cqrsctl.ok("local", "env").out
    table = cqrsctl.variables["CQRSCTL_TABLE"]
    program = (
        f"import boto3; print(boto3.client('dynamodb').describe_table(TableName='{table}')['Table']['TableStatus'])"
    )

    answer = subprocess.run(
        ["bash", "-c", f'{exported}\n"$PYTHON" -c "$PROGRAM"'],
        env={**cqrsctl.environment(), "PYTHON": sys.executable, "PROGRAM": program},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "ACTIVE\n"
