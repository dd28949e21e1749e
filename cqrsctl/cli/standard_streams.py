"""Standard output and error that raise nothing when they cannot be written: what a command does matters more.

A reader that closed the pipe, as `head` does, is no failure. What else was lost on standard output is known afterwards.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable

_UTF_8 = "utf-8"


class OutputClosed(CqrsctlError):
    """A command that follows ends, because its output cannot be written any more."""


class _Descriptor(io.FileIO):
    """A file descriptor that drops what it cannot write, and remembers why: `failure`.

    Text is written to it without a buffer of bytes between: that would keep what a signal interrupted just after it was
    written, and write it again.
    """

    failure: OSError | None = None
    ends: Callable[[], bool] = staticmethod(lambda: False)
    """Whether the command has nothing to do but to write."""

    def write(self, data: Any) -> int:
        """Raises OutputClosed, once, if the command is to end because of it."""
        if self.failure is None:
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[super().write(rest) :]
                return len(data)
            except OSError as error:
                self.failure = error
            if self.ends():
                raise OutputClosed("Nobody reads the output any more.")
        return memoryview(data).nbytes


class _Nowhere(_Descriptor):
    """A descriptor that was closed before the program started."""

    def __init__(self) -> None:
        super().__init__(os.devnull, "w")

    def write(self, data: Any) -> int:
        self.failure = OSError(errno.EBADF, "it is closed")
        return memoryview(data).nbytes


def guard(ends: Callable[[], bool]) -> None:
    """Let standard output and error raise nothing but OutputClosed, as soon as `ends()` is true.

    Data is in UTF-8 in files and pipes, whatever the locale; a terminal's own encoding is kept.
    """
    sys.stdout = _guarded(sys.stdout, 1, ends)
    sys.stderr = _guarded(sys.stderr, 2, lambda: False)


def _guarded(stream: Any, number: int, ends: Callable[[], bool]) -> io.TextIOWrapper:
    raw = _Nowhere() if stream is None else _Descriptor(number, "w", closefd=False)
    raw.ends = ends
    is_terminal = raw.isatty()
    encoding = stream.encoding if is_terminal else _UTF_8
    buffer: Any = raw
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=is_terminal or number > 1)


def failure_of_output() -> OSError | None:
    """Why standard output was not written to its end; None if it was, as far as it is written."""
    raw = getattr(sys.stdout, "buffer", None)
    return raw.failure if isinstance(raw, _Descriptor) else None


def is_read() -> bool:
    """Whether what is written to standard output arrives."""
    return failure_of_output() is None
