"""Checks of the database server: how it is reached, and what this user may do there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.diagnosis.doctor.findings import Check, critical, note, warning
from cqrsctl.pipeline.function_database import unverifiable_server
from cqrsctl.read_model.connection import is_loopback
from cqrsctl.read_model.grants import ALL, NEEDED, own_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.diagnosis.doctor.findings import Finding
    from cqrsctl.diagnosis.facts import Facts
    from cqrsctl.diagnosis.servers import DatabaseServer

_SUPERUSER_ROLES = {"rds_superuser_role"}
_ITEM_BYTES = 4 * 2**20
"""More than any statement of one row or one letter has."""
_ADMINISTRATION = {ALL, "CREATE USER", "SUPER"}


def tls(facts: Facts) -> Iterator[Finding]:
    """The server is on another machine, and no `ca_bundle` verifies it.

    Fix: set `database.ca_bundle`.
    """
    if unverifiable_server(facts.environment) is not None:
        yield critical(
            "There is no CA bundle to verify the database server with (database.ca_bundle).",
            "Anybody on the way could take its place and get the password; so cqrsctl does not connect.",
            "set database.ca_bundle; for RDS it is AWS's global-bundle.pem",
        )


def secure_transport(facts: Facts) -> Iterator[Finding]:
    """The server accepts connections without TLS.

    Fix: change its parameter group.
    """
    settings = facts.environment.database
    if facts.environment.embedded or (settings.host and is_loopback(settings.host)) or facts.server().demands_tls:
        return
    yield note(
        "The database server takes connections without TLS (require_secure_transport is off).",
        "cqrsctl never makes such a one, but another program may, with its password in the open.",
        "set require_secure_transport = ON in the cluster's parameter group",
    )


def binlog(facts: Facts) -> Iterator[Finding]:
    """The server's binlog is written as statements, which the projector's transactions do not allow.

    Fix: change its parameter group.
    """
    if facts.server().logs_statements:
        yield critical(
            "The database server's binlog holds statements (binlog_format is STATEMENT).",
            "MySQL then refuses every write of a transaction that is READ COMMITTED, as the projector's are (1665).",
            "set binlog_format = ROW in the cluster's parameter group",
        )


def packet(facts: Facts) -> Iterator[Finding]:
    """The server's `max_allowed_packet` is too short for a large item.

    Fix: change its parameter group.
    """
    most = facts.server().most_packet_bytes
    if most < _ITEM_BYTES:
        yield warning(
            f"The database server takes statements of at most {most / 2**20:.1f} MB (max_allowed_packet).",
            "A row or a dead letter of a large item may be longer, and then stops the projector: DynamoDB's items have "
            "up to 400 KB, a letter has two of them, and SQL doubles some bytes.",
            "set max_allowed_packet = 16777216 or more in the cluster's parameter group",
        )


def too_many_rights(facts: Facts) -> Iterator[Finding]:
    """The user has rights beyond the environment's database; a note if a role gives them.

    Fix: `REVOKE`, or a user of its own.
    """
    settings = facts.environment.database
    yield from rights_beyond(
        facts.server(), settings.name, embedded=facts.environment.embedded, by_token=settings.iam_auth
    )


def rights_beyond(
    server: DatabaseServer, database: str, *, embedded: bool, by_token: bool = False
) -> Iterator[Finding]:
    """What the user may do beyond the read model's own database."""
    if _administers(server):
        yield warning(
            f"The user {server.user} administers the server.",
            "It can do far more than the read model needs, and so can who gets its password.",
            f"a user of its own, made by the administrator: {own_user(database, by_token=by_token)}; then set "
            "database.user, and its secret if it has one",
        )
        return
    user = _quoted(server.user)
    for grant in server.grants.grants:
        rights = ", ".join(sorted(grant.privileges))
        # The embedded server is private, and may hold several read models, whose names begin alike.
        if rights and not grant.within(database) and not (embedded and grant.covers(database) and not grant.everywhere):
            revoke = f"REVOKE {rights} ON {grant.place} FROM {user}"
            instead = f"; {_grant(server.user, database, NEEDED)}" if grant.covers(database) else ""
            yield _beyond(server, f"has {rights} on {grant.place}", database, revoke + instead)
        if grant.grantable:
            revoke = f"REVOKE GRANT OPTION ON {grant.place} FROM {user}"
            yield _beyond(server, f"may give its rights on {grant.place} to others", database, revoke)
    for role in server.grants.roles:
        yield note(
            f"The user {server.user} has rights by the role {role}, which are not looked at.",
            "They may be more than are needed.",
            f"SHOW GRANTS FOR '{role}'",
        )


def _administers(server: DatabaseServer) -> bool:
    """Whether it is a master user: what RDS gives one is not to be revoked."""
    return not _SUPERUSER_ROLES.isdisjoint(server.grants.roles) or any(
        grant.everywhere and (grant.grantable or not _ADMINISTRATION.isdisjoint(grant.privileges))
        for grant in server.grants.grants
    )


def too_few_rights(facts: Facts) -> Iterator[Finding]:
    """The user lacks rights on the environment's database.

    Fix: `GRANT`.
    """
    server, database = facts.server(), facts.environment.database.name
    missing = server.grants.missing(database)
    if missing and not server.grants.roles:
        yield warning(
            f"The user {server.user} lacks {', '.join(missing)} on the whole database {database}.",
            "Commands that need it fail: project, rebuild, read-model.",
            _grant(server.user, database, missing),
        )


def _beyond(server: DatabaseServer, what: str, database: str, fix: str) -> Finding:
    return warning(
        f"The user {server.user} {what}.",
        f"It needs rights on the database {database} only; who gets its password can do all the rest too.",
        fix,
    )


def _grant(user: str, database: str, privileges: tuple[str, ...]) -> str:
    return f"GRANT {', '.join(privileges)} ON `{database}`.* TO {_quoted(user)}"


def _quoted(user: str) -> str:
    """CURRENT_USER() says user@host."""
    name, at, host = user.rpartition("@")
    return f"'{name}'@'{host}'" if at else user


CHECKS = (
    Check("database_tls", "database", tls),
    Check("database_secure_transport", "database", secure_transport),
    Check("database_binlog", "database", binlog),
    Check("database_packet", "database", packet),
    Check("database_rights", "database", too_many_rights),
    Check("database_rights_missing", "database", too_few_rights),
)
