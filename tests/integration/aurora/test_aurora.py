"""Operating a cluster through the API, against moto; what moto lacks is refused or delayed on purpose."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from moto import mock_aws

from cqrsctl.aurora import cluster as clusters
from cqrsctl.aurora.autoscaling import Metric, Wish, off_calls
from cqrsctl.aurora.cluster import ClusterSpec
from cqrsctl.aurora.maintenance import Support
from cqrsctl.aurora.readers import ReaderSpec, require_offered
from cqrsctl.cli.app import run
from cqrsctl.cli.invocation import Invocation
from cqrsctl.clock import SystemClock
from cqrsctl.config import Flags, load
from cqrsctl.diagnosis import cluster_status
from cqrsctl.diagnosis.cluster_status import endpoints, status
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.errors import AwsError, TransientAwsError, UsageError
from cqrsctl.pipeline import failover
from cqrsctl.pipeline.embedded import operated
from cqrsctl.wiring import Wiring
from tests.aws.api import Api
from tests.aws.states import States
from tests.paginated import Paginated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cqrsctl.aurora.operations import Aurora

Planned = TypeVar("Planned")

SPEC = ClusterSpec("products", "cqrs", deletion_protection=True)
SETTINGS = """
[environments.prod]
region = "eu-west-1"
[environments.prod.database]
cluster = "products"
"""


_ACTIVITY = {
    "StartTime": datetime(2026, 3, 1, tzinfo=UTC),
    "StatusCode": "Successful",
    "Description": "Setting desired capacity to 2.",
    "Cause": "monitor alarm",
}


_LIFECYCLES = {
    "DBMajorEngineVersions": [
        {
            "SupportedEngineLifecycles": [
                {
                    "LifecycleSupportName": "open-source-rds-standard-support",
                    "LifecycleSupportEndDate": datetime(2028, 4, 30, 23, 59, 59, tzinfo=UTC),
                }
            ]
        }
    ]
}


def _pending(_: Any, Filters: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 -- as boto3 calls it
    """One action, of the writer."""
    (wanted,) = Filters
    details = [{"Action": "os-upgrade", "Description": "New operating system"}]
    arns = [f"arn:aws:rds:eu-west-1:1:db:{name}" for name in wanted["Values"] if name == "products-1"]
    return {
        "PendingMaintenanceActions": [
            {"ResourceIdentifier": arn, "PendingMaintenanceActionDetails": details} for arn in arns
        ]
    }


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class ThrottledApi(Api):
    """A client whose calls may be throttled at random once something was changed."""

    throttles = False
    changing = False
    rng = random.Random(1)

    def _call(self, operation: str, **parameters: Any) -> Any:
        self.changing = self.changing or not operation.startswith("describe")
        if self.throttles and self.changing and self.rng.random() < 0.4:
            self.calls.append((operation, parameters))
            raise ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, operation)
        return super()._call(operation, **parameters)


@pytest.fixture
def prod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wiring:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "cqrsctl.toml").write_text(SETTINGS)
    return Wiring(load(Flags(env="prod"), {}, tmp_path))


@pytest.fixture
def aurora(prod: Wiring) -> Iterator[Aurora]:
    with mock_aws():
        notes: list[str] = []
        made = operated(prod, Clock(), notes.append, notes.append)
        states = States()
        made.rds, made.scaling = ThrottledApi(made.rds, states), ThrottledApi(made.scaling, states)
        # moto has no such operations.
        made.scaling.instead["describe_scaling_activities"] = lambda _, **asked: {"ScalingActivities": [_ACTIVITY]}
        made.rds.instead["describe_pending_maintenance_actions"] = _pending
        made.rds.instead["describe_db_major_engine_versions"] = lambda _, **asked: _LIFECYCLES
        yield made


@pytest.fixture
def api(aurora: Aurora) -> Api:
    found = aurora.rds
    assert isinstance(found, Api)
    return found


@pytest.fixture
def created(aurora: Aurora) -> Aurora:
    assert aurora.create(SPEC, wait=True)
    return aurora


def names(aurora: Aurora) -> list[tuple[str, str]]:
    return [(member.name, member.role) for member in aurora.cluster().members]


def test_a_created_cluster_has_a_writer_and_is_encrypted_and_protected(created: Aurora) -> None:
    found = created.cluster()

    assert [(member.name, member.role, member.instance_class) for member in found.members] == [
        ("products-1", "writer", "db.r6g.large")
    ]
    assert (found.encrypted, found.deletion_protection, found.backup_days) == (True, True, 7)
    assert found.secret_arn


def test_a_second_creation_finds_it_as_asked(created: Aurora) -> None:
    assert not created.create(SPEC, wait=True)


def test_a_cluster_that_differs_is_left_alone(created: Aurora, api: Api) -> None:
    api.forget()

    with pytest.raises(AwsError, match="IAM authentication: asked on, is off") as caught:
        created.create(replace(SPEC, iam_auth=True), wait=True)

    assert caught.value.code == "cluster_differs"
    assert not [call for call in api.names if not call.startswith("describe")]


def test_the_key_of_a_cluster_is_the_same_by_whatever_name(aurora: Aurora, prod: Wiring) -> None:
    client = prod.client("kms")
    key = client.create_key()["KeyMetadata"]
    client.create_alias(AliasName="alias/shop", TargetKeyId=key["KeyId"])
    asked = replace(SPEC, kms_key=key["Arn"])
    assert aurora.create(asked, wait=True)

    for name in ("alias/shop", key["KeyId"], key["KeyId"].upper()):
        assert not aurora.create(replace(asked, kms_key=name), wait=True)
    with pytest.raises(AwsError, match=f"KMS key: asked alias/aws/rds, is {key['Arn']}"):
        aurora.create(replace(asked, kms_key="alias/aws/rds"), wait=True)

    told: list[str] = []
    aurora.note = told.append
    assert not aurora.create(replace(asked, kms_key="alias/unknown"), wait=True)
    assert "what alias/unknown stands for is unknown" in told[0]


def test_a_creation_that_ended_half_way_names_what_was_made_and_goes_on_from_there(aurora: Aurora, api: Api) -> None:
    api.refuse("create_db_instance")

    with pytest.raises(AwsError, match=r"access denied.*Done before that: CreateDBCluster products") as caught:
        aurora.create(SPEC, wait=True)

    assert caught.value.hint
    assert "same command resumes" in caught.value.hint
    del api.instead["create_db_instance"]
    api.forget()
    assert aurora.create(SPEC, wait=True)
    assert "create_db_cluster" not in api.names
    assert names(aurora) == [("products-1", "writer")]


def test_waiting_goes_on_until_the_writer_is_available_and_tells_how_it_stands(aurora: Aurora, api: Api) -> None:
    states = iter(["creating", "configuring-enhanced-monitoring", "available", "available"])

    def delayed(real: Callable[..., Any], **parameters: Any) -> Any:
        answer = real(**parameters)
        for instance in answer["DBInstances"]:
            instance["DBInstanceStatus"] = next(states)
        return answer

    told: list[str] = []
    aurora.progress = told.append
    api.instead["describe_db_instances"] = delayed

    aurora.create(SPEC, wait=True)

    assert any("products-1 creating" in line for line in told)
    assert told[-1] == "products available, products-1 available"
    assert isinstance(aurora.clock, Clock)
    assert len(aurora.clock.slept) >= 2


@pytest.mark.parametrize("state", ["insufficient-capacity", "incompatible-option-group", "storage-full"])
def test_an_instance_that_fails_ends_the_wait(aurora: Aurora, api: Api, state: str) -> None:
    def failed(real: Callable[..., Any], **parameters: Any) -> Any:
        answer = real(**parameters)
        for instance in answer["DBInstances"]:
            instance["DBInstanceStatus"] = state
        return answer

    api.instead["describe_db_instances"] = failed

    with pytest.raises(AwsError, match=f"'products-1' is {state}"):
        aurora.create(SPEC, wait=True)


def test_a_wait_has_an_end(aurora: Aurora, api: Api) -> None:
    aurora.create(SPEC, wait=False)
    described, instances = api.describe_db_clusters(), api.describe_db_instances()
    described["DBClusters"][0]["Status"] = "creating"
    api.instead["describe_db_clusters"] = lambda _, **asked: described
    api.instead["describe_db_instances"] = lambda _, **asked: instances

    with pytest.raises(AwsError, match="not available within 45 minutes"):
        aurora.create(SPEC, wait=True)


def test_throttling_in_the_midst_of_a_command_is_waited_out(aurora: Aurora, prod: Wiring) -> None:
    def planned(plan: Callable[[], Planned]) -> Planned:
        """Looks at the start of a command are not refused here: the person is still there."""
        for api in (aurora.rds, aurora.scaling):
            api.throttles, api.changing = True, False
        return plan()

    planned(lambda: None)
    aurora.create(SPEC, wait=True)
    aurora.add_readers(planned(lambda: aurora.plan_readers(ReaderSpec("reports"))), wait=True)
    aurora.set_autoscaling(*planned(lambda: aurora.plan_autoscaling(Wish(Metric.CPU, 60, 1, 5))))
    failover.run(aurora, prod.servers, planned(lambda: failover.plan(aurora, "reports")))
    aurora.remove_reader(planned(lambda: aurora.reader("products-1"))[0])
    aurora.delete(None, wait=True)

    assert planned(aurora.find) is None


@pytest.mark.parametrize(
    ("operation", "refusal"),
    [
        ("create_db_cluster", "DBClusterAlreadyExistsFault"),
        ("create_db_instance", "DBInstanceAlreadyExists"),
        ("delete_db_instance", "DBInstanceNotFound"),
        ("delete_db_cluster", "DBClusterNotFoundFault"),
    ],
)
def test_a_call_that_was_carried_out_though_its_answer_was_lost_is_done(
    aurora: Aurora, api: Api, operation: str, refusal: str
) -> None:
    def lost(real: Callable[..., Any], **parameters: Any) -> Any:
        real(**parameters)
        api.refuse(operation, refusal)
        raise ReadTimeoutError(endpoint_url="https://rds")

    api.instead[operation] = lost

    aurora.create(replace(SPEC, deletion_protection=False), wait=True)
    aurora.delete(None, wait=True)

    assert api.names.count(operation) == 2


def test_a_failover_whose_answer_was_lost_is_not_asked_for_twice(created: Aurora, api: Api, prod: Wiring) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)

    def lost(real: Callable[..., Any], **parameters: Any) -> Any:
        real(**parameters)
        raise ReadTimeoutError(endpoint_url="https://rds")

    api.instead["failover_db_cluster"] = lost

    assert failover.run(created, prod.servers, failover.plan(created, None)).after == "reports"
    assert api.names.count("failover_db_cluster") == 1


def test_a_throttled_look_does_not_end_the_wait(aurora: Aurora, api: Api) -> None:
    left = [3]

    def throttled(real: Callable[..., Any], **parameters: Any) -> Any:
        if "create_db_instance" in api.names and left[0]:
            left[0] -= 1
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slower"}}, "DescribeDBClusters")
        return real(**parameters)

    api.instead["describe_db_clusters"] = throttled

    assert aurora.create(SPEC, wait=True)
    assert left == [0]


def test_without_a_cluster_every_command_says_so(aurora: Aurora) -> None:
    for act in (aurora.cluster, lambda: aurora.plan_readers(ReaderSpec()), lambda: aurora.delete_calls(None)):
        with pytest.raises(AwsError, match="No cluster 'products' in eu-west-1") as caught:
            act()
        assert caught.value.code == "cluster_missing"


def test_an_aurora_postgresql_cluster_is_refused(aurora: Aurora, api: Api) -> None:
    api._client.create_db_cluster(
        DBClusterIdentifier="products",
        Engine="aurora-postgresql",
        MasterUsername="admin",
        ManageMasterUserPassword=True,
    )

    with pytest.raises(AwsError, match="runs aurora-postgresql"):
        aurora.cluster()
    with pytest.raises(AwsError, match="runs aurora-postgresql"):
        aurora.create(SPEC, wait=False)


@pytest.mark.parametrize("state", ["creating", "modifying", "deleting", "failing-over"])
def test_a_cluster_that_is_busy_takes_no_changes(created: Aurora, api: Api, state: str) -> None:
    def busy(real: Callable[..., Any], **parameters: Any) -> Any:
        answer = real(**parameters)
        answer["DBClusters"][0]["Status"] = state
        return answer

    api.instead["describe_db_clusters"] = busy

    for act in (
        lambda: created.plan_readers(ReaderSpec()),
        lambda: created.plan_autoscaling(Wish(Metric.CPU, 60, 0, 5)),
        lambda: failover.plan(created, None),
    ):
        with pytest.raises(AwsError, match=f"is {state}; it takes no changes now"):
            act()


def test_readers_are_added_waited_for_and_removed(created: Aurora) -> None:
    created.add_readers(created.plan_readers(ReaderSpec(count=2)), wait=True)

    assert names(created) == [
        ("products-1", "writer"),
        ("products-reader-1", "reader"),
        ("products-reader-2", "reader"),
    ]
    reader, found = created.reader("products-reader-1")
    assert len(found.readers) == 2
    created.remove_reader(reader)
    assert names(created) == [("products-1", "writer"), ("products-reader-2", "reader")]


def test_a_name_of_another_clusters_instance_is_taken(created: Aurora, api: Api) -> None:
    api._client.create_db_instance(
        DBInstanceIdentifier="reports", DBInstanceClass="db.t3.micro", Engine="mysql", AllocatedStorage=20
    )

    with pytest.raises(AwsError, match="'reports' is taken by an instance outside of any cluster"):
        created.plan_readers(ReaderSpec("reports"))


def test_a_class_is_looked_for_where_aws_tells_what_it_offers() -> None:
    class Offers(Paginated):
        def describe_orderable_db_instance_options(self, **asked: Any) -> Any:
            if asked.get("DBInstanceClass") == "db.x1.large":
                return {"OrderableDBInstanceOptions": []}
            option = {"AvailabilityZones": [{"Name": "eu-west-1a"}, {"Name": "eu-west-1b"}]}
            return {"OrderableDBInstanceOptions": [option]}

    require_offered(Offers(), "db.r6g.large", "8.0", "eu-west-1b")
    with pytest.raises(AwsError, match=r"does not offer db\.r6g\.large in eu-west-1c") as caught:
        require_offered(Offers(), "db.r6g.large", "8.0", "eu-west-1c")
    assert caught.value.hint == "It is offered in eu-west-1a, eu-west-1b."
    with pytest.raises(AwsError, match=r"does not offer db\.x1\.large for Aurora MySQL 8\.0 in this region"):
        require_offered(Offers(), "db.x1.large", "8.0", None)


def test_autoscaling_is_set_changed_and_removed(created: Aurora) -> None:
    for wish in (Wish(Metric.CPU, 60, 1, 5), Wish(Metric.CONNECTIONS, 500), Wish(Metric.CPU, 70, 2, 6)):
        created.set_autoscaling(*created.plan_autoscaling(wish))

    found = created.autoscaling()
    assert (found.minimum, found.maximum) == (2, 6)
    assert [(policy.metric, policy.target) for policy in found.policies] == [("connections", 500.0), ("cpu", 70.0)]
    assert created.plan_autoscaling(Wish(Metric.CPU, 70, 2, 6)) == ([], [])
    assert names(created)[1:] == [("products-reader-1", "reader")]  # autoscaling would not have made the first
    created.make(off_calls(created.autoscaling()))
    assert created.autoscaling().maximum is None
    assert created.autoscaling().policies == ()


def test_a_minimum_that_stays_makes_the_first_reader_too(created: Aurora) -> None:
    created.make(created.plan_autoscaling(Wish(Metric.CPU, 60, 1, 5))[1])  # as another tool might, without a reader

    first, calls = created.plan_autoscaling(Wish(Metric.CPU, 70))

    assert [call.operation for call in (*first, *calls)] == ["CreateDBInstance", "PutScalingPolicy"]


def test_a_minimum_of_nought_makes_no_reader(created: Aurora) -> None:
    first, calls = created.plan_autoscaling(Wish(Metric.CPU, 60, 0, 5))

    assert first == []
    assert len(calls) == 2


def test_a_deletion_that_waits_for_another_change_says_so(created: Aurora, api: Api) -> None:
    shown: list[str] = []
    created.progress = shown.append

    created.delete(None, wait=True)

    assert api.states.refused["InvalidDBClusterStateFault"] >= 1
    assert any(line.endswith("; DeleteDBCluster waits") and "available" not in line for line in shown)


def test_a_deletion_ends_autoscaling_first_and_takes_the_readers_that_it_made(created: Aurora, api: Api) -> None:
    created.set_autoscaling(*created.plan_autoscaling(Wish(Metric.CPU, 60, 1, 5)))
    made = clusters.AUTOSCALED_PREFIX + "0f3c"
    created.add_readers(created.plan_readers(ReaderSpec(made)), wait=True)
    planned = [call.operation for call in created.delete_calls("products-last")]

    created.delete("products-last", wait=True)

    assert planned == [
        "DeleteScalingPolicy",
        "DeregisterScalableTarget",
        "ModifyDBCluster",
        "DeleteDBInstance",
        "DeleteDBInstance",
        "DeleteDBInstance",
        "DeleteDBCluster",
    ]
    assert clusters.find(created.rds, "products") is None
    snapshots = api._client.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier="products-last")
    assert len(snapshots["DBClusterSnapshots"]) == 1


def being_deleted(api: Api, name: str, looks: int = 3) -> None:
    """A member is deleting for some looks more, as on AWS for minutes, in which it cannot be deleted again."""
    left = [looks]

    def described(real: Callable[..., Any], **parameters: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            api._client.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
        answer = real(**parameters)
        for instance in answer["DBInstances"]:
            if instance["DBInstanceIdentifier"] == name:
                instance["DBInstanceStatus"] = "deleting"
        return answer

    def refused(real: Callable[..., Any], **parameters: Any) -> Any:
        if parameters["DBInstanceIdentifier"] == name:
            error = {"Code": "InvalidDBInstanceState", "Message": f"Instance {name} is already being deleted."}
            raise ClientError({"Error": error}, "DeleteDBInstance")
        return real(**parameters)

    api.instead |= {"describe_db_instances": described, "delete_db_instance": refused}


def test_a_reader_that_is_being_deleted_is_waited_for_by_whoever_removes_it_again(created: Aurora, api: Api) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)
    planned = created.reader("reports")[0]
    being_deleted(api, "reports")

    created.remove_reader(planned)  # planned a moment before another one deleted it

    assert names(created) == [("products-1", "writer")]
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=False)
    being_deleted(api, "reports")
    api.forget()

    created.remove_reader(created.reader("reports")[0])

    assert "delete_db_instance" not in api.names
    assert names(created) == [("products-1", "writer")]


def test_a_deletion_that_was_cut_short_goes_on_with_what_is_left(created: Aurora, api: Api) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)
    being_deleted(api, "reports", looks=2)

    assert [call.operation for call in created.delete_calls(None)] == [
        "ModifyDBCluster",
        "DeleteDBInstance",
        "DeleteDBCluster",
    ]
    created.delete(None, wait=True)

    assert clusters.find(created.rds, "products") is None


def test_a_deletion_that_is_under_way_is_joined(created: Aurora, api: Api) -> None:
    looks = [3]

    def described(real: Callable[..., Any], **parameters: Any) -> Any:
        looks[0] -= 1
        if looks[0] < 0:
            raise ClientError({"Error": {"Code": "DBClusterNotFoundFault", "Message": "gone"}}, "DescribeDBClusters")
        answer = real(**parameters)
        answer["DBClusters"][0]["Status"] = "deleting"
        return answer

    api.instead["describe_db_clusters"] = described
    api.forget()

    assert created.delete_calls("products-last") == []
    created.delete("products-last", wait=True)

    assert not [call for call in api.names if not call.startswith("describe")]


@pytest.mark.parametrize("state", ["incompatible-network", "inaccessible-encryption-credentials", "stopped"])
def test_a_failover_ends_at_once_in_a_state_that_does_not_pass(
    created: Aurora, api: Api, prod: Wiring, state: str
) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)
    planned = failover.plan(created, "reports")

    def described(real: Callable[..., Any], **parameters: Any) -> Any:
        answer = real(**parameters)
        if "failover_db_cluster" in api.names:
            answer["DBClusters"][0]["Status"] = state
        return answer

    api.instead["describe_db_clusters"] = described

    with pytest.raises(AwsError, match=f"'products' is {state}"):
        failover.run(created, prod.servers, planned)


def test_a_failover_makes_the_reader_the_writer_also_where_the_database_is_out_of_reach(
    created: Aurora, prod: Wiring
) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)

    outcome = failover.run(created, prod.servers, failover.plan(created, "reports"))

    assert (outcome.before, outcome.after, outcome.refused_seconds) == ("products-1", "reports", None)
    assert names(created) == [("reports", "writer"), ("products-1", "reader")]


def test_a_failover_needs_a_reader_that_is_ready(created: Aurora, api: Api) -> None:
    with pytest.raises(AwsError, match="no reader that could become the writer"):
        failover.plan(created, None)
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)
    with pytest.raises(AwsError, match="'products-1' is the writer already"):
        failover.plan(created, "products-1")
    with pytest.raises(AwsError, match="has no reader 'other'"):
        failover.plan(created, "other")
    api._client.stop_db_instance(DBInstanceIdentifier="reports")
    with pytest.raises(AwsError, match="'reports' is stopped; it cannot become the writer now"):
        failover.plan(created, "reports")


def test_the_status_has_the_members_and_what_is_not_known_is_said(created: Aurora, prod: Wiring) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)
    told: list[str] = []
    created.note = told.append

    found = status(created, looking(prod, created))

    assert [member.name for member in found.cluster.members] == ["products-1", "reports"]
    assert found.lags.get("reports") is None
    assert any("The lag is unknown" in line for line in told)
    assert [activity["description"] for activity in found.activities] == ["Setting desired capacity to 2."]
    created.scaling.refuse("describe_scaling_activities")
    assert status(created, looking(prod, created)).activities == []
    assert any("What autoscaling did lately is unknown" in line for line in told)


def looking(prod: Wiring, aurora: Aurora) -> Facts:
    """Facts that are asked of the cluster's own client."""
    facts = Facts(prod, Clock())
    facts.clients["rds"] = aurora.rds
    return facts


def test_the_status_has_pending_maintenance_and_the_end_of_support(created: Aurora, prod: Wiring, api: Api) -> None:
    found = status(created, looking(prod, created))

    assert [(each.resource, each.action) for each in found.maintenance] == [("products-1", "os-upgrade")]
    assert found.support == Support(date(2028, 4, 30), None)


def test_a_status_from_an_endpoint_that_knows_no_maintenance_says_so(created: Aurora, prod: Wiring, api: Api) -> None:
    told: list[str] = []
    created.note = told.append
    for operation in ("describe_pending_maintenance_actions", "describe_db_major_engine_versions"):
        api.refuse(operation, "InvalidAction", "could not find operation")

    found = status(created, looking(prod, created))

    assert (found.cluster.name, found.maintenance, found.support) == ("products", [], None)
    assert [line for line in told if "is unknown" in line] == [
        "Pending maintenance is unknown: rds DescribePendingMaintenanceActions: could not find operation",
        "The end of support is unknown: rds DescribeDBMajorEngineVersions: could not find operation",
    ]


@pytest.mark.usefixtures("created")
def test_a_throttled_status_is_asked_for_again(
    prod: Wiring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a creation of many minutes, which is not to end with an error for that."""
    left = [2]
    look = cluster_status.status

    def throttled(*arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise TransientAwsError("rds DescribeDBClusters: Throttling Rate exceeded")
        return look(*arguments)

    States().install(monkeypatch)
    monkeypatch.setattr(cluster_status, "status", throttled)
    monkeypatch.setattr(SystemClock, "sleep", lambda *_: None)

    assert run(Invocation(preset=prod.environment), ["aurora", "status", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["cluster"]["name"] == "products"


def test_endpoints_are_those_of_writer_readers_and_each_instance(created: Aurora, prod: Wiring) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)

    found = endpoints(created, prod.servers)

    assert [(entry["name"], entry["role"]) for entry in found] == [
        ("cluster", "writer"),
        ("cluster", "readers"),
        ("products-1", "writer"),
        ("reports", "reader"),
    ]
    assert "cluster-ro-" in found[1]["address"]


def test_the_read_models_servers_are_the_clusters_with_the_login_of_its_secret(
    created: Aurora, prod: Wiring, tmp_path: Path
) -> None:
    created.add_readers(created.plan_readers(ReaderSpec("reports")), wait=True)

    servers = prod.servers.now()

    assert servers.writer.host == created.cluster().writer_host
    assert servers.writer.name == "products-1"
    assert [reader.name for reader in servers.readers] == ["reports"]
    assert servers.writer.login().user == "admin"
    assert servers.writer.login().password


@pytest.mark.usefixtures("prod")
def test_a_name_that_rds_refuses_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "cqrsctl.toml").write_text(SETTINGS.replace('"products"', '"1products"'))

    with pytest.raises(UsageError, match="is not a cluster's name"):
        operated(Wiring(load(Flags(env="prod"), {}, tmp_path)), Clock(), print)
