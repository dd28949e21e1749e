"""The functions' settings: variables of their environment, none of them secret, and the files beside the code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cqrsctl.errors import ConfigurationError
from cqrsctl.functions import declarations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.projection.definition import Projection

TABLE = "CQRSCTL_TABLE"
DATABASE_HOST = "CQRSCTL_DATABASE_HOST"
DATABASE_PORT = "CQRSCTL_DATABASE_PORT"
DATABASE_NAME = "CQRSCTL_DATABASE_NAME"
DATABASE_USER = "CQRSCTL_DATABASE_USER"
DATABASE_SECRET = "CQRSCTL_DATABASE_SECRET"  # noqa: S105 -- the variable's name; its value is an ARN
DATABASE_IAM_AUTH = "CQRSCTL_DATABASE_IAM_AUTH"
CA_BUNDLE_NAME = "ca-bundle.pem"

_FOLDER = Path(__file__).parent
_PORT = "3306"
_HINT = "Deploy it with `cqrsctl function deploy`, which sets its variables."


@dataclass(frozen=True, slots=True)
class Database:
    """The cluster's writer, and how one logs in: with a secret's name, or with IAM tokens."""

    host: str
    port: int
    name: str
    user: str | None
    secret: str | None
    iam_auth: bool


def table(variables: Mapping[str, str]) -> str:
    """The write model's table. Raises ConfigurationError if it is not set."""
    return _required(variables, TABLE)


def database(variables: Mapping[str, str]) -> Database:
    """Raises ConfigurationError, naming the variable that is missing or wrong."""
    port = variables.get(DATABASE_PORT) or _PORT
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ConfigurationError(f"The function's variable {DATABASE_PORT} is {port!r}, not a port.", hint=_HINT)
    iam_auth = (variables.get(DATABASE_IAM_AUTH) or "false").lower()
    if iam_auth not in {"true", "false"}:
        raise ConfigurationError(
            f"The function's variable {DATABASE_IAM_AUTH} is {iam_auth!r}, neither true nor false.", hint=_HINT
        )
    with_token = iam_auth == "true"
    return Database(
        host=_required(variables, DATABASE_HOST),
        port=int(port),
        name=_required(variables, DATABASE_NAME),
        user=_required(variables, DATABASE_USER) if with_token else variables.get(DATABASE_USER) or None,
        secret=None if with_token else _required(variables, DATABASE_SECRET),
        iam_auth=with_token,
    )


def projections(folder: Path = _FOLDER) -> tuple[Projection, ...]:
    """The projections that were baked into the zip. Raises ConfigurationError."""
    path = folder / declarations.FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Make the zip with `cqrsctl function package`, or `cqrsctl function deploy`.",
        ) from error
    return declarations.from_json(text)


def ca_bundle(folder: Path = _FOLDER) -> Path | None:
    """The authorities that the database's certificate may come from, if the zip has them."""
    path = folder / CA_BUNDLE_NAME
    return path if path.is_file() else None


def _required(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name)
    if not value:
        raise ConfigurationError(f"The function's environment lacks the variable {name}.", hint=_HINT)
    return value
