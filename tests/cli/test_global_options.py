"""Global options stand before the command or after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Cqrsctl
from tests.documentation import LEAVES

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = '[environments.prod]\nregion = "eu-west-1"\ntable = "Shop"\n'
NAMES = {"--env", "-e", "--config", "--profile", "--region", "--endpoint-url", "--verbose", "-v", "--log-format"}


@pytest.fixture
def command(tmp_path: Path) -> Cqrsctl:
    """The installed command beside a settings file, with no stack."""
    (tmp_path / "shop.toml").write_text(SETTINGS)
    return Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    "arguments",
    [
        "-e prod --config shop.toml --region eu-north-1 table status",
        "table -e prod --config=shop.toml --region eu-north-1 status",
        "table status -eprod --config shop.toml --region eu-north-1",
        "-e local --region eu-west-2 --config shop.toml table --env prod status --region=eu-north-1",
    ],
)
def test_they_mean_the_same_anywhere_and_the_last_one_counts(command: Cqrsctl, arguments: str) -> None:
    none = {"AWS_EC2_METADATA_DISABLED": "true"}
    refused = command(*arguments.split(), "--endpoint-url", "http://127.0.0.1:1", "-o", "json", variables=none)
    policy = command.ok(*arguments.replace("table", "permissions").replace("status", "table").split()).out

    assert refused.code == 3, refused
    assert json.loads(refused.err)["error"]["code"] == "credentials"
    assert "arn:aws:dynamodb:eu-north-1:*:table/Shop" in policy


def test_a_value_that_looks_like_a_global_option_is_a_value(command: Cqrsctl) -> None:
    put = "product", "put", "1", "--price", "2", "--config", "shop.toml"

    named = command(*put, "--name", "-e", "--wait", "-e", "nowhere")
    after_the_end = command("permissions", "--", "-e", "prod")

    assert "No environment 'nowhere'" in named.err
    assert "'-e' asks nothing of AWS" in after_the_end.err


def test_verbosity_before_and_after_the_command_adds_up(command: Cqrsctl) -> None:
    once = command("product", "get", "1", "-v")
    twice = command("-v", "product", "get", "1", "--verbose", "--log-format", "json")

    assert "Traceback" not in once.err
    assert "Traceback" in twice.err


@pytest.mark.parametrize(("name", "leaf"), LEAVES.items())
def test_no_option_of_a_command_has_the_name_of_a_global_one(name: str, leaf: Any) -> None:
    own = {option for parameter in leaf.params for option in (*parameter.opts, *parameter.secondary_opts)}

    assert not own & NAMES, name


def test_every_help_lists_them_apart_from_the_commands_own(command: Cqrsctl) -> None:
    shown = command.ok("query", "get", "--help").out
    own, shared = shown.split("Global options:")

    assert {word.rstrip(",") for word in shared.split()} >= NAMES
    assert not NAMES & set(own.split())
    for group in ("aurora", "status"):
        assert "Global options:" in command.ok(group, "-h").out
