"""The account of a process, which need not have a name."""

from __future__ import annotations

import os

import pytest

from cqrsctl.account import account
from cqrsctl.read_model.sink import holder


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    assert account() == "54321"
    assert holder().startswith("54321@")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_a_process_under_a_free_user_id_knows_who_it_is() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(54_321)
        os.write(writing, holder().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 200).startswith(b"54321@")
