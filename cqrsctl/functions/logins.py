"""How the projector function logs in: with the secret in Secrets Manager, or with an IAM token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl.aws import aws_errors, database_secret
from cqrsctl.read_model.connection import Login

if TYPE_CHECKING:
    from cqrsctl.functions.settings import Database


class SecretLogin:
    """The login that a secret holds, fetched once, and again after `forget`."""

    def __init__(self, client: Any, secret: str, user: str | None) -> None:
        """`user` wins over the secret's own."""
        self._client = client
        self._secret = secret
        self._user = user
        self._known: Login | None = None

    def __call__(self) -> Login:
        """Raises AwsError, and CqrsctlError if the secret is not one of a database."""
        if self._known is None:
            self._known = Login(*database_secret(self._client, self._secret, self._user))
        return self._known

    def forget(self) -> None:
        """The database refused it: it was changed, most likely."""
        self._known = None


class TokenLogin:
    """A token that the function's role signs: a password for 15 minutes, a new one for each connection."""

    def __init__(self, client: Any, database: Database) -> None:
        """`client` is of RDS."""
        self._client = client
        self._database = database

    def __call__(self) -> Login:
        """Raises ConfigurationError if there are no credentials to sign with."""
        database, user = self._database, self._database.user or ""
        with aws_errors("rds generate-db-auth-token"):
            token = self._client.generate_db_auth_token(DBHostname=database.host, Port=database.port, DBUsername=user)
        return Login(user, token)

    def forget(self) -> None:
        """Nothing is kept."""
