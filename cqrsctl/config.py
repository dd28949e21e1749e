"""Settings: the only reader of flags, CQRSCTL_* variables and cqrsctl.toml.

Precedence: flag, variable, file, default. What comes out is one frozen Environment.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import platformdirs

from cqrsctl.errors import ConfigurationError
from cqrsctl.projection.declaration import conditions
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "cqrsctl.toml"
EMBEDDED = ("local", "demo")
"""The environments that exist without being declared: the embedded stack, and the demo's own."""


DEFAULT_USER = "cqrsctl"
"""Who logs in to the database if nothing names somebody."""


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the read model's database is, by Aurora cluster or by host, and where its password comes from.

    `connect_host` and `connect_port` are where a tunnel to the server begins: there it is connected to, while the
    server's own name is what is verified and signed. Without `secret`, `iam_auth` and `password` it is the secret that
    RDS manages for the cluster. Without `user` it is the secret's user, else `cqrsctl`.
    """

    cluster: str | None = None
    host: str | None = None
    port: int = 3306
    connect_host: str | None = None
    connect_port: int | None = None
    name: str = "cqrs"
    user: str | None = None
    ca_bundle: Path | None = None
    secret: str | None = None
    iam_auth: bool = False
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything a command needs to know about the pipeline that it works on."""

    name: str
    embedded: bool
    profile: str | None
    region: str | None
    endpoint_url: str | None
    table: str
    database: DatabaseSettings
    projections: tuple[Projection, ...]
    state_dir: Path
    aws_endpoints: frozenset[str] = frozenset()

    @property
    def own_cluster(self) -> str | None:
        """The Aurora cluster that the environment names; that of an embedded stack is none in AWS."""
        return None if self.embedded else self.database.cluster

    @property
    def runs_functions(self) -> bool:
        """Whether functions are run where they are deployed: the embedded stack's own endpoint only keeps them."""
        return not self.embedded or bool(self.endpoint_url) or self.aws_endpoint("lambda")

    def aws_endpoint(self, service: str) -> bool:
        """Whether a variable of boto3 (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_DYNAMODB, …) names a service's endpoint."""
        names = {_ENDPOINT_VARIABLE, f"{_ENDPOINT_VARIABLE}_{_SERVICE_KEYS.get(service, service.upper())}"}
        return bool(names & self.aws_endpoints)


@dataclass(frozen=True, slots=True)
class Flags:
    """The global options of the command line; None if not given."""

    env: str | None = None
    config: Path | None = None
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None

    def overridden(self, other: Flags) -> Flags:
        """These options, with those of `other` that are given in their place."""
        return replace(self, **{name: value for name, value in asdict(other).items() if value is not None})

    def said(self, variables: Mapping[str, str] = os.environ) -> dict[str, object]:
        """What addresses this pipeline, by flag or else by variable; None if neither says it."""
        return {name: flag or variables.get(f"CQRSCTL_{name.upper()}") for name, flag in asdict(self).items()}


class _DatabaseTable(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
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


class _EnvironmentTable(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    embedded: bool = False
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    table: str | None = None
    database: _DatabaseTable = msgspec.field(default_factory=_DatabaseTable)


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


class _File(msgspec.Struct, forbid_unknown_fields=True):
    environment: str | None = None
    environments: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    projections: list[dict[str, Any]] = msgspec.field(default_factory=list)


_VARIABLES = {
    "CQRSCTL_PROFILE": "profile",
    "CQRSCTL_REGION": "region",
    "CQRSCTL_ENDPOINT_URL": "endpoint_url",
    "CQRSCTL_TABLE": "table",
    "CQRSCTL_DATABASE_CLUSTER": "database.cluster",
    "CQRSCTL_DATABASE_HOST": "database.host",
    "CQRSCTL_DATABASE_PORT": "database.port",
    "CQRSCTL_DATABASE_CONNECT_HOST": "database.connect_host",
    "CQRSCTL_DATABASE_CONNECT_PORT": "database.connect_port",
    "CQRSCTL_DATABASE_NAME": "database.name",
    "CQRSCTL_DATABASE_USER": "database.user",
    "CQRSCTL_DATABASE_CA_BUNDLE": "database.ca_bundle",
    "CQRSCTL_DATABASE_SECRET": "database.secret",
    "CQRSCTL_DATABASE_IAM_AUTH": "database.iam_auth",
}
_ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"
_SERVICE_KEYS = {
    "dynamodbstreams": "DYNAMODB_STREAMS",
    "secretsmanager": "SECRETS_MANAGER",
    "application-autoscaling": "APPLICATION_AUTO_SCALING",
}
"""boto3 makes its variables' names from service ids, which are not always the client's name."""
PASSWORD_VARIABLE = "CQRSCTL_DATABASE_PASSWORD"  # noqa: S105 -- the variable's name


def load(flags: Flags, variables: Mapping[str, str] = os.environ, directory: Path | None = None) -> Environment:
    """Read all settings. Raises ConfigurationError, naming the place that is wrong."""
    path = _find_file(flags, variables, directory or Path.cwd())
    file = _read_file(path) if path else _File()
    return _environment(file, str(path) if path else FILE_NAME, flags, variables)


def pristine(name: str, variables: Mapping[str, str] = os.environ) -> Environment:
    """An embedded environment with nothing but defaults, whatever the settings say; its state dir is as set."""
    kept = {"CQRSCTL_STATE_DIR": variables.get("CQRSCTL_STATE_DIR", "")}
    return _environment(_File(), FILE_NAME, Flags(env=name), kept)


def _environment(file: _File, where: str, flags: Flags, variables: Mapping[str, str]) -> Environment:
    name = flags.env or variables.get("CQRSCTL_ENV") or file.environment or "local"
    if name not in file.environments and name not in EMBEDDED:
        known = sorted({*file.environments, *EMBEDDED})
        raise ConfigurationError(
            f"No environment {name!r}; known are {', '.join(known)}.",
            hint=f"Declare [environments.{name}] in {FILE_NAME}, or choose another with --env.",
        )
    declared: dict[str, _EnvironmentTable] = {
        other: _convert(content, _EnvironmentTable, f"{where}: environments.{other}")
        for other, content in file.environments.items()
    }
    from_file = declared.get(name, _EnvironmentTable())
    _check_name(name, where)
    settings = _layered(from_file, variables)
    flagged = {
        "profile": flags.profile,
        "region": flags.region,
        "endpoint_url": flags.endpoint_url,
    }
    settings.update({key: value for key, value in flagged.items() if value is not None})
    endpoint = settings.get("endpoint_url")
    if endpoint and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", endpoint):
        raise ConfigurationError(
            f"endpoint_url: {endpoint!r} is not a URL.", hint="It begins with http:// or https://."
        )
    return Environment(
        name=name,
        embedded=from_file.embedded or name in EMBEDDED,
        profile=settings.get("profile"),
        region=settings.get("region"),
        endpoint_url=settings.get("endpoint_url"),
        table=settings.get("table", "Products"),
        database=_database(settings, variables.get(PASSWORD_VARIABLE)),
        projections=_projections(file, where),
        state_dir=state_root(variables) / name,
        aws_endpoints=frozenset(v for v in variables if v.startswith(_ENDPOINT_VARIABLE) and variables[v]),
    )


def state_root(variables: Mapping[str, str] = os.environ) -> Path:
    """Where the embedded stacks keep their data: CQRSCTL_STATE_DIR, else the user's state directory.

    Raises ConfigurationError if it is to be below a home folder and there is none, as for a user id without a name.
    """
    chosen = variables.get("CQRSCTL_STATE_DIR")
    try:
        return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_state_path("cqrsctl")
    except RuntimeError as error:
        raise ConfigurationError(
            "This user has no home folder to keep state in.",
            hint="Set CQRSCTL_STATE_DIR to the full path of a folder, or HOME.",
        ) from error


def _find_file(flags: Flags, variables: Mapping[str, str], directory: Path) -> Path | None:
    chosen = flags.config or (Path(variables["CQRSCTL_CONFIG"]) if variables.get("CQRSCTL_CONFIG") else None)
    if chosen is not None:
        return chosen
    candidates = (folder / FILE_NAME for folder in (directory, *directory.parents))
    return next((path for path in candidates if path.is_file()), None)


def _read_file(path: Path) -> _File:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.", hint="Check --config.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}).") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}.", hint="Mend the TOML at that place.") from error
    file: _File = _convert(content, _File, str(path))
    return file


def _convert(content: Any, shape: type[Any], where: str, *, strict: bool = True) -> Any:
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
    return f"{place}: {text}" if place else text


def _suggestion(text: str, shape: type[msgspec.Struct]) -> str | None:
    if "unknown field" not in text:
        return None
    unknown = text.split("`")[1]
    fields = set(shape.__struct_fields__)
    if shape is _EnvironmentTable and "`$.database`" in text:
        fields = set(_DatabaseTable.__struct_fields__)
    close = difflib.get_close_matches(unknown, fields, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(sorted(fields))}."


def _layered(from_file: _EnvironmentTable, variables: Mapping[str, str]) -> dict[str, Any]:
    """The file's settings with the variables' laid over them, keyed by dotted name."""
    database = from_file.database
    settings = {
        **{f: getattr(from_file, f) for f in ("profile", "region", "endpoint_url", "table")},
        **{f"database.{f}": getattr(database, f) for f in database.__struct_fields__},
    }
    for variable, key in _VARIABLES.items():
        if text := variables.get(variable):
            shape = {"database.port": int, "database.connect_port": int, "database.iam_auth": bool}.get(key, str)
            settings[key] = _convert(text, shape, variable, strict=False)
    return {key: value for key, value in settings.items() if value is not None}


def _database(settings: dict[str, Any], password: str | None) -> DatabaseSettings:
    chosen = {key.removeprefix("database."): value for key, value in settings.items() if key.startswith("database.")}
    for name in ("port", "connect_port"):
        if not 1 <= chosen.get(name, 3306) <= 65_535:
            raise ConfigurationError(f"database.{name}: {chosen[name]} is not a port (1 to 65535).")
    if chosen.get("connect_port") and not chosen.get("connect_host"):
        raise ConfigurationError(
            "database.connect_port is set, and database.connect_host is not.",
            hint='Set both to where the tunnel begins, often connect_host = "127.0.0.1".',
        )
    if chosen.get("secret") and chosen.get("iam_auth"):
        raise ConfigurationError(
            "database.secret and database.iam_auth are both set.", hint="Keep the one that the cluster uses."
        )
    if chosen.get("cluster") and chosen.get("host"):
        raise ConfigurationError(
            "database.cluster and database.host are both set.",
            hint="Keep database.cluster for an Aurora cluster, database.host for any other server.",
        )
    if "ca_bundle" in chosen:
        chosen["ca_bundle"] = _expanded(chosen["ca_bundle"])
    return DatabaseSettings(**chosen, password=password)


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{path}: there is no such home folder.", hint="Give the full path.") from error


def _check_name(name: str, where: str) -> None:
    """An environment's name becomes the name of a folder."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigurationError(f"{where}: {name!r} is not an environment's name (letters, digits, - and _).")


def _projections(file: _File, where: str) -> tuple[Projection, ...]:
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


def _projection(content: dict[str, Any], where: str) -> Projection:
    table = _convert(content, _ProjectionTable, where)
    columns = []
    for index, column in enumerate(table.columns):
        place = f"{where}.columns[{index}]"
        declared = _convert(column, _ColumnTable, place)
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
