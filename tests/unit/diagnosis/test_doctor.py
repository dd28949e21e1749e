"""Each thing that the doctor looks for, planted once and found, and a pipeline where nothing is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.parsers import ResponseParserError

from cqrsctl.aurora.autoscaling import Autoscaling
from cqrsctl.aurora.cluster import CapacityRange, Cluster, Instance
from cqrsctl.aurora.maintenance import PendingAction, Support
from cqrsctl.clock import SystemClock
from cqrsctl.config import Flags, load
from cqrsctl.diagnosis.backlog import Backlog
from cqrsctl.diagnosis.doctor.checks import CHECKS, NOT_LOOKED, PART_FAILING, examine
from cqrsctl.diagnosis.doctor.findings import Severity
from cqrsctl.diagnosis.doctor.needs import ACTIONS
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.diagnosis.servers import DatabaseServer
from cqrsctl.errors import AwsError, StreamGap, TransientDatabaseError
from cqrsctl.functions.function import Function
from cqrsctl.functions.mapping import Mapping
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.functions.queue import Queue
from cqrsctl.read_model import heartbeat
from cqrsctl.read_model.connection import ReadModelMissing
from cqrsctl.read_model.function_position import Gap, Reason
from cqrsctl.read_model.grants import parse
from cqrsctl.read_model.heartbeat import LastProjected
from cqrsctl.read_model.inventory import Building, Counted, Inventory, StoredProjection
from cqrsctl.stream.lineage import Shard
from cqrsctl.stream.shards import Stream
from cqrsctl.wiring import Wiring
from cqrsctl.write_model.table import Table
from tests.paginated import Paginated

if TYPE_CHECKING:
    from cqrsctl.diagnosis.doctor.findings import Diagnosis

DOCUMENTATION = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SETTINGS = """
[environments.prod]
region = "eu-west-1"
[environments.prod.database]
cluster = "products"
ca_bundle = "global-bundle.pem"
"""
WITHOUT_BUNDLE = SETTINGS.replace("ca_bundle", "# ca_bundle")
TABLE_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/Products"
STREAM_ARN = f"{TABLE_ARN}/stream/2026-11-20T10:00:00.000"
OLDER_ARN = f"{TABLE_ARN}/stream/2026-10-01T10:00:00.000"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:ProductHandlerFunction-failures"

TABLE = Table(
    "Products", TABLE_ARN, "ACTIVE", (("ProductId", "N"),), 9, 900, True, 0, 0, True, None, STREAM_ARN,
    "NEW_AND_OLD_IMAGES",
)  # fmt: skip
SHARDS = {name: Shard(name, None, n, None) for n in range(60) for name in [f"shardId-{n:020}-00000000"]}
SHARD = next(iter(SHARDS))
STREAM = Stream(STREAM_ARN, "ENABLED", "NEW_AND_OLD_IMAGES", None, ("ProductId",), SHARDS)
MAPPED = {
    "UUID": "14e0db71-5d35-4eb5-b481-8945cf9d10c2",
    "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:ProductHandlerFunction",
    "EventSourceArn": STREAM_ARN,
    "StartingPosition": "TRIM_HORIZON",
    "State": "Enabled",
    "ParallelizationFactor": 1,
    "BisectBatchOnFunctionError": True,
    "MaximumRecordAgeInSeconds": 86_400,
    "MaximumRetryAttempts": 1_000,
    "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
}
CLUSTER = Cluster(
    "products", "available", "aurora-mysql", "8.0.mysql_aurora.3.08.0", "w.example", "r.example", 3306,
    CapacityRange(0.5, 16), "aurora", True, "", True, False, 7, "", (), None,
    tuple(
        Instance(name, name == "w", "available", "db.serverless", zone, 1)
        for name, zone in (("w", "a"), ("r1", "b"), ("r2", "c"))
    ),
)  # fmt: skip
OWN_RIGHTS = "GRANT ALL PRIVILEGES ON `cqrs`.* TO `cqrsctl`@`%`"
SERVER = DatabaseServer(
    "cqrsctl@%", parse(["GRANT USAGE ON *.* TO `cqrsctl`@`%`", OWN_RIGHTS]), True, False, 1_000, 2**24
)
PRODUCT = StoredProjection("product", "Product", "product_v1", 100, 20_000)
CHECKPOINT = {"projection": "product", "stream": STREAM_ARN, "shard": SHARD, "state": "open"}
LAST = LastProjected("me@host, process 7", NOW)
INVENTORY = Inventory((PRODUCT,), (CHECKPOINT,), holder=LAST.holder, last=LAST)
FUNCTION = Function.of(
    {
        "Configuration": {
            "FunctionName": PROJECTOR,
            "FunctionArn": MAPPED["FunctionArn"],
            "State": "Active",
            "Role": "r",
            "CodeSha256": "",
        }
    }
)
CLEAN: dict[str, Any] = {
    "table": TABLE,
    "recovery": True,
    "attributes": frozenset({"ProductId", "Name", "Price"}),
    "stream": STREAM,
    "function": FUNCTION,
    "mappings": [Mapping.of(MAPPED)],
    "readers_of_stream": [Mapping.of(MAPPED)],
    "destinations": {QUEUE: Queue("failures", "https://sqs", {"ApproximateNumberOfMessages": "0"}, {})},
    "iterator_age_seconds": 2.0,
    "cluster": CLUSTER,
    "autoscaling": Autoscaling("products", 1, 5),
    "server": SERVER,
    "activities": [],
    "maintenance": [],
    "support": Support(date(2028, 4, 30), date(2031, 7, 31)),
    "readers": [],
    "inventory": INVENTORY,
    "counted": {"product": Counted(100, 20, 0)},
    "backlog": Backlog(NOW, SHARDS, {SHARD: None}),
}


def mapped(**differently: Any) -> list[Mapping]:
    return [Mapping.of({**MAPPED, **differently})]


def rights(*lines: str) -> DatabaseServer:
    return replace(SERVER, grants=parse(lines))


def held(**differently: Any) -> Inventory:
    return replace(INVENTORY, **differently)


def stored(**differently: Any) -> Inventory:
    return held(projections=(replace(PRODUCT, **differently),))


def unread(hours: float) -> Backlog:
    return Backlog(NOW, SHARDS, {SHARD: NOW - timedelta(hours=hours)})


def members(*members: tuple[str, bool, str]) -> Cluster:
    instances = tuple(Instance(name, writer, "available", "db.r6g.large", zone, 1) for name, writer, zone in members)
    return replace(CLUSTER, members=instances)


UPGRADE = PendingAction(
    "arn:aws:rds:eu-west-1:123456789012:cluster:products", "db-upgrade", "", datetime(2026, 12, 1, 3, tzinfo=UTC)
)
ALONE = members(("w", True, "a"))
AUTOSCALED = members(("w", True, "a"), ("application-autoscaling-1", False, "b"))
BY_FUNCTION = LastProjected(f"{heartbeat.FUNCTION} x", NOW)
BUILDING = Building("product_v2", "loading", 7, held=True)
CRITICAL, WARNING, NOTE = Severity
PLANTED: list[tuple[str, Severity, dict[str, Any], str]] = [
    ("table_missing", CRITICAL, {"table": None}, "no table 'Products'"),
    ("table_key", CRITICAL, {"table": replace(TABLE, key=(("Sku", "S"),))}, "the key Sku"),
    ("table_recovery", NOTE, {"recovery": False}, "Point-in-time"),
    ("table_protection", NOTE, {"table": replace(TABLE, deletion_protection=False)}, "deletion protection"),
    ("table_attributes", NOTE, {"attributes": frozenset({"ProductId", "Weight", "Colour"})}, "items: Colour, Weight."),
    ("stream_off", CRITICAL, {"table": replace(TABLE, stream_arn=None, view_type=None)}, "is off"),
    ("stream_view_type", CRITICAL, {"table": replace(TABLE, view_type="KEYS_ONLY")}, "no new images"),
    ("stream_view_type", CRITICAL, {"table": replace(TABLE, view_type="OLD_IMAGE")}, "no new images"),
    ("stream_view_type", WARNING, {"table": replace(TABLE, view_type="NEW_IMAGE")}, "no old images"),
    ("stream_readers", WARNING, {"readers_of_stream": mapped() * 2}, "3 read the stream: ProductHandlerFunction; "),
    ("stream_gap", CRITICAL, {"inventory": held(checkpoints=({**CHECKPOINT, "state": "gap"},))}, SHARD),
    ("stream_gap", CRITICAL,
     {"inventory": held(function_gaps=(Gap("product", STREAM_ARN, Reason.PAUSED, NOW, False),))},
     "the projector function was paused until changes left the stream"),
    ("stream_changed", CRITICAL,
     {"inventory": held(checkpoints=({**CHECKPOINT, "stream": OLDER_ARN},))}, "another stream (2026-10-01"),
    ("stream_gap", CRITICAL, {"backlog": StreamGap("Changes left the stream.")}, "Changes left the stream."),
    ("stream_trimming", WARNING, {"backlog": unread(13)}, f"{SHARD} have not been read for 13 h"),
    ("stream_trimming", CRITICAL, {"backlog": unread(21)}, "for 21 h"),
    ("stream_iterator_age", WARNING, {"iterator_age_seconds": 13 * 3600.0}, "13 h old"),
    ("stream_iterator_age", CRITICAL, {"iterator_age_seconds": 21 * 3600.0}, "21 h old"),
    ("mapping_missing", WARNING, {"mappings": []}, "No stream is mapped"),
    ("mapping_stream", CRITICAL, {"mappings": mapped(EventSourceArn=OLDER_ARN)}, "2026-10-01"),
    ("mapping_latest", WARNING, {"mappings": mapped(StartingPosition="LATEST")}, "LATEST"),
    ("mapping_destination", WARNING, {"mappings": mapped(DestinationConfig={})}, "no destination"),
    ("mapping_failures", WARNING, {"destinations": {QUEUE: None}}, "is not there"),
    ("mapping_failures", WARNING,
     {"destinations": {QUEUE: Queue("failures", "u", {"ApproximateNumberOfMessages": "3"}, {})}}, "3 failed batches"),
    ("mapping_retries", WARNING,
     {"mappings": mapped(MaximumRecordAgeInSeconds=-1, MaximumRetryAttempts=-1)}, "without end"),
    ("mapping_record_age", WARNING, {"mappings": mapped(MaximumRecordAgeInSeconds=21_600)}, "older than 6 h"),
    ("mapping_bisect", WARNING, {"mappings": mapped(BisectBatchOnFunctionError=False)}, "does not halve"),
    ("mapping_parallelization", WARNING, {"mappings": mapped(ParallelizationFactor=10)}, "600 connections"),
    ("mapping_paused", NOTE, {"mappings": mapped(State="Disabled")}, "paused"),
    ("mapping_paused", NOTE, {"mappings": mapped(State="Disabled", LastModified=NOW - timedelta(days=2))}, "paused"),
    ("mapping_paused", CRITICAL,
     {"mappings": mapped(State="Disabled", LastModified=NOW - timedelta(days=2)),
      "inventory": held(last=BY_FUNCTION)}, "for a day or more"),
    ("cluster_missing", CRITICAL, {"cluster": None}, "no cluster 'products'"),
    ("cluster_readers", WARNING, {"cluster": ALONE}, "no readers"),
    ("cluster_zones", WARNING,
     {"cluster": members(("w", True, "a"), ("r1", False, "b"), ("r2", False, "b"))}, "one zone, b"),
    ("cluster_autoscaling", WARNING,
     {"cluster": AUTOSCALED, "autoscaling": Autoscaling("products", 0, 5)}, "no reader but its own"),
    ("cluster_autoscaling", NOTE, {"autoscaling": Autoscaling("products", 0, 5)}, "minimum 0"),
    ("cluster_backups", NOTE, {"cluster": replace(CLUSTER, backup_days=1)}, "1 day"),
    ("cluster_protection", WARNING, {"cluster": replace(CLUSTER, deletion_protection=False)}, "deletion protection"),
    ("cluster_pause", NOTE, {"cluster": replace(CLUSTER, capacity=CapacityRange(0, 8))}, "pauses"),
    ("cluster_maintenance", WARNING, {"maintenance": [UPGRADE]}, "db-upgrade of products on 2026-12-01"),
    ("cluster_maintenance", NOTE, {"maintenance": [replace(UPGRADE, applied_at=None)]}, "db-upgrade of products."),
    ("cluster_support", WARNING, {"support": Support(date(2026, 11, 22), None)}, "ended on 2026-11-22"),
    ("cluster_support", NOTE, {"support": Support(date(2027, 5, 1), None)}, "ends on 2027-05-01"),
    ("database_secure_transport", NOTE, {"server": replace(SERVER, demands_tls=False)}, "without TLS"),
    ("database_binlog", CRITICAL, {"server": replace(SERVER, logs_statements=True)}, "STATEMENT"),
    ("database_packet", WARNING, {"server": replace(SERVER, most_packet_bytes=2**20)}, "at most 1.0 MB"),
    ("database_rights", WARNING, {"server": rights(OWN_RIGHTS, "GRANT FILE, PROCESS ON *.* TO `u`@`%`")},
     "FILE, PROCESS on *.*"),
    ("database_rights", WARNING, {"server": rights(OWN_RIGHTS, "GRANT SELECT ON `mysql`.* TO `u`@`%`")}, "`mysql`.*"),
    ("database_rights", WARNING, {"server": rights("GRANT ALL PRIVILEGES ON `cqrs%`.* TO `u`@`%`")}, "`cqrs%`.*"),
    ("database_rights", WARNING, {"server": rights(OWN_RIGHTS + " WITH GRANT OPTION")}, "give its rights on"),
    ("database_rights", WARNING, {"server": rights(OWN_RIGHTS, "GRANT `rds_superuser_role`@`%` TO `u`@`%`")},
     "administers the server"),
    ("database_rights", NOTE, {"server": rights(OWN_RIGHTS, "GRANT `reporting` TO `u`@`%`")}, "role reporting"),
    ("database_rights_missing", WARNING, {"server": rights("GRANT SELECT ON `cqrs`.* TO `u`@`%`")}, "lacks INSERT"),
    ("read_model_missing", NOTE, {"inventory": ReadModelMissing("no such table")}, "no read model yet of product"),
    ("read_model_schema", CRITICAL, {"inventory": stored(differences=("column Name is new",))}, "Name is new"),
    ("read_model_rebuild", NOTE, {"inventory": stored(building=BUILDING)}, "is being rebuilt"),
    ("read_model_rebuild", NOTE, {"inventory": stored(building=replace(BUILDING, held=False))}, "was left"),
    ("dead_letters", WARNING, {"inventory": stored(dead_letters=2)}, "2 dead letters"),
    ("tombstones", NOTE, {"counted": {"product": Counted(100, 20, 5)}}, "5 tombstones"),
    ("tombstones", WARNING, {"counted": {"product": Counted(100, 120, 101)}}, "101 tombstones"),
]  # fmt: skip


@dataclass
class FakeAws(Paginated):
    """Answers every operation, but for those that it does not allow or know, in every service."""

    denied: tuple[str, ...] = ()
    simulated_denied: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    garbled: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    identity: str = "arn:aws:iam::123456789012:user/ops"
    meta: Any = field(default_factory=MagicMock)

    def __getattr__(self, operation: str) -> Any:
        def call(**parameters: Any) -> Any:
            if operation in self.denied:
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)
            if operation in self.unknown:
                metadata = {"HTTPStatusCode": 501}
                raise ClientError({"Error": {"Code": "X"}, "ResponseMetadata": metadata}, operation)
            if operation in self.garbled:
                raise ResponseParserError("<!doctype html>")
            if operation in self.broken:
                raise EndpointConnectionError(endpoint_url="https://example")
            return self.answer(operation, parameters)

        return call

    def answer(self, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "simulate_principal_policy":
            decisions = [
                {"EvalActionName": name, "EvalDecision": "implicitDeny" if name in self.simulated_denied else "allowed"}
                for name in parameters["ActionNames"]
            ]
            return {"EvaluationResults": decisions, "IsTruncated": False}
        role = {"Arn": "arn:aws:iam::123456789012:role/team/ops"}
        return {"Arn": self.identity, "Role": role, "ShardIterator": "i"}


class FakeWiring(Wiring):
    """An environment whose clients are a fake."""

    aws = FakeAws()

    def client(self, service: str, region_name: str | None = None, *, attempts: int | None = None) -> Any:
        return self.aws


class FixedClock(SystemClock):
    """It is always the same moment."""

    def now(self) -> datetime:
        return NOW


def look(tmp_path: Path, settings: str = SETTINGS, aws: FakeAws | None = None, **planted: Any) -> Facts:
    (tmp_path / "cqrsctl.toml").write_text(settings)
    wiring = FakeWiring(load(Flags(env="prod"), {}, tmp_path))
    wiring.aws = aws or FakeAws()
    return Facts(wiring, FixedClock(), known={**CLEAN, **planted})


def diagnose(facts: Facts) -> Diagnosis:
    return examine(facts, lambda _: None)


def test_a_clean_pipeline_gives_none(tmp_path: Path) -> None:
    assert diagnose(look(tmp_path)) == replace(diagnose(look(tmp_path)), found=(), checks=len(CHECKS))


@pytest.mark.parametrize(("code", "severity", "planted", "words"), PLANTED)
def test_what_is_planted_is_found(
    tmp_path: Path, code: str, severity: Severity, planted: dict[str, Any], words: str
) -> None:
    found = [each for each in diagnose(look(tmp_path, **planted)).found if each.code == code]

    assert [(each.finding.severity, words in each.finding.what) for each in found] == [(severity, True)]
    assert found[0].finding.why.endswith(".")
    assert found[0].finding.fix


def test_every_check_is_planted_here_and_documented_with_its_severities() -> None:
    codes = [check.code for check in CHECKS]
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", DOCUMENTATION, re.MULTILINE))
    planted = {code: {severity for other, severity, *_ in PLANTED if other == code} for code, *_ in PLANTED}

    assert len(set(codes)) == len(codes)
    assert planted.keys() == {*codes} - {"database_tls", "permissions_tried", "permissions_simulated"}
    assert list(documented) == codes
    assert {code: set(documented[code].split(", ")) for code in planted} == planted
    assert f"`{NOT_LOOKED}`" in DOCUMENTATION
    assert f"`{PART_FAILING}`" in DOCUMENTATION


def test_a_database_that_cannot_be_verified_is_critical(tmp_path: Path) -> None:
    (found,) = diagnose(look(tmp_path, WITHOUT_BUNDLE)).found

    assert (found.code, found.finding.severity) == ("database_tls", Severity.CRITICAL)


@pytest.mark.parametrize(
    "settings", [WITHOUT_BUNDLE.replace('cluster = "products"', 'host = "127.0.0.1"'), SETTINGS + "\n"]
)
def test_a_loopback_database_needs_no_bundle_and_a_remote_one_has_it(tmp_path: Path, settings: str) -> None:
    assert diagnose(look(tmp_path, settings)).found == ()


def test_leftovers_of_an_earlier_stream_are_no_matter_once_this_one_is_followed(tmp_path: Path) -> None:
    older = {**CHECKPOINT, "stream": OLDER_ARN, "state": "gap"}

    assert diagnose(look(tmp_path, inventory=held(checkpoints=(CHECKPOINT, older)))).found == ()


def test_one_bound_on_retries_is_enough(tmp_path: Path) -> None:
    for name in ("MaximumRecordAgeInSeconds", "MaximumRetryAttempts"):
        assert diagnose(look(tmp_path, mappings=mapped(**{name: -1}))).found == ()


def test_the_worst_comes_first_and_notes_alone_are_well(tmp_path: Path) -> None:
    noted = diagnose(look(tmp_path, recovery=False))
    worse = diagnose(look(tmp_path, recovery=False, mappings=mapped(StartingPosition="LATEST"), cluster=None))

    assert noted.well
    assert not worse.well
    assert [each.finding.severity for each in worse.found] == [Severity.CRITICAL, Severity.WARNING, Severity.NOTE]


def test_a_part_that_is_failing_is_a_finding_where_no_check_says_why(tmp_path: Path) -> None:
    stopped = held(holder=None)

    (found,) = diagnose(look(tmp_path, inventory=stopped, backlog=unread(1), mappings=None, function=None)).found

    assert (found.code, found.part, found.finding.severity) == (PART_FAILING, "projector", CRITICAL)
    assert "changes wait for 1 h, and nobody projects" in found.finding.what
    explained = diagnose(look(tmp_path, inventory=stored(differences=("column Name is new",)))).found
    assert [each.code for each in explained] == ["read_model_schema"]


def test_what_cannot_be_looked_at_is_told_once_and_takes_nothing_along(tmp_path: Path) -> None:
    down = TransientDatabaseError("db.example does not answer", hint="Check that it runs.")

    found = diagnose(look(tmp_path, inventory=down, counted=down, backlog=down, server=down, recovery=False)).found

    assert [(each.code, each.finding.severity) for each in found] == [
        (NOT_LOOKED, Severity.WARNING),
        ("table_recovery", Severity.NOTE),
    ]
    assert re.search(r"read model \(\d+ checks\)", found[0].finding.what)
    assert (found[0].finding.why, found[0].finding.fix) == ("db.example does not answer", "Check that it runs.")


def test_an_endpoint_that_does_not_know_an_operation_is_a_note(tmp_path: Path) -> None:
    unknown = AwsError("dynamodb DescribeContinuousBackups: what?")
    unknown.__cause__ = ClientError({"Error": {"Code": "UnknownOperationException"}}, "DescribeContinuousBackups")

    (found,) = diagnose(look(tmp_path, recovery=unknown)).found

    assert (found.code, found.finding.severity) == (NOT_LOOKED, Severity.NOTE)
    assert found.finding.what == "Could not look at table_recovery."


@pytest.mark.parametrize(
    ("aws", "code", "severity", "words"),
    [
        (FakeAws(denied=("get_records", "scan")), "permissions_tried", WARNING, "dynamodb:GetRecords, dynamodb:Scan."),
        (FakeAws(denied=("describe_scalable_targets",)), "permissions_tried", NOTE, "application-autoscaling:Desc"),
        (FakeAws(denied=("filter_log_events",)), "permissions_tried", NOTE, "logs:FilterLogEvents"),
        (FakeAws(simulated_denied=("dynamodb:PutItem",)), "permissions_simulated", WARNING, "dynamodb:PutItem"),
        (FakeAws(simulated_denied=("rds:CreateDBInstance",)), "permissions_simulated", NOTE, "rds:CreateDBInstance"),
        (FakeAws(denied=("simulate_principal_policy",)), "permissions_simulated", NOTE, "is unknown"),
        (FakeAws(broken=("describe_db_clusters",)), NOT_LOOKED, WARNING, "permissions_tried"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_permission_is_found(tmp_path: Path, aws: FakeAws, code: str, severity: Severity, words: str) -> None:
    (found,) = diagnose(look(tmp_path, aws=aws)).found

    assert (found.code, found.finding.severity, words in found.finding.what) == (code, severity, True)


def test_an_emulator_that_knows_no_simulation_and_not_every_call_allows_them(tmp_path: Path) -> None:
    for unknown in ("simulate_principal_policy", "describe_scaling_policies", "get_caller_identity"):
        assert diagnose(look(tmp_path, aws=FakeAws(unknown=(unknown,)))).found == ()
        assert diagnose(look(tmp_path, aws=FakeAws(garbled=(unknown,)))).found == ()


@pytest.mark.parametrize(
    ("identity", "asked"),
    [
        ("arn:aws:sts::123456789012:assumed-role/ops/me", "arn:aws:iam::123456789012:role/team/ops"),
        ("arn:aws:iam::123456789012:user/team/me", "arn:aws:iam::123456789012:user/team/me"),
        ("arn:aws:iam::123456789012:root", None),
        ("arn:aws:sts::123456789012:federated-user/me", None),
    ],
)
def test_iam_is_asked_about_the_role_behind_a_session(tmp_path: Path, identity: str, asked: str | None) -> None:
    aws = FakeAws(identity=identity)
    asked_about: set[str] = set()
    answer = aws.answer

    def remember(operation: str, parameters: dict[str, Any]) -> Any:
        asked_about.update({parameters["PolicySourceArn"]} if "PolicySourceArn" in parameters else set())
        return answer(operation, parameters)

    aws.answer = remember  # type: ignore[method-assign]

    assert diagnose(look(tmp_path, aws=aws)).found == ()
    assert asked_about == ({asked} if asked else set())


def test_functions_that_are_not_deployed_and_a_cluster_that_is_not_named_need_no_permissions(tmp_path: Path) -> None:
    others = tuple(action.name for action in ACTIONS if not action.name.startswith("dynamodb:"))
    settings = WITHOUT_BUNDLE.replace('cluster = "products"', 'host = "127.0.0.1"')
    aws = FakeAws(denied=("describe_db_clusters", "get_function"), simulated_denied=others)

    assert diagnose(look(tmp_path, settings, aws, mappings=None, cluster=None)).found == ()


@pytest.mark.parametrize(
    "granted",
    [
        # What RDS gives a master user: Amazon RDS User Guide, "Master user account privileges".
        (
            "GRANT SELECT, CREATE USER, PROCESS ON *.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT `rds_superuser_role`@`%` TO `u`@`%`",
        ),
        ("GRANT ALL PRIVILEGES ON *.* TO `u`@`%`",),
    ],
)
def test_of_a_master_user_nothing_is_to_be_revoked(tmp_path: Path, granted: tuple[str, ...]) -> None:
    (found,) = diagnose(look(tmp_path, server=rights(*granted))).found

    assert found.finding.what == "The user cqrsctl@% administers the server."
    assert "REVOKE" not in found.finding.fix
    assert "CREATE USER 'cqrsctl'@'%'" in found.finding.fix


def test_what_mends_the_rights_is_sql_that_can_be_run(tmp_path: Path) -> None:
    wide = rights("GRANT ALL PRIVILEGES ON `cqrs%`.* TO `u`@`%`", "GRANT FILE ON *.* TO `u`@`%`")
    needed = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, CREATE VIEW, SHOW VIEW"

    assert [each.finding.fix for each in diagnose(look(tmp_path, server=wide)).found] == [
        f"REVOKE ALL PRIVILEGES ON `cqrs%`.* FROM 'cqrsctl'@'%'; GRANT {needed} ON `cqrs`.* TO 'cqrsctl'@'%'",
        f"REVOKE FILE ON *.* FROM 'cqrsctl'@'%'; GRANT {needed} ON `cqrs`.* TO 'cqrsctl'@'%'",
    ]
