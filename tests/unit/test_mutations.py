"""The mistakes of scripts/mutations are of the code as it is."""

from __future__ import annotations

import pytest

from scripts.mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_text_of_a_mistake_is_in_its_file_once(mutation: Mutation) -> None:
    text = (ROOT / "cqrsctl" / mutation.file).read_text(encoding="utf-8")

    assert text.count(mutation.text) == 1


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_test_of_a_mistake_exists(mutation: Mutation) -> None:
    path, _, name = mutation.test.partition("::")

    assert f"def {name.partition('[')[0]}" in (ROOT / path).read_text(encoding="utf-8")
