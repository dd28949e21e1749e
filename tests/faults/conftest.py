"""What the crash tests share: seeded chance, and a pipeline whose table and read model are filled."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.load import Writer

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Chance with a seed that stands in the report of a failure. FAULTS_SEED sets it."""
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(10**9))
    request.node.add_report_section("setup", "seed", f"FAULTS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def writer(cqrsctl: Cqrsctl, wiring: Wiring, chance: random.Random) -> Writer:
    """A writer that has written every product once; the read model has them."""
    return filled(cqrsctl, wiring, chance)


def filled(cqrsctl: Cqrsctl, wiring: Wiring, chance: random.Random) -> Writer:
    cqrsctl.ok("table", "create")
    writer = Writer(wiring, chance)
    writer.fill()
    cqrsctl.ok("project", "--once")
    return writer
