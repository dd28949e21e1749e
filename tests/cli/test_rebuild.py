"""`cqrsctl rebuild`: what it says, what it asks, and which projections it rebuilds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pipelines import MARK_GAP, execute, make_table, projected, put

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl


@pytest.fixture
def filled(wiring: Wiring) -> Wiring:
    """A pipeline whose view shows three products."""
    make_table(wiring)
    put(wiring, 3)
    projected(wiring)
    return wiring


def test_an_undo_is_promised_only_if_it_will_be_accepted(cqrsctl: Cqrsctl, filled: Wiring) -> None:
    first = cqrsctl.ok("rebuild")
    assert "product_v1 is kept for --undo." in first.err
    assert "product_v2 is kept for --undo." in cqrsctl.ok("rebuild", "--undo").err
    execute(filled, MARK_GAP)

    ended = cqrsctl.ok("rebuild")

    assert "product_v1 is kept until the next rebuild" in ended.err
    assert "--undo will refuse it" in ended.err
    refused = cqrsctl("rebuild", "--undo")
    assert refused.code == 1
    assert "ended a gap" in refused.err
