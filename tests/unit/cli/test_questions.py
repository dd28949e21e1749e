"""A question names where it acts; where all data goes, the name is typed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer

from cqrsctl.cli.invocation import Invocation
from cqrsctl.config import Flags, load
from cqrsctl.errors import UsageError
from cqrsctl.local.ports import free_port
from cqrsctl.wiring import Wiring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def invocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invocation:
    """A run in an environment in AWS."""
    (tmp_path / "cqrsctl.toml").write_text("[environments.prod]\nregion = 'eu-west-1'\ntable = 'Items'\n")
    monkeypatch.setattr(Wiring, "place", lambda _: "account 123456789012, region eu-west-1")
    return Invocation(preset=load(Flags(env="prod"), {}, tmp_path))


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> list[str]:
    """Whoever is asked answers this; what was asked."""
    asked: list[str] = []

    def prompt(text: str, *_: Any, **__: Any) -> str:
        asked.append(text)
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", prompt)
    monkeypatch.setattr(typer, "confirm", lambda text, **_: prompt(text) == "y")
    return asked


def test_without_a_terminal_the_error_is_the_question(invocation: Invocation) -> None:
    with pytest.raises(UsageError) as raised:
        invocation.confirm("Delete table 'Items'.", yes=False)
    assert raised.value.message == (
        "Environment prod: account 123456789012, region eu-west-1, table Items. Delete table 'Items'. "
        "This was not confirmed."
    )


def test_a_question_continues_only_after_a_yes(invocation: Invocation, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = at_a_terminal(monkeypatch, "y")
    invocation.confirm("Remove reader r1.", yes=False)
    assert asked == [
        "Environment prod: account 123456789012, region eu-west-1, table Items. Remove reader r1. Continue?"
    ]
    at_a_terminal(monkeypatch, "n")
    with pytest.raises(typer.Exit) as raised:
        invocation.confirm("Remove reader r1.", yes=False)
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("answer", ["", "y", "items", "Items "])
def test_where_all_data_goes_only_the_name_confirms(
    invocation: Invocation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    asked = at_a_terminal(monkeypatch, answer)
    with pytest.raises(typer.Exit):
        invocation.confirm("Delete table 'Items'.", yes=False, typed="Items")
    assert asked[0].endswith("Delete table 'Items'. Type Items to confirm")
    assert "Nothing was done." in capsys.readouterr().err
    at_a_terminal(monkeypatch, "Items")
    invocation.confirm("Delete table 'Items'.", yes=False, typed="Items")


def test_yes_asks_nothing_of_nobody(invocation: Invocation, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = at_a_terminal(monkeypatch, "n")
    monkeypatch.setattr(Wiring, "place", lambda _: pytest.fail("AWS is asked"))
    invocation.confirm("Delete table 'Items'.", yes=True, typed="Items")
    assert asked == []


def test_the_account_is_unknown_if_aws_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    nowhere = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "cqrsctl.toml").write_text(f"[environments.prod]\nregion = 'eu-west-1'\nendpoint_url = '{nowhere}'\n")

    wiring = Wiring(load(Flags(env="prod"), {}, tmp_path))

    assert wiring.place() == f"account unknown, region eu-west-1, endpoint {nowhere}"
