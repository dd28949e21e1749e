"""Seeds as tests: in batches that workers share, and with what to run again where one goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def parametrize(metafunc: pytest.Metafunc, seeds_a_test: int, step: int = 1) -> None:
    """Give a test its `seeds`: every so many of `--seeds N`, or the one of `--seed N`."""
    one, many = metafunc.config.getoption("--seed"), metafunc.config.getoption("--seeds")
    chosen = range(0, many, step) if one is None else range(one, one + 1)
    batches = [chosen[first : first + seeds_a_test] for first in range(0, len(chosen), seeds_a_test)]
    metafunc.parametrize("seeds", batches, ids=str)


def failures(seeds: range, live: Callable[[int], list[str]]) -> str:
    """What went wrong, by seed, and how to see it again."""
    found = {seed: wrong for seed in seeds if (wrong := attempted(live, seed))}
    return "\n".join(
        f"seed {seed}: {'; '.join(wrong[:3])} (again: scripts/test tests/simulation --seed {seed})"
        for seed, wrong in found.items()
    )


def attempted(live: Callable[[int], list[str]], seed: int) -> list[str]:
    """What goes wrong in the history of a seed; an error that ends it is that, too."""
    try:
        return live(seed)
    except Exception as error:  # noqa: BLE001 -- a history that ends with any error is a failure of its seed
        return [repr(error)]
