"""What a shell gets for a word that is being typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cqrsctl

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """
[environments.prod]
region = "eu-west-1"
[environments.preview]
region = "eu-west-1"

[[projections]]
name = "product"
view = "Product"
columns = [{ name = "ProductId", type = "bigint", key = true }, { name = "Price", type = "decimal(18,4)" }]

[[projections]]
name = "price"
view = "Price"
columns = [{ name = "Number", type = "bigint", attribute = "ProductId", key = true }]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Cqrsctl:
    """The installed command beside a settings file, with no stack."""
    (tmp_path / "cqrsctl.toml").write_text(SETTINGS)
    (tmp_path / "broken.toml").write_text("[")
    return Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(tmp_path / "state")})


def completed(cqrsctl: Cqrsctl, words: str) -> list[str]:
    """What bash is offered for the last of these words."""
    variables = {
        "_CQRSCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    return cqrsctl.started.ok(variables=variables).out.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cqrsctl -e pr", ["prod", "preview"]),
        ("cqrsctl status --env l", ["local"]),
        ("cqrsctl project --projection pr", ["product", "price"]),
        ("cqrsctl rebuild --projection pro", ["product"]),
        ("cqrsctl query list --projection price --where N", ["Number"]),
        ("cqrsctl query list --sort P", ["ProductId", "Price"]),
        ("cqrsctl --config broken.toml project --projection p", []),
        ("cqrsctl aurora remove-reader r", []),
    ],
)
def test_names_are_completed(shop: Cqrsctl, words: str, offered: list[str]) -> None:
    assert completed(shop, words) == offered
