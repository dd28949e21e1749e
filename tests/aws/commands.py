"""Every command that asks AWS, run in this process against moto, with what each asked.

The database is the embedded stack's: whatever host a command connects to, that is reached.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import boto3
import pymysql
import pytest
import trustme
from moto import mock_aws

from cqrsctl.cli import app
from cqrsctl.cli.invocation import Invocation
from cqrsctl.clock import SystemClock
from cqrsctl.functions import policies
from cqrsctl.functions.parts import PROJECTOR, queue_name, role_name
from cqrsctl.write_model import table
from tests.aws.recording import recorded
from tests.functions_world import OTHER_ZIP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cqrsctl.aws import ApiCall
    from cqrsctl.config import Environment
    from cqrsctl.read_model.connection import Endpoint

REGION, ACCOUNT = "eu-west-1", "123456789012"
SETTINGS = f"""
[environments.prod]
region = "{REGION}"
[environments.prod.database]
cluster = "products"
ca_bundle = "ca.pem"
secret = "login"
[environments.managed]
region = "{REGION}"
[environments.managed.database]
cluster = "products"
ca_bundle = "ca.pem"
[environments.tokens]
region = "{REGION}"
[environments.tokens.database]
cluster = "products"
ca_bundle = "ca.pem"
iam_auth = true
user = "projector"
[environments.plain]
region = "{REGION}"
[environments.plain.database]
host = "db.example"
user = "projector"
ca_bundle = "ca.pem"
"""
_PASSWORD = "CQRSCTL_DATABASE_PASSWORD"
_TURN_SECONDS = 0.01


class Quick(SystemClock):
    """A clock that is ahead of the others by what was slept; others get their turn in a sleep all the same."""

    slept = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.slept)

    def monotonic(self) -> float:
        return super().monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, _TURN_SECONDS))
        self.slept += seconds


@contextmanager
def reached(endpoint: Endpoint) -> Iterator[None]:
    """Let every connection to a database end at this one."""
    real, login = pymysql.connect, endpoint.login()

    def connect(**options: Any) -> Any:
        options |= {"host": endpoint.host, "port": endpoint.port, "user": login.user, "password": login.password}
        return real(**{name: value for name, value in options.items() if not name.startswith("ssl")})

    with mock.patch.object(pymysql, "connect", connect):
        yield


def made_beside() -> dict[str, str]:
    """What an account has before the commands are run: keys, a login, places for failed batches."""
    key = boto3.client("kms", REGION).create_key()["KeyMetadata"]["Arn"]
    boto3.client("kms", REGION).create_alias(AliasName="alias/shop", TargetKeyId=key)
    login = json.dumps({"username": "projector", "password": "secret"})
    boto3.client("secretsmanager", REGION).create_secret(Name="login", SecretString=login, KmsKeyId=key)
    topic = boto3.client("sns", REGION).create_topic(Name="failed", Attributes={"KmsMasterKeyId": key})["TopicArn"]
    boto3.client("s3", REGION).create_bucket(Bucket="failed", CreateBucketConfiguration={"LocationConstraint": REGION})
    subnets = boto3.client("ec2", REGION).describe_subnets()["Subnets"][:2]
    names = [subnet["SubnetId"] for subnet in subnets]
    boto3.client("rds", REGION).create_db_subnet_group(
        DBSubnetGroupName="shop", DBSubnetGroupDescription="of the shop", SubnetIds=names
    )
    (group, *_) = boto3.client("ec2", REGION).describe_security_groups()["SecurityGroups"]
    return {
        "KEY": key,
        "ALIAS": "alias/shop",
        "TOPIC": topic,
        "BUCKET": "arn:aws:s3:::failed",
        "GROUP": group["GroupId"],
    }


COMMANDS = """
prod table create --no-stream --tag team=shop --kms-key KEY
prod table create --no-stream --tag team=shop --kms-key ALIAS
prod table enable-stream
prod table status
prod aurora create --tag team=shop --kms-key KEY --subnet-group shop --security-group GROUP --yes
prod aurora status
prod aurora endpoints
prod aurora add-reader --yes
prod aurora add-reader --yes
prod aurora autoscale set --metric cpu --target 60 --min 1 --max 3
prod aurora autoscale show
prod aurora failover --yes
prod product put 1 --name Lamp --price 1
prod product import products.csv
prod product update 1 --price 2
prod product get 1
prod product delete 1
prod stream status
prod stream tail --from horizon --no-follow
prod read-model init
prod read-model status
prod project --once
prod verify
prod verify --repair --yes
prod query list
new init --from-table Products --region eu-west-1 --config new.toml --dry-run
prod query get 2
prod query count
prod dead-letter list
prod rebuild --all --yes
prod rebuild
prod read-model purge --yes
prod lag
prod status
prod function deploy
drift
prod function deploy
prod function deploy --memory 512 --reserved-concurrency 2 --on-failure TOPIC
prod function deploy --on-failure BUCKET --permissions-boundary arn:aws:iam::aws:policy/ReadOnlyAccess
prod function status
prod function invoke command --payload {}
prod function logs
prod function pause
prod function resume
prod product put 3 --name Desk --price 9 --via-function
prod aurora cost
prod cost
prod lag
prod status
prod doctor
prod project --once
managed query count
managed function deploy --dry-run
tokens query count
tokens function deploy --dry-run
prod function delete --logs --yes
prod function delete --logs --yes
plain function deploy
plain function delete --yes
plain function deploy
plain doctor
plain function delete --logs --yes
prod read-model drop --yes
prod aurora autoscale off --yes
prod aurora remove-reader products-reader-2 --yes
prod aurora delete --final-snapshot last --yes
prod table disable-stream --yes
prod table delete --unprotect --yes
"""
_ANSWERS: dict[str, Any] = {
    "Invoke": lambda **_: {"StatusCode": 200, "Payload": io.BytesIO(b'{"ProductId": 3, "outcome": "created"}')},
    "DescribeScalingActivities": {"ScalingActivities": []},
    "GetProducts": {"PriceList": []},
    "DescribePendingMaintenanceActions": {"PendingMaintenanceActions": []},
    "DescribeDBMajorEngineVersions": {"DBMajorEngineVersions": []},
    "SimulatePrincipalPolicy": {"EvaluationResults": []},
}
"""Of what moto lacks, or would need containers for."""


def drifted() -> None:
    """Change by hand what `function deploy` made, and let the function have run before."""
    trust = policies.document([{**policies.trust()["Statement"][0], "Sid": "ByHand"}])
    boto3.client("iam").update_assume_role_policy(
        RoleName=role_name(PROJECTOR, REGION), PolicyDocument=json.dumps(trust)
    )
    sqs = boto3.client("sqs", REGION)
    url = sqs.get_queue_url(QueueName=queue_name(PROJECTOR))["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "60"})
    boto3.client("lambda", REGION).update_function_code(FunctionName=PROJECTOR, ZipFile=OTHER_ZIP)
    ran = {
        "MetricName": "Duration",
        "Dimensions": [{"Name": "FunctionName", "Value": PROJECTOR}],
        "Timestamp": datetime.now(UTC) - timedelta(days=2),
        "Value": 100.0,
    }
    boto3.client("cloudwatch", REGION).put_metric_data(Namespace="AWS/Lambda", MetricData=[ran])


@dataclass
class Run:
    """What each command asked of AWS, by its environment and its first word, and how each line ended.

    `key` is the KMS key of everything that has one.
    """

    key: str
    calls: dict[tuple[str, str], list[ApiCall]] = field(default_factory=lambda: defaultdict(list))
    ended: dict[str, int] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)

    def line(self, line: str, names: dict[str, str]) -> None:
        """Run a line of `COMMANDS`."""
        environment, *arguments = (names.get(word, word) for word in line.split())
        invocation = Invocation()
        invocation.clock = Quick(invocation.stop)
        with recorded(_ANSWERS) as calls:
            self.ended[line] = app.run(invocation, ["-e", environment, *arguments])
        self.calls[environment, arguments[0]] += calls
        self.environments[environment] = invocation.environment


def run_all(endpoint: Endpoint, folder: Path) -> Run:
    """Run all commands in a folder, with this database."""
    names = f'name = "{endpoint.database}"'
    (folder / "cqrsctl.toml").write_text(SETTINGS.replace('ca_bundle = "ca.pem"', f'ca_bundle = "ca.pem"\n{names}'))
    (folder / "products.csv").write_text("ProductId,Name,Price,OutOfStock\n2,Chair,20,false\n")
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.pem"))
    with pytest.MonkeyPatch.context() as patch, mock_aws(), reached(endpoint):
        patch.chdir(folder)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled")  # moto has no endpoint for each account
        patch.setattr(table, "server_time", lambda *_: None)  # nobody waits for real seconds to pass
        made = made_beside()
        run = Run(made["KEY"])
        for line in COMMANDS.strip().splitlines():
            if line == "drift":
                drifted()
                continue
            with pytest.MonkeyPatch.context() as variables:
                if line.startswith("plain "):
                    variables.setenv(_PASSWORD, "secret")
                run.line(line, made)
    return run
