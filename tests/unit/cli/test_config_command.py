"""`config show` and `config environments`, run in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.cli import app
from cqrsctl.cli.invocation import Invocation

if TYPE_CHECKING:
    from pathlib import Path

TOML = """
environment = "staging"
[environments.staging]
region = "eu-west-1"
endpoint_url = "http://user:hush@aws.example"
[environments.staging.database]
host = "db.example"
port = 3307
[environments.prod]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_DEFAULT_REGION", "CQRSCTL_ENV", "CQRSCTL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CQRSCTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert app.run(Invocation(), [*arguments, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[Any, str]]:
    records = printed(capsys, *arguments, "config", "show")
    return {each["setting"]: (each["value"], each["source"]) for each in records}


def test_a_setting_is_shown_with_the_flag_variable_or_file_that_it_comes_from(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "cqrsctl.toml"
    file.write_text(TOML)
    monkeypatch.setenv("CQRSCTL_DATABASE_PORT", "3308")
    monkeypatch.setenv("CQRSCTL_DATABASE_USER", "shop")

    settings = shown(capsys, "--region", "eu-central-1")

    assert settings["environment"] == ("staging", str(file))
    assert settings["config"] == (str(file), "default")
    assert settings["region"] == ("eu-central-1", "--region")
    assert settings["database.host"] == ("db.example", str(file))
    assert settings["database.port"] == (3308, "CQRSCTL_DATABASE_PORT")
    assert settings["database.user"] == ("shop", "CQRSCTL_DATABASE_USER")
    assert settings["database.name"] == ("cqrs", "default")
    assert settings["table"] == ("Products", "default")
    assert settings["projections"] == ("product", "default")
    assert settings["state_dir"] == (str(folder / "state" / "staging"), "CQRSCTL_STATE_DIR")


def test_no_secret_is_shown(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cqrsctl.toml").write_text(TOML)
    monkeypatch.setenv("CQRSCTL_DATABASE_PASSWORD", "hush")

    settings = shown(capsys)

    assert settings["database.password"] == ("(hidden)", "CQRSCTL_DATABASE_PASSWORD")
    assert settings["endpoint_url"][0] == "http://aws.example"
    assert "hush" not in str(settings)


def test_what_boto3_reads_is_shown_unless_the_embedded_stack_needs_none(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cqrsctl.toml").write_text(TOML)
    monkeypatch.setenv("AWS_PROFILE", "shop")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")

    prod, local = shown(capsys, "-e", "prod"), shown(capsys, "-e", "local")

    assert prod["profile"] == ("shop", "AWS_PROFILE")
    assert prod["region"] == ("eu-west-2", "AWS_DEFAULT_REGION")
    assert local["profile"] == (None, "default")
    assert local["region"] == ("us-east-1", "default")
    assert local["endpoint_url_dynamodb"] == ("http://127.0.0.1:1", "AWS_ENDPOINT_URL_DYNAMODB")


def test_environments_are_listed_with_the_default_and_their_files(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in = printed(capsys, "config", "environments")
    file = folder / "cqrsctl.toml"
    file.write_text(TOML)

    declared = printed(capsys, "-e", "unheard-of", "config", "environments")
    monkeypatch.setenv("CQRSCTL_ENV", "prod")
    by_variable = printed(capsys, "config", "environments")

    assert built_in == [
        {"environment": "local", "default": True, "source": "built in"},
        {"environment": "demo", "default": False, "source": "built in"},
    ]
    assert [(each["environment"], each["default"], each["source"]) for each in declared] == [
        ("staging", True, str(file)),
        ("prod", False, str(file)),
        ("local", False, "built in"),
        ("demo", False, "built in"),
    ]
    assert [each["environment"] for each in by_variable if each["default"]] == ["prod"]
