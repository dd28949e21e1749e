"""`stream tail`: which changes it shows, how, and what it says while it reads and waits."""

from __future__ import annotations

import os
import pty
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cqrsctl


@pytest.fixture
def changed(cqrsctl: Cqrsctl) -> Cqrsctl:
    """A table with two products, of which one was changed and the other deleted."""
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "19.90")
    cqrsctl.ok("product", "put", "2", "--name", "Desk {x}", "--price", "5", "--out-of-stock")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "18.5")
    cqrsctl.ok("product", "delete", "2")
    return cqrsctl


@pytest.mark.parametrize(
    ("where", "events"),
    [
        (("Price=19.9",), ["INSERT", "MODIFY"]),
        (("Price=18.500",), ["MODIFY"]),
        (("Name=Lamp", "Price=18.5"), ["MODIFY"]),
        (("OutOfStock=true",), ["INSERT", "REMOVE"]),
        (("Name=19.90",), []),
        (("Price=cheap",), []),
        (("Name.First=Lamp",), []),
    ],
)
def test_only_items_with_a_value_are_shown(changed: Cqrsctl, where: tuple[str, ...], events: list[str]) -> None:
    options = [option for text in where for option in ("--where", text)]

    shown = changed.ok("stream", "tail", "--no-follow", *options, "-o", "jsonl").lines()

    assert [change["event"] for change in shown] == events


def test_a_template_gives_each_change_its_own_words(changed: Cqrsctl) -> None:
    template = "{event} {ProductId}: {Name} {old.Price}>{Price} {{{Colour}}}"

    shown = changed.ok("stream", "tail", "--no-follow", "--format", template).out.splitlines()

    assert shown == [
        "INSERT 1: Lamp >19.90 {}",
        "INSERT 2: Desk {x} >5 {}",
        "MODIFY 1: Lamp 19.90>18.5 {}",
        "REMOVE 2: Desk {x} 5>5 {}",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--format", "{Price"), "--format: '{Price' cannot be read"),
        (("--format", "{}"), "--format: {} names nothing."),
        (("--format", "{Price:>9}"), "a name stands alone between its braces"),
        (("--format", "{Price}", "-o", "json"), "--format stands instead of --output and --columns."),
        (("--where", "Price"), "--where: 'Price' is not ATTRIBUTE=VALUE."),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(cqrsctl: Cqrsctl, options: tuple[str, ...], expected: str) -> None:
    refused = cqrsctl("stream", "tail", *options)

    assert refused.code == 2
    assert expected in refused.err


def test_it_says_from_where_it_reads_and_that_it_waits(changed: Cqrsctl) -> None:
    searched = changed.ok("stream", "tail", "--no-follow", "--since", "1h")
    with changed.start("stream", "tail", "--since", "1h") as following:
        assert following.stdout
        assert following.stderr
        said = [following.stderr.readline(), following.stderr.readline()]
        following.send_signal(signal.SIGINT)
        shown, rest = following.communicate(timeout=60)

    assert "Reading the stream from its start for changes since " in searched.err
    assert "Waiting" not in searched.err
    assert said[1] == "Waiting for changes. Ctrl-C stops.\n"
    assert "Waiting" not in rest
    assert len(shown.splitlines()) == 4


def test_a_terminal_shows_how_far_it_has_read_until_there_is_a_change_to_show(changed: Cqrsctl) -> None:
    outer, inner = pty.openpty()
    with changed.start("stream", "tail", "--since", "1h", "--where", "Name=Nothing", stderr=inner) as following:
        os.close(inner)
        said = ""
        while "Waiting for changes." not in said:
            said += os.read(outer, 4096).decode()
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=60)
    os.close(outer)

    assert "4 changes read, up to " in said
