"""From settings to clients and connections, when a command runs; nothing is opened before."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from cqrsctl import __version__
from cqrsctl.clock import SystemClock
from cqrsctl.config import DEFAULT_USER, EMBEDDED_REGION
from cqrsctl.errors import ConfigurationError, CqrsctlError, Interrupted
from cqrsctl.read_model.connection import Endpoint, Login
from cqrsctl.read_model.endpoints import Servers, Topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.config import Environment
    from cqrsctl.local.stack import Running
    from cqrsctl.read_model.connection import Connection

_log = logging.getLogger(__name__)

_EMBEDDED_KEY = "local"
_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_ATTEMPTS = 4
_RETRIES = {
    "retry_mode": ("retry_mode", "AWS_RETRY_MODE", "standard", None),
    "max_attempts": ("max_attempts", "AWS_MAX_ATTEMPTS", _ATTEMPTS, int),
}
"""botocore's own settings with defaults of ours: in a profile, a variable, by default, and how they are read."""
_NO_PROFILE = {**_RETRIES, "profile": (None, None, None, None)}
"""The embedded stack needs none, so an AWS_PROFILE that does not exist does not matter."""


@dataclass
class Wiring:
    """Clients and connections of one environment, made at their first use."""

    environment: Environment
    stop: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    """Set once the command is to stop: no call of AWS is waited for any more."""
    _connections: WeakSet[Connection] = field(default_factory=WeakSet, init=False, repr=False, compare=False)
    _is_cut: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)
    _making: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)
    """A boto3 session makes clients for one thread at a time."""
    _answered: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """The questions about its resources that AWS answered."""

    @cached_property
    def dynamodb(self) -> Any:
        """DynamoDB; answers of Scan keep their raw body, for `wire.scan_page`."""
        from cqrsctl.wire import keep_raw_bodies  # noqa: PLC0415 -- as below

        return keep_raw_bodies(self.client("dynamodb"))

    @cached_property
    def streams(self) -> Any:
        """DynamoDB Streams; answers of GetRecords keep their raw body, for `wire.records_page`."""
        from cqrsctl.wire import keep_raw_bodies  # noqa: PLC0415 -- as below

        return keep_raw_bodies(self.client("dynamodbstreams"))

    def client(self, service: str, region_name: str | None = None, *, attempts: int | None = None) -> Any:
        """A boto3 client, of the environment's region unless another is named.

        It makes a call `attempts` times at most, by default as often as boto3's settings say (AWS_MAX_ATTEMPTS,
        AWS_RETRY_MODE or the profile's), else four times.

        Raises ConfigurationError if profile, region or a setting are wrong or missing.
        """
        from botocore.config import Config  # noqa: PLC0415 -- most of a command's start-up time

        from cqrsctl.aws import aws_errors, require_valid_bodies  # noqa: PLC0415
        from cqrsctl.denials import forgiving  # noqa: PLC0415
        from cqrsctl.stopping import stoppable  # noqa: PLC0415

        with aws_errors(service), self._making:
            try:
                client = self._session.client(
                    service,
                    region_name=region_name,
                    endpoint_url=self._endpoint_url(service),
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        retries=None if attempts is None else {"total_max_attempts": attempts},
                        max_pool_connections=32,
                        user_agent_extra=f"cqrsctl/{__version__}",
                    ),
                )
            except ValueError as error:
                attempts_set = os.environ.get("AWS_MAX_ATTEMPTS")
                named = f"AWS_MAX_ATTEMPTS={attempts_set}" if attempts_set else "see the profile"
                raise ConfigurationError(
                    f"{service}: a setting of AWS is not valid: {named}.",
                    hint="max_attempts is a whole number, and endpoint_url begins with http:// or https://.",
                ) from error
            return forgiving(stoppable(require_valid_bodies(client), self.stop), self._answered, SystemClock(self.stop))

    def place(self) -> str:
        """The account and region of the pipeline, `unknown` if AWS does not say them, and the endpoint that is set."""
        from cqrsctl.aws import ApiCall, aws_errors  # noqa: PLC0415 -- as above

        account = region = None
        try:
            with aws_errors("sts"):
                region = self._session.region_name
            account = ApiCall("sts", "GetCallerIdentity", {}).make(self.client("sts", attempts=1))["Account"]
        except CqrsctlError as error:
            _log.info("the account is unknown: %s", error.message)
        endpoint = f", endpoint {self.environment.endpoint_url}" if self.environment.endpoint_url else ""
        return f"account {account or 'unknown'}, region {region or 'unknown'}{endpoint}"

    @property
    def database(self) -> Endpoint:
        """The read model's writer as it is now. Raises ConfigurationError if it is not configured."""
        return self.servers.now().writer

    @cached_property
    def servers(self) -> Servers:
        """The read model's writer and readers."""
        return Servers(self._look_up_servers)

    @property
    def cluster_name(self) -> str:
        """The Aurora cluster's name. Raises ConfigurationError if the environment names none."""
        settings = self.environment.database
        if settings.cluster:
            return settings.cluster
        if self.environment.embedded and settings.host is None:
            return self.environment.name.replace("_", "-")
        raise ConfigurationError(
            f"Environment {self.environment.name!r} names no Aurora cluster.",
            hint=f"Set database.cluster in [environments.{self.environment.name}], or CQRSCTL_DATABASE_CLUSTER.",
        )

    def cut(self) -> None:
        """Cut off the connections to the database, and let no other be made: whoever still waits for it is to stop.

        What was not committed is rolled back by the server.
        """
        self._is_cut.set()
        for connection in list(self._connections):
            connection.cut()

    def _opened(self, connection: Connection) -> None:
        """Raises Interrupted once connections are cut off."""
        self._connections.add(connection)
        if self._is_cut.is_set():
            raise Interrupted(who="the database")

    def _look_up_servers(self) -> Topology:
        settings = self.environment.database
        if settings.host is not None:
            return Topology(self._endpoint(settings.host, settings.port, "", settings.secret))
        if self.environment.embedded:
            return self._embedded_servers()
        if settings.cluster is None:
            raise ConfigurationError(
                f"Environment {self.environment.name!r} names no database.",
                hint=f"Set database.cluster (Aurora) or database.host in [environments.{self.environment.name}], "
                "or CQRSCTL_DATABASE_CLUSTER or CQRSCTL_DATABASE_HOST.",
            )
        from cqrsctl.aurora import cluster  # noqa: PLC0415 -- as above

        found = cluster.describe(self.client("rds"), settings.cluster)
        secret = settings.secret or found.secret_arn
        writer = self._endpoint(found.writer_host, found.port, found.writer.name if found.writer else "", secret)
        if writer.through:
            return Topology(writer)  # a tunnel leads to one server
        return Topology(
            writer,
            tuple(
                self._endpoint(reader.host, found.port, reader.name, secret)
                for reader in found.readers
                if reader.host and reader.status == cluster.AVAILABLE
            ),
        )

    def _embedded_servers(self) -> Topology:
        stack, settings = self._running(), self.environment.database

        def endpoint(name: str, port: int) -> Endpoint:
            login = Login(settings.user or DEFAULT_USER, stack.database_password)
            return Endpoint("127.0.0.1", port, settings.name, lambda: login, name=name, opened=self._opened)

        return Topology(endpoint(*stack.writer), tuple(endpoint(name, port) for name, port in stack.readers.items()))

    def _endpoint(self, host: str, port: int, name: str, secret: str | None) -> Endpoint:
        settings = self.environment.database
        through = (settings.connect_host, settings.connect_port or port) if settings.connect_host else None
        login = self._login(host, port, secret)
        return Endpoint(host, port, settings.name, login, settings.ca_bundle, name, through, opened=self._opened)

    def _running(self) -> Running:
        from cqrsctl.local.stack import running  # noqa: PLC0415
        from cqrsctl.local.state import StackState  # noqa: PLC0415

        return running(StackState(self.environment.state_dir))

    @cached_property
    def _session(self) -> Any:
        import boto3  # noqa: PLC0415
        import botocore.session  # noqa: PLC0415
        from botocore.utils import JSONFileCache  # noqa: PLC0415

        from cqrsctl.aws import aws_errors  # noqa: PLC0415

        environment = self.environment
        with aws_errors("AWS profile"):
            if environment.embedded and environment.profile is None:
                return boto3.Session(
                    botocore_session=botocore.session.Session(session_vars=_NO_PROFILE),
                    aws_access_key_id=_EMBEDDED_KEY,
                    aws_secret_access_key=_EMBEDDED_KEY,
                    region_name=environment.region or EMBEDDED_REGION,
                )
            core = botocore.session.Session(profile=environment.profile, session_vars=_RETRIES)
            # As the AWS CLI does it: a role that wants a code from a device is not assumed by each command again.
            assumed = core.get_component("credential_provider").get_provider("assume-role")
            assumed.cache = JSONFileCache(Path(JSONFileCache.CACHE_DIR).parents[1] / "cli" / "cache")
            return boto3.Session(botocore_session=core, region_name=environment.region)

    def _endpoint_url(self, service: str) -> str | None:
        """The endpoint that was asked for; None leaves it to boto3, which knows AWS_ENDPOINT_URL and its kin."""
        if self.environment.endpoint_url:
            return self.environment.endpoint_url
        if not self.environment.embedded or self.environment.aws_endpoint(service):
            return None
        from cqrsctl.local import stack  # noqa: PLC0415 -- as below
        from cqrsctl.local.state import StackState  # noqa: PLC0415

        return stack.endpoint_url(StackState(self.environment.state_dir))

    def _login(self, host: str, port: int, secret: str | None) -> Callable[[], Login]:
        settings = self.environment.database
        user, password = settings.user or DEFAULT_USER, settings.password
        if password is not None:
            return lambda: Login(user, password)
        if settings.iam_auth:
            return lambda: Login(user, self._iam_token(host, port, user))
        if secret:
            return lambda: self._secret_login(secret)
        raise ConfigurationError(
            f"Environment {self.environment.name!r} says nowhere what the database's password is.",
            hint="Set database.secret or database.iam_auth, or the variable CQRSCTL_DATABASE_PASSWORD.",
        )

    def _iam_token(self, host: str, port: int, user: str) -> str:
        """A password for 15 minutes, signed for this host and user."""
        from cqrsctl.aws import aws_errors  # noqa: PLC0415

        with aws_errors("rds generate-db-auth-token"):
            token: str = self.client("rds").generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user)
            return token

    def _secret_login(self, name: str) -> Login:
        from cqrsctl.aws import database_secret  # noqa: PLC0415

        return Login(
            *database_secret(self.client("secretsmanager"), name, self.environment.database.user, DEFAULT_USER)
        )
