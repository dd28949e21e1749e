"""A command that is to stop: the message, and the connections that are cut off."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

from cqrsctl.cli import invocation as invocations
from cqrsctl.cli.invocation import Invocation

if TYPE_CHECKING:
    import pytest


def test_connections_are_cut_off_though_the_message_cannot_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocations, "_GRACE_SECONDS", 0.01)
    monkeypatch.setattr(invocations, "_ANNOUNCED_SECONDS", 0.01)
    printable, cut = threading.Event(), threading.Event()
    monkeypatch.setattr(Invocation, "note", lambda *_: printable.wait(30))
    run = Invocation()
    vars(run)["wiring"] = SimpleNamespace(cut=cut.set)

    run.begin_stopping(signal.SIGINT)

    assert cut.wait(10)
    printable.set()


def test_the_message_is_printed_though_what_draws_it_is_half_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half_imported(*_: object) -> None:
        raise ImportError("cannot import name 'Text' from 'rich.text'")

    monkeypatch.setattr(Invocation, "note", half_imported)
    run = Invocation()

    run.begin_stopping(signal.SIGINT)
    run.wait_for_announcement()

    assert capsys.readouterr().err == "Stopping…\n"
