"""What a database user may do: the answer of SHOW GRANTS, of MySQL 8 and of MariaDB, and what of it is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqrsctl.read_model.connection import Connection

NEEDED = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "ALTER",
    "INDEX",
    "CREATE VIEW",
    "SHOW VIEW",
)
"""The rights on the read model's database with which every command does its work."""
ALL = "ALL PRIVILEGES"
_NONE = "USAGE"
_EVERYWHERE = "*.*"
_NAME = r"`(?:[^`]|``)*`"
_ON = re.compile(
    r"GRANT (?P<privileges>.+?) ON (?:(?:TABLE|FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) )?"
    rf"(?P<place>\*\.\*|{_NAME}\.(?:\*|{_NAME})) TO "
)
_ROLE = re.compile(rf"({_NAME})(?:@{_NAME})?")
"""MySQL writes a role's host after its name."""
_ROLES = re.compile(rf"GRANT (?P<roles>{_ROLE.pattern}(?:, ?{_ROLE.pattern})*) TO ")
_COLUMNS = re.compile(r" \([^)]*\)")


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights in one place: everywhere (`*.*`), a database, or something in one. `place` is as the server writes it.

    `database` is a pattern if the rights are on whole databases: % and _ stand for any text and any character.
    """

    privileges: frozenset[str]
    place: str
    grantable: bool = False

    @property
    def everywhere(self) -> bool:
        return self.place == _EVERYWHERE

    @property
    def database(self) -> str | None:
        """The pattern of the databases that the rights are on; None for all, and for a part of one."""
        if self.everywhere or not self.place.endswith(".*"):
            return None
        return self.place.removesuffix(".*").strip("`").replace("``", "`")

    def covers(self, database: str) -> bool:
        """Whether the rights are on a whole database of that name."""
        if self.everywhere:
            return True
        return self.database is not None and _pattern(self.database).fullmatch(database) is not None

    def within(self, database: str) -> bool:
        """Whether the rights are on that database or a part of it, and on no other."""
        if self.everywhere:
            return False
        name = self.database if self.database is not None else self.place.split("`.", 1)[0].strip("`")
        return re.sub(r"\\([%_])", r"\1", name) == database


@dataclass(frozen=True, slots=True)
class Grants:
    """All rights of a user. Those that come by a role are the role's, and are not looked at."""

    grants: tuple[Grant, ...]
    roles: tuple[str, ...] = ()

    def missing(self, database: str) -> tuple[str, ...]:
        """What is needed on a database and not granted on the whole of it."""
        there = {privilege for grant in self.grants if grant.covers(database) for privilege in grant.privileges}
        return () if ALL in there else tuple(privilege for privilege in NEEDED if privilege not in there)


def read(connection: Connection) -> Grants:
    """The rights of the user who is connected. Raises DatabaseError."""
    rows = connection.query("SHOW GRANTS FOR CURRENT_USER()")
    return parse(str(value) for row in rows for value in row.values())


def require(connection: Connection, database: str) -> None:
    """Raises DatabaseError if the user lacks rights that a rebuild needs at its end, hours later. Rights that come
    by a role are unknown, and taken to be enough."""
    found = read(connection)
    connection.commit()
    if not found.roles and (missing := ", ".join(found.missing(database))):
        raise DatabaseError(
            f"The database user lacks {missing} on the whole database {database}.",
            hint=f"Grant it first: GRANT {missing} ON `{database}`.* TO that user.",
            code="database_permission",
        )


def own_user(database: str, *, by_token: bool) -> str:
    """The SQL with which an administrator makes a user for cqrsctl alone; with `by_token` it logs in with IAM."""
    identified = "WITH AWSAuthenticationPlugin AS 'RDS'" if by_token else "BY '…'"
    return (
        f"CREATE USER 'cqrsctl'@'%' IDENTIFIED {identified} REQUIRE SSL; "
        f"GRANT {', '.join(NEEDED)} ON `{database}`.* TO 'cqrsctl'@'%'"
    )


def parse(lines: Iterable[str]) -> Grants:
    """From the lines of SHOW GRANTS. What else they hold, a password's hash for one, is left out."""
    grants: list[Grant] = []
    roles: list[str] = []
    for line in lines:
        if match := _ON.match(line):
            rest = line[match.end() :]
            privileges = frozenset(
                part.strip().upper() for part in _COLUMNS.sub("", match["privileges"]).split(",")
            ) - {_NONE}
            grantable = "GRANT OPTION" in rest
            if privileges or grantable:
                grants.append(Grant(privileges, match["place"], grantable))
        elif match := _ROLES.match(line):
            roles += [role[1][1:-1].replace("``", "`") for role in _ROLE.finditer(match["roles"])]
    return Grants(tuple(grants), tuple(roles))


def _pattern(database: str) -> re.Pattern[str]:
    parts = re.findall(r"\\[%_]|.", database)
    wild = {"%": ".*", "_": "."}
    return re.compile("".join(wild.get(part) or re.escape(part.removeprefix("\\")) for part in parts), re.DOTALL)
