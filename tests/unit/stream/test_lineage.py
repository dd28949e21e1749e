"""The shard tree: parents before children, and nothing lost in silence.

A tree is drawn as a dict of each shard's parent; `{"b": "a"}` is a shard b whose parent a is no longer listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqrsctl.change import Position, ShardState
from cqrsctl.stream.lineage import Shard, oldest_first, readable, unlisted, without_descendants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.change import Checkpoints


def tree(drawn: Mapping[str, str | None]) -> dict[str, Shard]:
    return {
        name: Shard(name, parent, starting=index, ending=None) for index, (name, parent) in enumerate(drawn.items())
    }


def states(drawn: Mapping[str, ShardState]) -> Checkpoints:
    return {name: Position(name, None, sequence_number=1, state=state) for name, state in drawn.items()}


OPEN, FINISHED, GAP = ShardState.OPEN, ShardState.FINISHED, ShardState.GAP
FAMILY = {"root": None, "left": "root", "right": "root", "leaf": "left"}


@pytest.mark.parametrize(
    ("drawn", "finished", "expected"),
    [
        ({}, set(), set()),
        ({"a": None, "b": None}, set(), {"a", "b"}),
        (FAMILY, set(), {"root"}),
        (FAMILY, {"root"}, {"left", "right"}),
        (FAMILY, {"root", "left"}, {"right", "leaf"}),
        (FAMILY, {"root", "left", "right", "leaf"}, set()),
        ({"b": "a"}, set(), {"b"}),
        ({"b": "a", "c": "b"}, set(), {"b"}),
        ({"b": "a"}, {"a"}, {"b"}),
        ({"b": "a"}, {"b"}, set()),
    ],
)
def test_a_shard_is_readable_once_its_parent_is_finished_or_gone(
    drawn: Mapping[str, str | None], finished: set[str], expected: set[str]
) -> None:
    assert {shard.shard_id for shard in readable(tree(drawn), finished)} == expected


def test_the_order_in_which_shards_are_listed_does_not_matter() -> None:
    backwards = dict(reversed(FAMILY.items()))
    assert {shard.shard_id for shard in readable(tree(backwards), {"root"})} == {"left", "right"}


def test_every_shard_is_read_exactly_once_and_after_its_parent() -> None:
    shards, read = tree(FAMILY), list[str]()
    while now := readable(shards, read):
        for shard in now:
            assert shard.parent_id is None or shard.parent_id in read
        read += [shard.shard_id for shard in now]
    assert sorted(read) == sorted(FAMILY)


@pytest.mark.parametrize(
    ("drawn", "checkpoints", "expected"),
    [
        pytest.param({"a": None}, {"a": OPEN}, set(), id="an open shard that is listed"),
        pytest.param({}, {"a": FINISHED}, set(), id="a finished shard may vanish"),
        pytest.param({}, {"a": OPEN}, {"a"}, id="an open shard that vanished"),
        pytest.param({"b": "a"}, {"a": FINISHED}, set(), id="the child of a finished shard"),
        pytest.param({"b": "a"}, {"a": OPEN}, {"a"}, id="the parent vanished unread: it is lost, its child is not"),
        pytest.param({"c": "b"}, {"a": FINISHED}, {"c"}, id="a whole generation passed unread"),
        pytest.param({"c": "b"}, {"a": OPEN}, {"a", "c"}, id="both"),
        pytest.param({"b": "a", "c": "b"}, {"a": FINISHED}, set(), id="a grandchild whose parent is still listed"),
        pytest.param({"c": "b"}, {"c": OPEN}, set(), id="a shard under way whose parent was trimmed"),
        pytest.param({"b": None}, {"a": FINISHED}, set(), id="a new shard without a parent"),
        pytest.param({}, {"a": GAP}, set(), id="a gap is reported once"),
        pytest.param({}, {}, set(), id="nothing"),
    ],
)
def test_what_cannot_be_read_without_a_shard_that_is_not_listed(
    drawn: Mapping[str, str | None], checkpoints: Mapping[str, ShardState], expected: set[str]
) -> None:
    assert {position.shard_id for _, position in unlisted(tree(drawn), states(checkpoints))} == expected


def test_a_lost_shard_keeps_the_position_that_was_reached() -> None:
    checkpoint = Position("a", None, sequence_number=42)
    assert unlisted({}, {"a": checkpoint}) == [("a", checkpoint)]


def test_a_lost_generation_is_named_by_the_shard_that_follows_it() -> None:
    assert unlisted(tree({"c": "b"}), states({"a": FINISHED})) == [("b", Position("c", "b"))]


def test_all_descendants_of_a_shard_wait_for_it() -> None:
    shards = tree({"b": "a", "c": "b", "d": "c", "e": None, "f": "e"})
    assert without_descendants(shards, {"a"}).keys() == {"e", "f"}
    assert without_descendants(shards, {"c"}).keys() == {"b", "c", "e", "f"}
    assert without_descendants(shards, set()) == shards


def test_shards_are_ordered_by_their_first_sequence_number_as_an_integer() -> None:
    shards = [
        Shard("x", None, 10, None),
        Shard("y", None, 9, 9),
        Shard("b", None, 11, None),
        Shard("a", None, 11, None),
    ]
    assert [shard.shard_id for shard in oldest_first(shards)] == ["y", "x", "a", "b"]


def test_a_shard_without_an_end_is_open() -> None:
    assert Shard("a", None, 1, None).is_open
    assert not Shard("a", None, 1, 2).is_open
