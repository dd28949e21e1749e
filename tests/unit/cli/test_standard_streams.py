"""What standard output makes of what happens while it is written."""

from __future__ import annotations

import os
from typing import Any

import pytest

from cqrsctl.cli import standard_streams


def test_what_a_signal_interrupts_just_after_it_was_written_is_not_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    opened = os.fdopen(writing, "w")
    stream = standard_streams._guarded(opened, writing, lambda: False)
    written = standard_streams._Descriptor.write

    def interrupted(descriptor: Any, data: Any) -> int:
        written(descriptor, data)
        monkeypatch.setattr(standard_streams._Descriptor, "write", written)
        raise KeyboardInterrupt

    monkeypatch.setattr(standard_streams._Descriptor, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.write("one\n")
        stream.flush()
    stream.write("two\n")
    stream.flush()

    assert os.read(reading, 100) == b"one\ntwo\n"
    os.close(reading)
    opened.close()
