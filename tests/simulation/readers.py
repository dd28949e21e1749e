"""Who reads the views all the time, and what it knows: all that each item ever was."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from cqrsctl.read_model import registry
from cqrsctl.read_model.connection import connect
from tests.simulation.stream import Product

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Endpoint
    from tests.simulation.stream import SimulatedStream

NARROW, WIDE = 255, 400


class Eye:
    """Reads the views, and says what it should not have seen.

    An item's rows have to be, one after the other, states of the item in their order: it may miss some, and go back to
    none. That it is not there is also right while its state does not fit the columns, as a rebuild may leave it out.
    """

    def __init__(self, endpoint: Endpoint, stream: SimulatedStream, views: Iterable[Projection]) -> None:
        self.wrong: list[str] = []
        self.blind: set[str] = set()
        """Projections that are not looked at for now, as what they show is wrong on purpose."""
        self.undone: set[str] = set()
        """Projections whose former table may come back: an item that a rebuild left out says nothing of its state."""
        self._stream = stream
        self._views = {projection.name: projection for projection in views}
        self._seen: defaultdict[tuple[str, int], int] = defaultdict(int)
        """The earliest state of an item that the view can be showing."""
        self._connection = connect(endpoint)
        self.number = self._connection.query("SELECT CONNECTION_ID() AS number")[0]["number"]

    def close(self) -> None:
        self._connection.close()

    def look(self) -> None:
        """Look at every view."""
        for name, projection in self._views.items():
            if name not in self.blind:
                rows = self.rows(name)
                for key, states in self._stream.states.items():
                    self._see(projection, key, rows.get(key), states)

    def forget(self, name: str) -> None:
        """Let a view show whatever the items once were."""
        for seen in [each for each in self._seen if each[0] == name]:
            del self._seen[seen]

    def expect_undo(self, name: str) -> None:
        """From now on the former table may come back, which has what was left out as it was before."""
        self.undone.add(name)
        for place in [each for each in self._seen if each[0] == name]:
            states = self._stream.states[place[1]]
            while self._seen[place] and _is_left_out(states[self._seen[place]]):
                self._seen[place] -= 1

    def rows(self, name: str) -> dict[int, Product]:
        """What a view shows."""
        rows = self._connection.query(f"SELECT ProductId, Name, Price, OutOfStock FROM {self._views[name].view}")
        self._connection.commit()
        return {row["ProductId"]: Product(row["Name"], row["Price"], bool(row["OutOfStock"])) for row in rows}

    def differences(self, names: Collection[str]) -> list[str]:
        """Where views differ from the table; an item that does not fit the columns of the view's table is passed by."""
        declared = registry.registered(self._connection)
        found = []
        for name in names:
            width = width_of(declared[name])
            rows = self.rows(name)
            for key, states in self._stream.states.items():
                state = states[-1]
                if state is not None and not self._includes(declared[name], state):
                    state = None
                if state is not None and len(state.name) > width:
                    continue
                if rows.get(key) != state:
                    found.append(f"{name} {key}: is {state}, seen as {rows.get(key)}")
        return found

    def _see(self, projection: Projection, key: int, row: Product | None, states: list[Product | None]) -> None:
        place = projection.name, key
        if row is None and projection.name in self.undone and _is_left_out(states[-1]):
            return
        for number in range(self._seen[place], len(states)):
            state = states[number]
            is_shown = state is not None and self._includes(projection, state)
            if row == (state if is_shown else None) or (row is None and _is_left_out(state)):
                self._seen[place] = number
                return
        self.wrong.append(f"{projection.name} {key}: {row} after {states[self._seen[place]]}")
        self.blind.add(projection.name)

    @staticmethod
    def _includes(projection: Projection, state: Product) -> bool:
        return projection.includes({"OutOfStock": state.out_of_stock})


def _is_left_out(state: Product | None) -> bool:
    """Whether a rebuild may leave an item out."""
    return state is not None and len(state.name) > NARROW


def width_of(projection: Projection) -> int:
    """How long a name may be."""
    (column,) = [column for column in projection.columns if column.name == "Name"]
    return column.type.sizes[0]
