"""The emulator's tables, kept in a journal: their settings, items and streams.

moto keeps them in memory. Each change is noted where moto makes it, and written once its request is done. Positions in
a stream stay valid: its label, its shard, and the records with their numbers stay as they were.
"""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import (
    GlobalSecondaryIndex,
    LocalSecondaryIndex,
    StreamRecord,
    StreamShard,
    Table,
)

from cqrsctl.local.journal import Journal, JournalDamaged, plain, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_RETENTION = timedelta(hours=24)
_LEAST_RECORDS = 100_000
"""The number of records that a stream keeps however old they are, so that a stack can resume after days."""

_CHUNK = 100
_DEAD_SHARE = 0.2
"""The share of a journal that later changes made useless, from which on it is written again."""

_BY_KIND: dict[str, Any] = {"indexes": LocalSecondaryIndex, "global_indexes": GlobalSecondaryIndex}
_NewTable: Any = Table  # only in its types does moto leave methods of it abstract
_APART = {"items", "stream_shard", "lambda_event_source_mappings", *_BY_KIND}
_PLAIN = (str, int, float, dict, list, datetime, type(None))


class KeptTables:
    """moto's tables, and the journal of their changes. There is one in a process: it watches moto's classes."""

    def __init__(self, path: Path, now: datetime) -> None:
        """Make the tables again that the journal has. Raises JournalDamaged."""
        self._journal = Journal(path)
        self._changes: list[Any] = []
        read_changes = self._restore(path)
        for table in _tables():
            _trim(table, now)
        self._settings = {table.table_arn: _text(_settings(table)) for table in _tables()}
        if sum(map(_size, _tables())) < read_changes * (1 - _DEAD_SHARE):
            self._journal.replace(line for table in _tables() for line in _lines(table))
        self._watch()

    def write(self, *, settings: bool) -> None:
        """Write what the last request changed. `settings`: it may have changed more than items. Raises OSError."""
        if settings:
            self._note_settings()
        if self._changes:
            changes, self._changes = self._changes, []
            self._journal.append(changes)

    def _note_settings(self) -> None:
        tables = {table.table_arn: table for table in _tables()}
        gone = [["gone", arn] for arn in self._settings.keys() - tables.keys()]
        changes: list[Any] = []
        for arn, table in tables.items():
            text = _text(settings := _settings(table))
            if arn not in self._settings:  # it may have come with its items, from a backup
                changes += [change for line in _lines(table) for change in line]
            elif text != self._settings[arn]:
                changes.append(["table", arn, settings])
            self._settings[arn] = text
        for _, arn in gone:
            del self._settings[arn]
        self._changes[:0] = gone + changes

    def _watch(self) -> None:
        """Note each change where moto makes it."""

        def put(table: Table, item: Item) -> None:
            self._changes.append(["put", table.table_arn, item.attrs])

        def deleted(table: Table, item: Item | None) -> None:
            if item is not None:
                self._changes.append(["delete", table.table_arn, item.hash_key, item.range_key])

        def updated(backend: DynamoDBBackend, item: Item, table_name: str, *_: Any, **__: Any) -> None:
            put(backend.get_table(table_name), item)

        def streamed(shard: StreamShard, _: None) -> None:
            self._changes.append(["record", shard.table.table_arn, shard.items[-1].record])

        _after(Table, "put_item", lambda table, item, *_, **__: put(table, item))
        _after(Table, "delete_item", lambda table, item, *_, **__: deleted(table, item))
        _after(DynamoDBBackend, "update_item", updated)
        _after(StreamShard, "add", lambda shard, result, *_, **__: streamed(shard, result))
        transact: Any = DynamoDBBackend.transact_write_items

        @functools.wraps(transact)
        def transact_or_nothing(*arguments: Any, **options: Any) -> Any:
            before = len(self._changes)
            try:
                return transact(*arguments, **options)
            except BaseException:
                del self._changes[before:]  # moto puts the tables back
                raise

        DynamoDBBackend.transact_write_items = transact_or_nothing  # type: ignore[method-assign]

    def _restore(self, path: Path) -> int:
        """Make the journal's changes; how many there were."""
        made = 0
        tables: dict[str, Table] = {}
        for number, changes in read(path):
            try:
                for kind, arn, *details in changes:
                    _RESTORING[kind](tables, arn, *details)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise JournalDamaged(path, number, f"{type(error).__name__}: {error}") from error
            made += len(changes)
        return made


def _tables() -> Iterator[Table]:
    for regions in list(dynamodb_backends.values()):
        for backend in list(regions.values()):
            yield from backend.tables.values()


def _settings(table: Table) -> dict[str, Any]:
    """All of a table but its items and records, also what moto's next version adds to it."""
    indexes = {name: [index.describe() for index in vars(table)[name]] for name in _BY_KIND}
    return _values(table) | indexes | {"shard": table.stream_shard and _values(table.stream_shard)}


def _values(owner: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(owner).items() if name not in _APART and isinstance(value, _PLAIN)}


def _lines(table: Table) -> Iterator[list[Any]]:
    """The changes that make a table as it is now, in lines."""
    arn = table.table_arn
    yield [["table", arn, _settings(table)]]
    items = [["put", arn, item.attrs] for item in table.all_items()]
    records = [["record", arn, record.record] for record in table.stream_shard.items] if table.stream_shard else []
    for changes in (items, records):
        for begin in range(0, len(changes), _CHUNK):
            yield changes[begin : begin + _CHUNK]


def _size(table: Table) -> int:
    return 1 + len(table) + (len(table.stream_shard.items) if table.stream_shard else 0)


def _text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, default=plain)


def _trim(table: Table, now: datetime) -> None:
    """Remove the records that DynamoDB would not have any more, unless they are few."""
    shard = table.stream_shard
    if shard is None or len(shard.items) <= _LEAST_RECORDS:
        return
    horizon = now - _RETENTION
    times = (record.record["dynamodb"]["ApproximateCreationDateTime"] for record in shard.items[:-_LEAST_RECORDS])
    old = sum(1 for time in times if time.replace(tzinfo=UTC) < horizon)
    shard.items = shard.items[old:]
    shard.starting_sequence_number += old


def _restore_table(tables: dict[str, Table], arn: str, settings: dict[str, Any]) -> None:
    shard, described = settings.pop("shard"), {name: settings.pop(name) for name in _BY_KIND}
    table = tables.get(arn)
    if table is None:
        account, region, name = settings["account_id"], settings["region_name"], settings["name"]
        table = _NewTable(name, account_id=account, region=region, schema=settings["schema"], attr=settings["attr"])
        tables[arn] = dynamodb_backends[account][region].tables[name] = table
    if shard is None:
        table.stream_shard = None
    elif table.stream_shard is None or table.latest_stream_label != settings["latest_stream_label"]:
        table.stream_shard = StreamShard(table.account_id, table)
    if table.stream_shard:
        vars(table.stream_shard).update(shard)
    vars(table).update(settings)
    for name, kind in _BY_KIND.items():
        setattr(table, name, [kind.create(index, table.table_key_attrs) for index in described[name]])


def _restore_gone(tables: dict[str, Table], arn: str) -> None:
    table = tables.pop(arn)
    del dynamodb_backends[table.account_id][table.region_name].tables[table.name]


def _restore_item(tables: dict[str, Table], arn: str, attributes: dict[str, Any]) -> None:
    table = tables[arn]
    hash_key = DynamoType(attributes[table.hash_key_attr])
    range_key = DynamoType(attributes[table.range_key_attr]) if table.range_key_attr else None
    item = Item(hash_key, range_key, {})
    for name, value in attributes.items():
        dict.__setitem__(item.attrs, name, DynamoType(value))  # moto's own would measure the item each time
    if range_key:
        table.items[hash_key][range_key] = item
    else:
        table.items[hash_key] = item  # type: ignore[assignment]


def _restore_delete(tables: dict[str, Table], arn: str, hash_key: Any, range_key: Any) -> None:
    items, key = tables[arn].items, DynamoType(hash_key)
    if range_key is None:
        del items[key]
    else:
        del items[key][DynamoType(range_key)]


def _restore_record(tables: dict[str, Table], arn: str, content: dict[str, Any]) -> None:
    shard: Any = tables[arn].stream_shard
    record: Any = StreamRecord.__new__(StreamRecord)
    record.record = content
    shard.items.append(record)


_RESTORING: dict[str, Callable[..., None]] = {
    "table": _restore_table,
    "gone": _restore_gone,
    "put": _restore_item,
    "delete": _restore_delete,
    "record": _restore_record,
}


def _after(owner: type, name: str, noted: Callable[..., None]) -> None:
    """Have a method's results noted: (the object, the result, the arguments)."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def noting(self: Any, *arguments: Any, **options: Any) -> Any:
        result = method(self, *arguments, **options)
        noted(self, result, *arguments, **options)
        return result

    setattr(owner, name, noting)
