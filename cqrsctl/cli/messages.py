"""What goes to stderr: notes, errors, logs, questions and the live line, by one console, so that they stay apart."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.live import Live

Answer = TypeVar("Answer")


class Messages:
    """The one console of stderr, with the line that changes in place while something is under way."""

    def __init__(self) -> None:
        # Without a file of its own: it writes to whatever stderr is at the moment.
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._line = Text()

    def write(self, text: Text) -> None:
        """Print text above the live line. Nothing is wrapped."""
        if self._live is not None:
            self._console.print(text, soft_wrap=True)
            return
        with self._console.capture() as drawn:  # rich would print what a signal interrupted a second time
            self._console.print(text, soft_wrap=True)
        sys.stderr.write(drawn.get())
        sys.stderr.flush()

    @contextmanager
    def live(self) -> Iterator[Callable[[Text], None]]:
        """A line that changes in place; if stderr is no terminal, nothing is shown."""
        if self._live is not None:
            yield self._update
        elif not sys.stderr.isatty():
            yield lambda _: None
        else:
            self._begin(Text())
            try:
                yield self._update
            finally:
                self._end()

    def asked(self, question: Callable[[], Answer]) -> Answer:
        """The answer to a question, which is asked while no live line is shown."""
        if self._live is None:
            return question()
        self._end()
        try:
            return question()
        finally:
            self._begin(self._line)

    def _begin(self, line: Text) -> None:
        from rich.live import Live

        # Rich would send what is written to stdout meanwhile to stderr, too.
        self._live = Live(line, console=self._console, transient=True, refresh_per_second=8, redirect_stdout=False)
        self._live.start()

    def _update(self, line: Text) -> None:
        self._line = line
        if self._live is not None:
            self._live.update(line)

    def _end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


@cache
def messages() -> Messages:
    """Those of this process."""
    return Messages()
