"""Which tests a worker is given together: those of a module that makes something for all of them.

Each worker would make it again. The marks of pytest-xdist for that have no effect with pytest 9.2.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

_ROOT = Path(__file__).parent.parent


class SharingModules(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives out tests one by one, but all tests of a module with a fixture of its own to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if _shares(module) else nodeid


@cache
def _shares(module: str) -> bool:
    return 'scope="module"' in (_ROOT / module).read_text(encoding="utf-8")
