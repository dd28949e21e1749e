"""The functions' roles, judged by IAM's rules: what the code and Lambda do is allowed, and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data
from pymysql.constants import ER

from cqrsctl.cloudformation.template import Settings, template
from cqrsctl.functions import handlers, policies, roles, settings
from cqrsctl.functions.parts import COMMAND, PROJECTOR, Place
from cqrsctl.projection.definition import default_product
from tests.aws.authorizations import LABEL, SUFFIX, World
from tests.aws.policy_judge import Decision, Request, decide, facts, faults, refused
from tests.aws.recording import recorded
from tests.simulation.memory_database import HOST, MemoryServer, installed
from tests.simulation.mysql.values import error
from tests.unit.functions.test_handlers import LAMP, Context, golden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.aws import ApiCall

PLACE = Place("aws", "eu-central-1", "123456789012")
TABLE = PLACE.arn("dynamodb", "table/Products")
STREAM = f"{TABLE}/stream/{LABEL}"
SECRET = PLACE.arn("secretsmanager", f"secret:rds!cluster-1-{SUFFIX}")
USER = PLACE.arn("rds-db", "dbuser:cluster-ABC/projector")
QUEUE = PLACE.queue(PROJECTOR)
TOPIC = PLACE.arn("sns", "failed")
BUCKET = "arn:aws:s3:::failed-batches"
TABLE_KEY, SECRET_KEY, FAILURE_KEY = (PLACE.arn("kms", f"key/{name}") for name in ("table", "secret", "failure"))
OTHER_KEY = PLACE.arn("kms", "key/other")
ALIAS = "alias/failures"
GROUPS = ("sg-1", "sg-2")
PUT = {**LAMP, "existence": "absent"}
WEB = {
    "version": "2.0",
    "requestContext": {"http": {"method": "PUT"}},
    "headers": {"if-match": "*"},
    "body": json.dumps(LAMP),
}


@dataclass
class Rotated:
    """A database whose first login is refused, as after its password was changed."""

    port: int = 3306
    passwords: list[str] = field(default_factory=list)
    _server: MemoryServer = field(default_factory=lambda: MemoryServer(lambda: datetime.now(UTC)))

    def connect(self, **options: Any) -> Any:
        self.passwords.append(options["password"].decode())
        if len(self.passwords) == 1:
            raise error(ER.ACCESS_DENIED_ERROR, "Access denied")
        return self._server.connect(**options)


def of_code(function: str, requests: Iterator[Request]) -> list[Request]:
    """Requests as Lambda marks those that a function's code makes."""
    mark = {"lambda:SourceFunctionArn": (PLACE.arn("lambda", f"function:{function}"),)}
    return [Request(each.action, each.resource, {**each.context, **mark}) for each in requests]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Handlers without clients of an earlier test, in an environment as Lambda gives it to them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-the-role")
    monkeypatch.setenv("AWS_DEFAULT_REGION", PLACE.region)
    monkeypatch.setenv("CQRSCTL_TABLE", "Products")
    caches = (handlers.command_function, handlers.projector_function)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def calls_of_command() -> list[ApiCall]:
    """What the command function's code asks of AWS, invoked directly and through an API."""
    with recorded({"PutItem": {}}) as calls:
        for event in (LAMP, PUT, WEB):
            handlers.command(event, Context(COMMAND))
    return calls


def calls_of_projector(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[list[ApiCall], list[str]]:
    """What the projector's code asks of AWS for two events, and the passwords that it logs in with."""
    database = Rotated()
    names = {"CQRSCTL_DATABASE_HOST": HOST, "CQRSCTL_DATABASE_NAME": "cqrs", **variables}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "projections", lambda: (default_product(),))
    secret = {"SecretString": json.dumps({"username": "projector", "password": "secret"})}
    with installed(database), recorded({"GetSecretValue": secret}) as calls:
        for _ in range(2):
            assert handlers.projector(golden(), Context(PROJECTOR)) == {"batchItemFailures": []}
    return calls, database.passwords


def by_lambda(policy: str, but: frozenset[str] = frozenset()) -> set[str]:
    """What Lambda does with a role, by the policy that AWS itself gives to such roles."""
    (statement,) = json.loads(aws_managed_policies_data)[policy]["Document"]["Statement"]
    return set(statement["Action"]) - but


LOG_STREAM = PLACE.arn("logs", f"log-group:/aws/lambda/{PROJECTOR}:log-stream:2026/03/01/[$LATEST]0a")
OF_LAMBDA = {
    "dynamodb:stream": [STREAM],
    "logs:log-stream": [LOG_STREAM],
    "ec2:network-interface": [PLACE.arn("ec2", "network-interface/eni-1")],
    "ec2:subnet": [PLACE.arn("ec2", "subnet/subnet-1")],
    "ec2:security-group": [PLACE.arn("ec2", f"security-group/{group}") for group in GROUPS],
}
GROUP_IS_MADE = frozenset({"logs:CreateLogGroup"})
"""`function deploy` and the template make the log group, so that it has a retention."""


def requests_of_lambda(*managed: str) -> list[Request]:
    """The requests that Lambda makes with the role: on each type of resource that an action is on."""
    actions = set().union(*(by_lambda(policy, GROUP_IS_MADE) for policy in managed))
    return [
        Request(action, arn)
        for action in sorted(actions)
        for arn in [arn for kind in facts(action).arns for arn in OF_LAMBDA[f"{action.split(':')[0]}:{kind}"]] or ["*"]
    ]


STREAM_AND_LOG, IN_VPC = "AWSLambdaDynamoDBExecutionRole", "AWSLambdaVPCAccessExecutionRole"


def reports(destination: str, key: str | None = None, aliases: tuple[str, ...] = ()) -> list[Request]:
    """What Lambda does to report a batch that failed for good, to a destination with this key.

    Source: "Retain discarded batch records for a DynamoDB event source in Lambda" and "Capturing discarded batches",
    AWS Lambda Developer Guide.
    """
    service = destination.split(":")[2]
    action = {"sqs": "sqs:SendMessage", "sns": "sns:Publish", "s3": "s3:PutObject"}[service]
    made = [Request(action, f"{destination}/failed/1" if service == "s3" else destination)]
    made += [Request("s3:ListBucket", destination)] if service == "s3" else []
    if key is None:
        return made
    context = {"kms:ViaService": (f"{service}.{PLACE.region}.amazonaws.com",), "kms:ResourceAliases": aliases}
    operations = ["GenerateDataKey"] if service == "s3" else ["GenerateDataKey", "Decrypt"]
    return [*made, *(Request(f"kms:{operation}", key, context) for operation in operations)]


def projector_policy(
    login: list[policies.Statement],
    destination: str = QUEUE,
    *,
    groups: tuple[str, ...] = (),
    table_key: str | None = None,
    destination_key: str | None = None,
) -> policies.Document:
    """The projector's policy as `function deploy` makes it."""
    keys = [*roles.table_key(PLACE, table_key), *roles.destination_key(PLACE, destination, destination_key)]
    return roles.projector_policy(PLACE, PROJECTOR, TABLE, login, destination, security_groups=groups, keys=keys)


BY_SECRET = roles.secret_statements(PLACE, SECRET, None)
BY_OWN_SECRET = roles.secret_statements(PLACE, SECRET, SECRET_KEY)
BY_TOKEN = roles.token_statements(PLACE, "cluster-ABC", "projector")


@pytest.mark.parametrize("key", [None, TABLE_KEY])
def test_the_command_function_may_do_what_its_code_does(key: str | None) -> None:
    policy = roles.command_policy(PLACE, COMMAND, TABLE, roles.table_key(PLACE, key))
    world = World(PLACE, keys={"dynamodb": key} if key else {})
    calls = calls_of_command()

    assert [call.operation for call in calls] == ["PutItem"] * 3
    assert refused(policy, of_code(COMMAND, (each for call in calls for each in world.own(call)))) == []
    log = [
        Request(name, LOG_STREAM.replace(PROJECTOR, COMMAND)) for name in ("logs:CreateLogStream", "logs:PutLogEvents")
    ]
    assert refused(policy, log) == []
    assert list(faults(policy)) == []


@pytest.mark.parametrize("key", [None, SECRET_KEY])
def test_the_projector_s_code_may_read_its_secret(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    world = World(PLACE, keys={"secretsmanager": key} if key else {})
    calls, _ = calls_of_projector(monkeypatch, CQRSCTL_DATABASE_SECRET=SECRET)

    assert [call.operation for call in calls] == ["GetSecretValue"] * 2, "once, and again when it was refused"
    policy = projector_policy(BY_OWN_SECRET if key else BY_SECRET, groups=GROUPS, table_key=TABLE_KEY)
    assert refused(policy, of_code(PROJECTOR, (each for call in calls for each in world.own(call)))) == []


def test_the_projector_s_code_may_log_in_with_the_tokens_that_it_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, passwords = calls_of_projector(
        monkeypatch, CQRSCTL_DATABASE_IAM_AUTH="true", CQRSCTL_DATABASE_USER="projector"
    )

    assert calls == []
    signed = [parse_qs(urlsplit(f"https://{password}").query) for password in passwords]
    assert len(signed) > 1, "each connection has a token of its own"
    assert {(each["Action"][0], each["DBUser"][0]) for each in signed} == {("connect", "projector")}
    requests = [
        Request("rds-db:connect", PLACE.arn("rds-db", f"dbuser:cluster-ABC/{each['DBUser'][0]}")) for each in signed
    ]
    assert refused(projector_policy(BY_TOKEN), of_code(PROJECTOR, iter(requests))) == []


@pytest.mark.parametrize("groups", [(), GROUPS], ids=["without a VPC", "in a VPC"])
def test_lambda_may_read_the_stream_write_the_log_and_make_interfaces(groups: tuple[str, ...]) -> None:
    policy = projector_policy(BY_SECRET, groups=groups, table_key=TABLE_KEY)
    requests = requests_of_lambda(STREAM_AND_LOG, *([IN_VPC] if groups else []))
    decrypt = World(PLACE, keys={"dynamodb": TABLE_KEY}).uses_key("dynamodb", "Decrypt")

    assert len(requests) > 5
    assert refused(policy, [*requests, *decrypt]) == []


def resolved(value: Any) -> Any:
    """A part of the template as CloudFormation resolves it, for a pipeline with the names above."""
    match value:
        case {"Fn::GetAtt": [str(resource), str(name)]}:
            return OF_STACK[f"{resource}.{name}"]
        case {"Ref": str(name)}:
            return OF_STACK[name]
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(.*?)\}", lambda found: OF_STACK[found[1]], text)
        case dict():
            return {key: resolved(each) for key, each in value.items()}
        case list():
            return [resolved(each) for each in value]
    return value


OF_STACK = {
    "AWS::Partition": PLACE.partition,
    "AWS::Region": PLACE.region,
    "AWS::AccountId": PLACE.account,
    "Table.Arn": TABLE,
    "Table.StreamArn": STREAM,
    "Cluster.MasterUserSecret.SecretArn": SECRET,
    "CommandLogs.Arn": f"{PLACE.log_group(COMMAND)}:*",
    "ProjectorLogs.Arn": f"{PLACE.log_group(PROJECTOR)}:*",
    "FailureQueue.Arn": QUEUE,
    "ProjectorGroup.GroupId": GROUPS[0],
    "ProjectorFunctionName": PROJECTOR,
}


def policy_of_stack(role: str) -> policies.Document:
    made = template(Settings(table="Products", database="cqrs", cluster="products"))["Resources"][role]["Properties"]
    document: policies.Document = resolved(made["Policies"][0]["PolicyDocument"])
    return document


def test_the_template_s_roles_may_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(PLACE)
    code = {
        "CommandRole": of_code(COMMAND, (each for call in calls_of_command() for each in world.own(call))),
        "ProjectorRole": of_code(
            PROJECTOR,
            (
                each
                for call in calls_of_projector(monkeypatch, CQRSCTL_DATABASE_SECRET=SECRET)[0]
                for each in world.own(call)
            ),
        ),
    }
    group = PLACE.arn("ec2", f"security-group/{GROUPS[1]}")
    service = [each for each in requests_of_lambda(STREAM_AND_LOG, IN_VPC) if each.resource != group]

    for role, requests in code.items():
        assert list(faults(policy_of_stack(role))) == []
        assert refused(policy_of_stack(role), requests) == []
    assert refused(policy_of_stack("ProjectorRole"), [*service, *reports(QUEUE)]) == []
    assert decide(policy_of_stack("CommandRole"), Request("dynamodb:PutItem", OTHER_TABLE)) is Decision.REFUSED
    assert decide(policy_of_stack("ProjectorRole"), Request("ec2:CreateNetworkInterface", group)) is Decision.REFUSED


DESTINATIONS = pytest.mark.parametrize("destination", [QUEUE, TOPIC, BUCKET], ids=["queue", "topic", "bucket"])


@DESTINATIONS
@pytest.mark.parametrize("key", [None, FAILURE_KEY, ALIAS], ids=["no key", "a key", "an alias"])
def test_lambda_may_report_what_failed_to_every_kind_of_destination(destination: str, key: str | None) -> None:
    policy = projector_policy(BY_SECRET, destination, destination_key=key)

    requests = reports(destination, FAILURE_KEY, ("alias/other", ALIAS)) if key == ALIAS else reports(destination, key)
    assert refused(policy, requests) == []


@DESTINATIONS
@pytest.mark.parametrize("login", [BY_SECRET, BY_OWN_SECRET, BY_TOKEN], ids=["secret", "own secret", "token"])
def test_every_statement_is_of_actions_resources_and_keys_that_aws_has(
    destination: str, login: list[policies.Statement]
) -> None:
    for key in (FAILURE_KEY, ALIAS):
        policy = projector_policy(login, destination, groups=GROUPS, table_key=TABLE_KEY, destination_key=key)
        assert list(faults(policy)) == []


def through(service: str, key: str, operation: str = "Decrypt", *aliases: str) -> Request:
    name = f"{service}.{PLACE.region}.amazonaws.com"
    return Request(f"kms:{operation}", key, {"kms:ViaService": (name,), "kms:ResourceAliases": aliases})


OTHER_TABLE = PLACE.arn("dynamodb", "table/Products2")
NOT_OF_COMMAND = [
    Request("dynamodb:PutItem", OTHER_TABLE),
    Request("dynamodb:PutItem", TABLE.replace(PLACE.region, "eu-west-1")),
    *(Request(f"dynamodb:{name}", TABLE) for name in ("GetItem", "DeleteItem", "Scan", "UpdateTable", "DeleteTable")),
    Request("dynamodb:GetRecords", STREAM),
    Request("secretsmanager:GetSecretValue", SECRET),
    Request("logs:PutLogEvents", LOG_STREAM),
    Request("kms:Decrypt", TABLE_KEY),
    through("dynamodb", OTHER_KEY),
    through("secretsmanager", TABLE_KEY),
    through("dynamodb", TABLE_KEY, "GenerateDataKey"),
]


@pytest.mark.parametrize("request_", NOT_OF_COMMAND, ids=lambda each: f"{each.action} {each.resource[-20:]}")
def test_the_command_function_may_do_nothing_else(request_: Request) -> None:
    policy = roles.command_policy(PLACE, COMMAND, TABLE, roles.table_key(PLACE, TABLE_KEY))

    assert decide(policy, request_) is Decision.REFUSED


NOT_OF_PROJECTOR = [
    Request("dynamodb:GetRecords", f"{OTHER_TABLE}/stream/{LABEL}"),
    Request("dynamodb:GetRecords", TABLE),
    *(Request(f"dynamodb:{name}", TABLE) for name in ("PutItem", "Scan", "GetItem", "DescribeTable")),
    Request("secretsmanager:GetSecretValue", SECRET.replace("cluster-1", "cluster-2")),
    Request("secretsmanager:PutSecretValue", SECRET),
    Request("sqs:SendMessage", QUEUE.replace("-failures", "-others")),
    Request("sqs:ReceiveMessage", QUEUE),
    Request("logs:PutLogEvents", LOG_STREAM.replace(PROJECTOR, COMMAND)),
    Request("logs:CreateLogGroup", PLACE.log_group(PROJECTOR)),
    Request("ec2:CreateNetworkInterface", PLACE.arn("ec2", "security-group/sg-3")),
    Request("ec2:RunInstances", PLACE.arn("ec2", "subnet/subnet-1")),
    Request("rds-db:connect", USER),
    Request("kms:Decrypt", SECRET_KEY),
    through("secretsmanager", OTHER_KEY),
    through("dynamodb", SECRET_KEY),
    through("sqs", FAILURE_KEY, "Encrypt"),
    through("sqs", OTHER_KEY, "GenerateDataKey"),
    through("sns", FAILURE_KEY, "GenerateDataKey"),
    Request("iam:PassRole", PLACE.role(PROJECTOR), {"iam:PassedToService": ("lambda.amazonaws.com",)}),
]


@pytest.mark.parametrize("request_", NOT_OF_PROJECTOR, ids=lambda each: f"{each.action} {each.resource[-20:]}")
def test_the_projector_may_do_nothing_else(request_: Request) -> None:
    policy = projector_policy(BY_OWN_SECRET, groups=GROUPS, table_key=TABLE_KEY, destination_key=FAILURE_KEY)

    assert decide(policy, request_) is Decision.REFUSED


@pytest.mark.parametrize("action", sorted(by_lambda(IN_VPC) - by_lambda(STREAM_AND_LOG)))
def test_the_projector_s_code_may_not_do_what_lambda_does_with_interfaces(action: str) -> None:
    policy = projector_policy(BY_SECRET, groups=GROUPS)
    ours = [each for each in requests_of_lambda(IN_VPC) if each.action == action]

    assert refused(policy, ours) == []
    assert {decide(policy, each) for each in of_code(PROJECTOR, iter(ours))} == {Decision.DENIED}


def test_a_token_is_for_one_user_of_one_cluster() -> None:
    policy = projector_policy(BY_TOKEN)

    for other in (USER.replace("ABC", "ABD"), USER.replace("/projector", "/admin")):
        assert decide(policy, Request("rds-db:connect", other)) is Decision.REFUSED


@pytest.mark.parametrize(
    "request_",
    [
        through("s3", FAILURE_KEY, "Decrypt"),
        through("s3", OTHER_KEY, "GenerateDataKey"),
        through("s3", OTHER_KEY, "GenerateDataKey", "alias/other"),
        Request("s3:GetObject", f"{BUCKET}/1"),
        Request("s3:PutObject", f"{BUCKET}-2/1"),
    ],
)
@pytest.mark.parametrize("key", [FAILURE_KEY, ALIAS])
def test_a_bucket_is_written_only_and_with_its_key_only(request_: Request, key: str) -> None:
    policy = projector_policy(BY_SECRET, BUCKET, destination_key=key)

    assert decide(policy, request_) is Decision.REFUSED
