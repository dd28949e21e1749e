"""Settings: the only reader of flags, CQRSCTL_* variables and cqrsctl.toml.

Precedence: flag, variable, file, default. What comes out is one frozen Environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import platformdirs

from cqrsctl.errors import ConfigurationError
from cqrsctl.settings_file import (
    PASSWORD_VARIABLE,
    DatabaseTable,
    EnvironmentTable,
    SettingsFile,
    checked,
    declared_projections,
    did_you_mean,
    not_toml,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cqrsctl.projection.definition import Projection

FILE_NAME = "cqrsctl.toml"
EMBEDDED = ("local", "demo")
"""The environments that exist without being declared: the embedded stack, and the demo's own."""


EMBEDDED_REGION = "us-east-1"
"""The region of the embedded stack if nothing names one."""
DEFAULT_TABLE = "Products"
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


DEFAULT = "default"
"""The source of a setting that neither a flag nor a variable nor the file names."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's value, and the flag, variable or file that it comes from."""

    name: str
    value: Any
    source: str


_AWS_SETTINGS = ("profile", "region", "endpoint_url")
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
_BOTO3_VARIABLES = {
    "profile": ("AWS_DEFAULT_PROFILE", "AWS_PROFILE"),
    "region": ("AWS_DEFAULT_REGION",),
    "endpoint_url": (_ENDPOINT_VARIABLE,),
}
"""What boto3 reads for settings that nothing of cqrsctl's own names."""
_SERVICE_KEYS = {
    "dynamodbstreams": "DYNAMODB_STREAMS",
    "secretsmanager": "SECRETS_MANAGER",
    "application-autoscaling": "APPLICATION_AUTO_SCALING",
}
"""boto3 makes its variables' names from service ids, which are not always the client's name."""


def load(flags: Flags, variables: Mapping[str, str] = os.environ, directory: Path | None = None) -> Environment:
    """Read all settings. Raises ConfigurationError, naming the place that is wrong."""
    return _environment(*_found(flags, variables, directory), flags, variables)


def in_force(
    flags: Flags, variables: Mapping[str, str] = os.environ, directory: Path | None = None
) -> Iterator[Setting]:
    """Each setting of the environment, in force or unset, with its source; no secret is among them.

    Raises ConfigurationError as `load` does.
    """
    file, where = _found(flags, variables, directory)
    environment = _environment(file, where, flags, variables)
    table = checked(file.environments.get(environment.name, {}), EnvironmentTable, where)
    named = _layered(table, where, flags, variables)
    yield _chosen(file, where, flags, variables)
    source = "--config" if flags.config else "CQRSCTL_CONFIG" if variables.get("CQRSCTL_CONFIG") else DEFAULT
    yield Setting("config", Path(where) if source != DEFAULT or file != SettingsFile() else None, source)
    yield Setting("embedded", environment.embedded, where if table.embedded else DEFAULT)
    for name in _AWS_SETTINGS:
        yield named.get(name) or _of_boto3(environment, name, variables)
    if environment.endpoint_url is None:
        for variable in sorted(environment.aws_endpoints - {_ENDPOINT_VARIABLE}):
            yield Setting(
                f"endpoint_url{variable.removeprefix(_ENDPOINT_VARIABLE).lower()}", variables[variable], variable
            )
    yield named.get("table") or Setting("table", environment.table, DEFAULT)
    for key in DatabaseTable.__struct_fields__:
        name = f"database.{key}"
        yield Setting(name, getattr(environment.database, key), named[name].source if name in named else DEFAULT)
    if environment.database.password is not None:
        yield Setting("database.password", "(hidden)", PASSWORD_VARIABLE)
    yield Setting(
        "projections", [each.name for each in environment.projections], where if file.projections else DEFAULT
    )
    yield Setting(
        "state_dir", environment.state_dir, "CQRSCTL_STATE_DIR" if variables.get("CQRSCTL_STATE_DIR") else DEFAULT
    )


def environments(
    flags: Flags, variables: Mapping[str, str] = os.environ, directory: Path | None = None
) -> tuple[dict[str, str | None], Setting]:
    """Every environment with the file that declares it, if any, and the one that is the default with its source."""
    file, where = _found(replace(flags, env=None), variables, directory)
    names = [*file.environments, *(name for name in EMBEDDED if name not in file.environments)]
    declared = {name: where if name in file.environments else None for name in names}
    return declared, _chosen(file, where, Flags(), variables)


def undeclared(flags: Flags, variables: Mapping[str, str] = os.environ) -> Environment:
    """The environment that flags and variables describe, as if a file declared it and nothing of it.

    Raises ConfigurationError as `load` does.
    """
    name = str(_chosen(SettingsFile(), FILE_NAME, flags, variables).value)
    file = SettingsFile(environments={} if name in EMBEDDED else {name: {}})
    return _environment(file, FILE_NAME, flags, variables)


def file_to_write(flags: Flags, variables: Mapping[str, str] = os.environ) -> Path:
    """The settings file that is named, else the one of this folder; it need not exist."""
    return flags.config or Path(variables.get("CQRSCTL_CONFIG") or FILE_NAME)


def pristine(name: str, variables: Mapping[str, str] = os.environ) -> Environment:
    """An embedded environment with nothing but defaults, whatever the settings say; its state dir is as set."""
    kept = {"CQRSCTL_STATE_DIR": variables.get("CQRSCTL_STATE_DIR", "")}
    return _environment(SettingsFile(), FILE_NAME, Flags(env=name), kept)


def _environment(file: SettingsFile, where: str, flags: Flags, variables: Mapping[str, str]) -> Environment:
    name = str(_chosen(file, where, flags, variables).value)
    if name not in file.environments and name not in EMBEDDED:
        known = sorted({*file.environments, *EMBEDDED})
        close = did_you_mean(name, known)
        declare = f"Declare [environments.{name}] in {FILE_NAME}, or choose another with --env."
        raise ConfigurationError(
            f"No environment {name!r}; known are {', '.join(known)}.",
            hint=f"{close} {declare}" if close else declare,
        )
    declared: dict[str, EnvironmentTable] = {
        other: checked(content, EnvironmentTable, f"{where}: environments.{other}")
        for other, content in file.environments.items()
    }
    from_file = declared.get(name, EnvironmentTable())
    _check_name(name, where)
    settings = {name: setting.value for name, setting in _layered(from_file, where, flags, variables).items()}
    endpoints = {name: url for name, url in variables.items() if url and name.startswith(_ENDPOINT_VARIABLE)}
    for place, url in {"endpoint_url": settings.get("endpoint_url"), **endpoints}.items():
        if url and not _is_url(url):
            raise ConfigurationError(f"{place}: {url!r} is not a URL.", hint="It begins with http:// or https://.")
    return Environment(
        name=name,
        embedded=from_file.embedded or name in EMBEDDED,
        profile=settings.get("profile"),
        region=settings.get("region"),
        endpoint_url=settings.get("endpoint_url"),
        table=settings.get("table", DEFAULT_TABLE),
        database=_database(settings, variables.get(PASSWORD_VARIABLE)),
        projections=declared_projections(file, where),
        state_dir=state_root(variables) / name,
        aws_endpoints=frozenset(endpoints),
    )


def _is_url(text: str) -> bool:
    try:
        host = urlsplit(text).hostname if urlsplit(text).port != 0 else None
    except ValueError:  # the port, or brackets that are not closed
        return False
    return bool(host) and re.fullmatch(r"https?://[^/\s]+(/\S*)?", text) is not None


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
    return next((path for path in candidates if os.path.lexists(path)), None)


def _read_file(path: Path) -> SettingsFile:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = "a symbolic link to a file that is not there" if path.is_symlink() and not path.exists() else None
        raise ConfigurationError(
            f"{path}: {what or error.strerror}.", hint="Check the file, or name another with --config."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8, from byte {error.start + 1} on.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{path}: {not_toml(str(error))}.",
            hint='A setting is `name = "value"`, with text in quotes, below its [table]; each is set once.',
        ) from error
    file: SettingsFile = checked(content, SettingsFile, str(path))
    return file


def _found(flags: Flags, variables: Mapping[str, str], directory: Path | None) -> tuple[SettingsFile, str]:
    """The settings file's content, and its path or, if there is none, its name."""
    path = _find_file(flags, variables, directory or Path.cwd())
    return (_read_file(path), str(path)) if path else (SettingsFile(), FILE_NAME)


def _chosen(file: SettingsFile, where: str, flags: Flags, variables: Mapping[str, str]) -> Setting:
    """The environment's name."""
    named = ((flags.env, "--env"), (variables.get("CQRSCTL_ENV"), "CQRSCTL_ENV"), (file.environment, where))
    return next((Setting("environment", *each) for each in named if each[0]), Setting("environment", "local", DEFAULT))


def _layered(from_file: EnvironmentTable, where: str, flags: Flags, variables: Mapping[str, str]) -> dict[str, Setting]:
    """The settings that something names, by dotted name: flags over variables over the file."""
    database = from_file.database
    layers = [
        *((name, getattr(from_file, name), where) for name in (*_AWS_SETTINGS, "table")),
        *((f"database.{name}", getattr(database, name), where) for name in database.__struct_fields__),
        *((name, _typed(name, variables.get(variable), variable), variable) for variable, name in _VARIABLES.items()),
        *((name, getattr(flags, name), f"--{name.replace('_', '-')}") for name in _AWS_SETTINGS),
    ]
    return {name: Setting(name, value, source) for name, value, source in layers if value is not None}


def _typed(name: str, text: str | None, variable: str) -> Any:
    """A variable's value as the setting's type; None if it is unset or empty."""
    shape = {"database.port": int, "database.connect_port": int, "database.iam_auth": bool}.get(name, str)
    return checked(text, shape, variable, strict=False) if text else None


def _of_boto3(environment: Environment, name: str, variables: Mapping[str, str]) -> Setting:
    """A setting of AWS that nothing of cqrsctl's names: boto3 looks for it, which the embedded stack does not need."""
    variable = next((each for each in _BOTO3_VARIABLES[name] if variables.get(each)), None)
    if environment.embedded and environment.profile is None and name != "endpoint_url":
        return Setting(name, EMBEDDED_REGION if name == "region" else None, DEFAULT)
    if variable:
        return Setting(name, variables[variable], variable)
    return Setting(name, None, "AWS profile" if name == "region" else DEFAULT)


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
