"""A command in a hint, pasted, acts on the environment of the run that printed it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_bad_input import error

if TYPE_CHECKING:
    from tests.conftest import Cqrsctl

SETTINGS = "[environments.staging]\nembedded = true\n"
ADDRESS = "-e", "local", "--config", "my shop.toml"
SHOWN = "-e local --config 'my shop.toml'"


@pytest.fixture
def shop(cqrsctl: Cqrsctl) -> Cqrsctl:
    """The installed command, beside a settings file of an odd name."""
    (cqrsctl.directory / "my shop.toml").write_text(SETTINGS)
    return cqrsctl


def test_an_error_names_its_command_with_the_environment_and_the_file(shop: Cqrsctl) -> None:
    printed = shop(*ADDRESS, "product", "get", "1")
    as_json = error(shop("product", "get", "1", "-o", "json", *ADDRESS))

    assert f"Hint: Create it with `cqrsctl {SHOWN} table create`" in printed.err
    assert f"`cqrsctl {SHOWN} table create`" in as_json["hint"]
    assert "`cqrsctl table create`" in shop("product", "get", "1").err


def test_a_hint_of_another_environment_works_when_pasted(shop: Cqrsctl) -> None:
    refused = error(shop("-e", "staging", "--config", "my shop.toml", "table", "status", "-o", "json"))
    hint = refused["hint"].replace("local up", "local status")
    by_variable = error(shop("table", "status", "-o", "json", variables={"CQRSCTL_ENV": "demo"}))

    assert hint == "Start it with: cqrsctl -e staging --config 'my shop.toml' local status"
    assert shop.ok(*shlex.split(hint.partition("cqrsctl ")[2]), "-o", "json").json()[0]["state"] == "stopped"
    assert by_variable["hint"] == "Start it with: cqrsctl -e demo local up"


def test_notes_findings_and_reasons_name_their_commands_so_too(shop: Cqrsctl) -> None:
    missing = shop(*ADDRESS, "doctor", "-o", "json").json()
    shop.ok("table", "create", "--no-stream")
    status = shop(*ADDRESS, "status", "-o", "json").json()
    drawn = shop(*ADDRESS, "status").out
    enabling = shop.ok(*ADDRESS, "table", "enable-stream", "--log-format", "json")

    assert f"cqrsctl {SHOWN} table create" in [finding["fix"] for finding in missing]
    summaries = {part["part"]: part["summary"] for part in status["parts"]}
    assert summaries["read model"].endswith(f"cqrsctl {SHOWN} read-model init")
    assert summaries["read model"] in drawn
    noted = json.loads(enabling.err.splitlines()[-1])
    assert noted["message"].endswith(f"rebuild it with: cqrsctl {SHOWN} rebuild")
