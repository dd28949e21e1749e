"""The tables that cqrsctl keeps its own account in, beside those of the projections."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from cqrsctl.read_model.connection import Connection

TABLES = {
    # Which physical table of a projection is active, which one a rebuild is filling, and what it was made from.
    "cqrs_projection": """
    CREATE TABLE IF NOT EXISTS cqrs_projection (
        name             VARCHAR(40)  NOT NULL PRIMARY KEY,
        view_name        VARCHAR(64)  NOT NULL,
        active_version   INT UNSIGNED NOT NULL,
        building_version INT UNSIGNED NULL,
        declaration      MEDIUMTEXT   NOT NULL,
        created_at       DATETIME(6)  NOT NULL
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # Who last began to project a projection: if its lock is held, that one holds it.
    "cqrs_holder": """
    CREATE TABLE IF NOT EXISTS cqrs_holder (
        projection VARCHAR(40)  NOT NULL PRIMARY KEY,
        holder     VARCHAR(255) NOT NULL
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # How far each projection has read each shard: written in the same transaction as the rows.
    "cqrs_checkpoint": """
    CREATE TABLE IF NOT EXISTS cqrs_checkpoint (
        projection      VARCHAR(40)    NOT NULL,
        stream          VARCHAR(255)   NOT NULL,
        shard           VARCHAR(65)    NOT NULL,
        parent          VARCHAR(65)    NULL,
        sequence_number VARCHAR(40)    NULL,
        state           ENUM('open', 'finished', 'gap') NOT NULL,
        record_time     DATETIME(6)    NULL,
        read_since      DATETIME(6)    NULL,
        read_through    DATETIME(6)    NULL,
        updated_at      DATETIME(6)    NOT NULL,
        PRIMARY KEY (projection, stream, shard)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # One row: who projected last, and when. `beat_at` shows how stale a reader is, so others renew it, too.
    "cqrs_heartbeat": """
    CREATE TABLE IF NOT EXISTS cqrs_heartbeat (
        id           TINYINT      NOT NULL PRIMARY KEY,
        beat_at      DATETIME(6)  NOT NULL,
        holder       VARCHAR(255) NOT NULL,
        projected_at DATETIME(6)  NULL
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # How far the projector function came in each stream, written in the same transaction as its rows: when it last
    # handled a batch, the newest time and the highest sequence number of a change. `paused_at` is since when it was
    # paused, if AWS no longer knows.
    "cqrs_function_position": """
    CREATE TABLE IF NOT EXISTS cqrs_function_position (
        stream          VARCHAR(255) NOT NULL PRIMARY KEY,
        handled_at      DATETIME(6)  NOT NULL,
        record_time     DATETIME(6)  NOT NULL,
        sequence_number VARCHAR(40)  NOT NULL,
        paused_at       DATETIME(6)  NULL
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # Projections that lack changes which no reader of the stream gets: their tables up to a version.
    "cqrs_function_gap": """
    CREATE TABLE IF NOT EXISTS cqrs_function_gap (
        projection VARCHAR(40)  NOT NULL,
        stream     VARCHAR(255) NOT NULL,
        reason     VARCHAR(20)  NOT NULL,
        version    INT UNSIGNED NOT NULL,
        marked_at  DATETIME(6)  NOT NULL,
        PRIMARY KEY (projection, stream)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # Changes that did not fit, whole; written in the same transaction too. Those that someone retried or discarded are
    # settled: kept for some days, as the same change may come again, and as an undo of a rebuild may need them. `shard`
    # is a digest of the item's key (in rows of earlier releases the shard, which the record has too): whoever sets a
    # change aside may not know its shard.
    "cqrs_dead_letter": """
    CREATE TABLE IF NOT EXISTS cqrs_dead_letter (
        id              BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        projection      VARCHAR(40)     NOT NULL,
        stream          VARCHAR(255)    NOT NULL,
        shard           VARCHAR(65)     NOT NULL,
        sequence_number VARCHAR(40)     NOT NULL,
        record          LONGTEXT        NOT NULL,
        error           TEXT            NOT NULL,
        first_seen      DATETIME(6)     NOT NULL,
        attempts        INT UNSIGNED    NOT NULL,
        settled         ENUM('retried', 'discarded') NULL,
        settled_at      DATETIME(6)     NULL,
        UNIQUE KEY (projection, stream, shard, sequence_number)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # The last rebuild of each projection: the table that it makes or made, and the former one behind the view.
    # `replaced_checkpoints` come back if the rebuild is discarded; from `cutover_checkpoints` the former table can be
    # brought up to date again.
    "cqrs_rebuild": """
    CREATE TABLE IF NOT EXISTS cqrs_rebuild (
        projection         VARCHAR(40)  NOT NULL PRIMARY KEY,
        version            INT UNSIGNED NOT NULL,
        declaration        MEDIUMTEXT   NOT NULL,
        former_version     INT UNSIGNED NOT NULL,
        former_declaration MEDIUMTEXT   NOT NULL,
        stream             VARCHAR(255) NOT NULL,
        state              ENUM('loading', 'loaded', 'cutover', 'done') NOT NULL,
        undoing            BOOLEAN      NOT NULL,
        replaced_checkpoints LONGTEXT   NULL,
        cutover_checkpoints  LONGTEXT   NULL,
        begun_at           DATETIME(6)  NOT NULL,
        ended_at           DATETIME(6)  NULL
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # From before which time all changes are in the snapshot that a table was filled with: whatever brings one of them
    # again (a dead letter, a replay, a projector that starts over) is older than the table.
    "cqrs_snapshot": """
    CREATE TABLE IF NOT EXISTS cqrs_snapshot (
        projection VARCHAR(40)  NOT NULL,
        version    INT UNSIGNED NOT NULL,
        since      DATETIME(6)  NULL,
        PRIMARY KEY (projection, version)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # How far each segment of a rebuild's scan is loaded: written in the same transaction as the rows. Apart from
    # cqrs_rebuild, whose row projectors lock.
    "cqrs_rebuild_segment": """
    CREATE TABLE IF NOT EXISTS cqrs_rebuild_segment (
        projection VARCHAR(40)     NOT NULL,
        segment    INT UNSIGNED    NOT NULL,
        last_key   TEXT            NULL,
        finished   BOOLEAN         NOT NULL,
        items      BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (projection, segment)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
}


_FORMER_NAMES = {"replaced_checkpoints": "lost", "cutover_checkpoints": "left_at"}
"""What earlier releases called a column."""


def statements() -> list[str]:
    """The statements that make the tables."""
    return [_dedented(text) for text in TABLES.values()]


def make(connection: Connection) -> None:
    """Make the tables that are missing, and the columns that an earlier release did not make, or of another type."""
    rows = connection.query(
        "SELECT table_name AS name, column_name AS col, data_type AS kind FROM information_schema.columns"
        f" WHERE table_schema = DATABASE() AND table_name IN ({', '.join(['%s'] * len(TABLES))})",
        tuple(TABLES),
    )
    existing: dict[str, dict[str, str]] = {}
    for row in rows:
        existing.setdefault(row["name"], {})[row["col"]] = row["kind"]
    for name, text in TABLES.items():
        if name not in existing:
            connection.execute(text)
            continue
        changes = [
            f"{_change(column, existing[name])} {line}"
            for column, line in columns(text).items()
            if existing[name].get(column) != _data_type(line)
        ]
        if changes:
            connection.execute(f"ALTER TABLE {name} {', '.join(changes)}")


def _change(column: str, existing: Collection[str]) -> str:
    """What ALTER TABLE does to a column that is not as it is to be."""
    former = _FORMER_NAMES.get(column)
    if former in existing:
        return f"CHANGE COLUMN {former}"
    return "MODIFY COLUMN" if column in existing else "ADD COLUMN"


def columns(text: str) -> dict[str, str]:
    """The columns that a statement makes a table with: each column's name and its whole definition."""
    lines = [line.strip().rstrip(",") for line in text.strip().splitlines()[1:-1]]
    return {line.split()[0]: line for line in lines if not line.startswith(("PRIMARY KEY", "UNIQUE KEY", "KEY"))}


def _data_type(line: str) -> str:
    """The type of a column's definition, as information_schema names it."""
    word = line.split()[1].partition("(")[0].lower()
    return {"boolean": "tinyint"}.get(word, word)


def forget(connection: Connection, projection: str) -> None:
    """Remove all that is known of a projection but its dead letters: one may be the only record of its change."""
    connection.execute("DELETE FROM cqrs_checkpoint WHERE projection = %s", (projection,))
    connection.execute("DELETE FROM cqrs_holder WHERE projection = %s", (projection,))
    connection.execute("DELETE FROM cqrs_function_gap WHERE projection = %s", (projection,))
    connection.execute("DELETE FROM cqrs_snapshot WHERE projection = %s", (projection,))
    connection.execute("DELETE FROM cqrs_rebuild_segment WHERE projection = %s", (projection,))
    connection.execute("DELETE FROM cqrs_rebuild WHERE projection = %s", (projection,))
    connection.execute("DELETE FROM cqrs_projection WHERE name = %s", (projection,))
    connection.commit()


def drop(connection: Connection) -> None:
    """Drop the tables, but keep dead letters."""
    letters = connection.query("SELECT id FROM cqrs_dead_letter LIMIT 1")
    for table in TABLES:
        if table != "cqrs_dead_letter" or not letters:
            connection.execute(f"DROP TABLE IF EXISTS {table}")


def _dedented(text: str) -> str:
    lines = text.strip("\n").rstrip().splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines)
