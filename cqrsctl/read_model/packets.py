"""How long a statement may be: the server takes it as one packet, and refuses a longer one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Connection

MOST_CHARACTERS = 1_000_000
"""A longer statement is no quicker, and the server's default is 16 MB (MariaDB) or 64 MB (MySQL)."""
_BYTES_A_CHARACTER = 4
"""UTF-8 needs no more."""
_FRAME_CHARACTERS = 20_000
"""What a statement has besides its rows: the names of up to hundreds of columns, several times."""


def most_characters(connection: Connection) -> int:
    """How many characters the rows of a statement may have together; one row may have more, and is sent alone.

    Source: "max_allowed_packet", MySQL 8.0 Reference Manual, "Server System Variables".
    """
    (row,) = connection.query("SELECT @@max_allowed_packet AS bytes")
    return min(MOST_CHARACTERS, int(row["bytes"]) // _BYTES_A_CHARACTER - _FRAME_CHARACTERS)
