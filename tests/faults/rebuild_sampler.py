"""A writer that notes what it writes, and a reader that looks at the view all the time and finds what went back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from cqrsctl.read_model.connection import connect
from cqrsctl.write_model.product import Product
from tests.faults.load import Writer
from tests.faults.rebuild_history import History, Judge
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

_PAUSE_SECONDS = 0.01
_MOST_COMPLAINTS = 20


class NotingWriter(Writer):
    """A writer whose every change is in a history before it is made."""

    def __init__(self, wiring: Wiring, chance: random.Random) -> None:
        super().__init__(wiring, chance)
        self.history = History()

    def _put(self, number: int) -> dict[str, Any]:
        request = super()._put(number)
        self.history.put(self.changes, self.products[number])
        return request

    def _delete(self, number: int) -> dict[str, Any]:
        request = super()._delete(number)
        self.history.deleted(self.changes, number)
        return request


class Sampler:
    """Reads the view every few milliseconds, as an application would, and holds it against what was written."""

    def __init__(self, wiring: Wiring, history: History) -> None:
        self.complaints: list[str] = []
        self.looks = 0
        self._wiring = wiring
        self._judge = Judge(history)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def look_on(self, times: int = 5) -> None:
        """Wait until it has looked so often from now on."""
        until = self.looks + times
        wait_for(lambda: self.looks >= until or not self._thread.is_alive(), "the sampler looks")

    def assert_nothing_went_back(self) -> None:
        assert not self.complaints, "\n".join(self.complaints)
        assert self._thread.is_alive(), "the sampler has ended"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with connect(self._wiring.database) as connection:
                while not self._stopped.wait(_PAUSE_SECONDS) and len(self.complaints) < _MOST_COMPLAINTS:
                    self.complaints += self._judge.look(_shown(connection))
                    self.looks += 1
        except BaseException as error:  # noqa: BLE001 -- a view that cannot be read is as bad as one that goes back
            self.complaints.append(f"The view could not be read: {error}")


def _shown(connection: Connection) -> list[Product]:
    found = connection.query("SELECT * FROM Product")
    connection.commit()
    return [Product(row["ProductId"], row["Name"], row["Price"], bool(row["OutOfStock"])) for row in found]
