"""What a cqrsctl.toml may hold: its tables, checked, and the projections that it declares."""

from __future__ import annotations

import difflib
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from cqrsctl.errors import ConfigurationError
from cqrsctl.projection.declaration import conditions
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product

if TYPE_CHECKING:
    from collections.abc import Iterable

PASSWORD_VARIABLE = "CQRSCTL_DATABASE_PASSWORD"  # noqa: S105 -- the variable's name


class DatabaseTable(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    cluster: str | None = None
    host: str | None = None
    port: int | None = None
    connect_host: str | None = None
    connect_port: int | None = None
    name: str | None = None
    user: str | None = None
    ca_bundle: str | None = None
    secret: str | None = None
    iam_auth: bool | None = None


class EnvironmentTable(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    embedded: bool = False
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    table: str | None = None
    database: DatabaseTable = msgspec.field(default_factory=DatabaseTable)


class _ColumnTable(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    type: str
    attribute: str | None = None
    key: bool = False
    required: bool = False
    default: bool | int | str | None = None
    index: bool = False


class _ProjectionTable(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    view: str
    columns: list[dict[str, Any]]
    where: dict[str, bool | int | str] = msgspec.field(default_factory=dict)


class SettingsFile(msgspec.Struct, forbid_unknown_fields=True):
    environment: str | None = None
    environments: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    projections: list[dict[str, Any]] = msgspec.field(default_factory=list)


def checked(content: Any, shape: type[Any], where: str, *, strict: bool = True) -> Any:
    """Check content against a shape; unknown keys and wrong types are refused with their place."""
    tables = [content, content.get("database")] if isinstance(content, dict) else []
    if any(isinstance(table, dict) and "password" in table for table in tables):
        raise ConfigurationError(
            f"{where}: a password does not belong in the file.",
            hint=f"Use database.secret, database.iam_auth, or the variable {PASSWORD_VARIABLE}.",
        )
    try:
        return msgspec.convert(content, shape, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {_readable(error)}", hint=_suggestion(str(error), shape)) from error


def _readable(error: msgspec.ValidationError) -> str:
    """msgspec says "… - at `$.database.port`": put the place first, without the root's dollar."""
    text, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    text = text.replace("Object contains unknown field", "unknown key").replace(
        "Object missing required field", "missing key"
    )
    if types := re.match(r"Expected `([^`]+)`, got `([^`]+)`", text):
        expected, got = (
            " or ".join(_TYPES.get(name, name) for name in group.split(" | ") if name != "null")
            for group in types.groups()
        )
        text = f"{expected} is expected, not {got}."
    return f"{place}: {text}" if place else text


_TYPES = {
    "int": "a whole number",
    "float": "a number with decimals",
    "str": "text",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
}
"""What msgspec calls the types of TOML."""


def not_toml(text: str) -> str:
    """Where a text is not TOML; tomllib says it in its message alone: "… (at line 3, column 9)".

    What stands there is not repeated: it may be a secret.
    """
    place = re.search(r"\(at line (\d+), column (\d+)\)$", text)
    where = f"line {place[1]} is wrong at character {place[2]}" if place else "something is not closed at its end"
    return f"it is not TOML, {where}"


def _suggestion(text: str, shape: type[msgspec.Struct]) -> str | None:
    if "unknown field" not in text:
        return None
    unknown = text.split("`")[1]
    fields = set(shape.__struct_fields__)
    if shape is EnvironmentTable and "`$.database`" in text:
        fields = set(DatabaseTable.__struct_fields__)
    return did_you_mean(unknown, fields) or f"Known keys: {', '.join(sorted(fields))}."


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the closest of what is known; None if nothing is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]}?" if close else None


def declared_projections(file: SettingsFile, where: str) -> tuple[Projection, ...]:
    if not file.projections:
        return (default_product(),)
    projections = tuple(
        _projection(table, f"{where}: projections[{index}]") for index, table in enumerate(file.projections)
    )
    for what in ("name", "view"):
        names = [getattr(projection, what).lower() for projection in projections]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"{where}: two projections have the same {what}.")
    return projections


def projection_toml(projection: Projection) -> str:
    """The part of a settings file that declares a projection."""
    columns = "".join(f"  {{ {_pairs(_declared_column(column))} }},\n" for column in projection.columns)
    where = f"where = {{ {_pairs(dict(projection.where))} }}\n" if projection.where else ""
    return (
        f"[[projections]]\nname = {toml_value(projection.name)}\nview = {toml_value(projection.view)}\n"
        f"{where}columns = [\n{columns}]\n"
    )


def _declared_column(column: Column) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": column.name, "type": str(column.type)}
    if column.attribute != column.name:
        declared["attribute"] = column.attribute
    if column.default is not None:
        declared["default"] = column.default
    flags = {"key": column.key, "required": column.required and not column.key, "index": column.index}
    return declared | {flag: True for flag, is_set in flags.items() if is_set}


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key if key.isidentifier() and key.isascii() else toml_value(key)} = {toml_value(value)}"
        for key, value in values.items()
    )


def toml_value(value: Any) -> str:
    """A text, boolean or number in TOML; of a number with decimals its text, which keeps its digits."""
    match value:
        case bool():
            return str(value).lower()
        case Decimal() if value == value.to_integral_value():
            return str(int(value))
        case _:
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _projection(content: dict[str, Any], where: str) -> Projection:
    table = checked(content, _ProjectionTable, where)
    columns = []
    for index, column in enumerate(table.columns):
        place = f"{where}.columns[{index}]"
        declared = checked(column, _ColumnTable, place)
        try:
            columns.append(_column(declared))
        except ValueError as error:
            raise ConfigurationError(f"{place}: {error}.") from error
    try:
        return Projection(table.name, table.view, tuple(columns), conditions(table.where))
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}.") from error


def _column(declared: _ColumnTable) -> Column:
    kind = ColumnType.parse(declared.type)
    return Column(
        name=declared.name,
        type=kind,
        attribute=declared.attribute or declared.name,
        key=declared.key,
        required=declared.required,
        default=kind.default(declared.default),
        index=declared.index,
    )
