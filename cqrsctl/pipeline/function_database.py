"""How the projector function reaches the read model's database: login, network, and the secret that it may need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl.aurora import cluster
from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError, ConfigurationError
from cqrsctl.functions import roles, secret
from cqrsctl.functions import settings as function_settings
from cqrsctl.functions.deploy import Access
from cqrsctl.functions.parts import UNKNOWN_SUFFIX, Part
from cqrsctl.read_model.connection import is_loopback

if TYPE_CHECKING:
    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.config import Environment
    from cqrsctl.functions.deploy import Clients
    from cqrsctl.functions.parts import Place
    from cqrsctl.functions.policies import Statement
    from cqrsctl.wiring import Wiring


def needs_own_secret(wiring: Wiring) -> bool:
    """Whether the login is known here only: by the variable, or by the embedded stack."""
    settings = wiring.environment.database
    return settings.password is not None or (wiring.environment.embedded and settings.host is None)


def unverifiable_server(environment: Environment) -> str | None:
    """The host or cluster elsewhere whose certificate there is no CA bundle for; None if there is none."""
    settings = environment.database
    remote = settings.host or environment.own_cluster
    return None if remote is None or is_loopback(remote) or settings.ca_bundle else remote


def secret_part(wiring: Wiring, clients: Clients) -> Part | None:
    """What puts the login into a secret of our own; None if another secret, or a token, is used."""
    if not needs_own_secret(wiring):
        return None
    name = secret.secret_name(wiring.environment.name)
    login = wiring.database.login()
    return secret.part(name, login.user, login.password, secret.find(clients("secretsmanager"), name, content=True))


def access(wiring: Wiring, clients: Clients, place: Place) -> Access:
    """Raises ConfigurationError if the environment names no database or no login, AwsError if AWS refuses."""
    settings = wiring.environment.database
    found = None
    if settings.host is None and settings.cluster and not wiring.environment.embedded:
        found = cluster.describe(clients("rds"), settings.cluster)
    endpoint = wiring.database
    variables = {
        function_settings.DATABASE_HOST: endpoint.host,
        function_settings.DATABASE_PORT: str(endpoint.port),
        function_settings.DATABASE_NAME: endpoint.database,
    }
    login, statements = _login(wiring, clients, place, found)
    subnets = _subnets(clients("rds"), found) if found else ()
    return Access({**variables, **login}, statements, subnets, found.security_groups if found and subnets else ())


def _login(
    wiring: Wiring, clients: Clients, place: Place, found: Cluster | None
) -> tuple[dict[str, str], list[Statement]]:
    """Variables and statements; password, token, secret in the order in which `Wiring` takes them."""
    settings = wiring.environment.database
    if needs_own_secret(wiring):
        name = secret.secret_name(wiring.environment.name)
        there = secret.find(clients("secretsmanager"), name)
        arn = there.arn if there else place.arn("secretsmanager", f"secret:{name}-{UNKNOWN_SUFFIX}")
        statements = roles.secret_statements(place, arn, there.kms_key if there else None)
        return _secret_variables(wiring.database.login().user, arn), statements
    if settings.iam_auth:
        user = wiring.database.login().user
        resource = _resource_id(clients("rds"), found.name) if found else "*"
        variables = {function_settings.DATABASE_USER: user, function_settings.DATABASE_IAM_AUTH: "true"}
        return variables, roles.token_statements(place, resource, user)
    named = settings.secret or (found.secret_arn if found else None) or ""
    kept = secret.find(clients("secretsmanager"), named) if named else None
    if kept is None or kept.deleted:
        raise ConfigurationError(
            f"The database's secret {named or '(none is named)'} is not there.",
            hint="Set database.secret or database.iam_auth, or the variable CQRSCTL_DATABASE_PASSWORD.",
        )
    return _secret_variables(settings.user, kept.arn), roles.secret_statements(place, kept.arn, kept.kms_key)


def _secret_variables(user: str | None, arn: str) -> dict[str, str]:
    """Without a user, it is the secret's own."""
    return {**({function_settings.DATABASE_USER: user} if user else {}), function_settings.DATABASE_SECRET: arn}


def _resource_id(client: Any, name: str) -> str:
    """What a cluster is called in a policy for IAM tokens."""
    call = ApiCall("rds", "DescribeDBClusters", {"DBClusterIdentifier": name})
    found: str = call.make(client)["DBClusters"][0]["DbClusterResourceId"]
    return found


def _subnets(client: Any, found: Cluster) -> tuple[str, ...]:
    """The subnets of the cluster's group; none if it has no group, which is so on emulators only."""
    if not found.subnet_group:
        return ()
    call = ApiCall("rds", "DescribeDBSubnetGroups", {"DBSubnetGroupName": found.subnet_group})
    try:
        groups = call.make(client)["DBSubnetGroups"]
    except AwsError as error:
        if error_code(error) not in {"DBSubnetGroupNotFoundFault", "DBSubnetGroupNotFound"}:
            raise
        raise AwsError(
            f"The subnet group {found.subnet_group!r} of cluster {found.name!r} is not there.",
            hint="Give --subnet and --security-group.",
            code="subnet_group_missing",
        ) from error
    return tuple(subnet["SubnetIdentifier"] for subnet in groups[0]["Subnets"])
