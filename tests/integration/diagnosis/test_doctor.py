"""The doctor on real parts: what is wrong is made so, found, and gone once it is mended."""

from __future__ import annotations

import getpass
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from cqrsctl.aws import ApiCall
from cqrsctl.clock import SystemClock
from cqrsctl.diagnosis.doctor.checks import CHECKS, examine
from cqrsctl.diagnosis.doctor.database_checks import rights_beyond
from cqrsctl.diagnosis.doctor.findings import Severity
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.pipeline import project
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import locks
from cqrsctl.read_model.connection import Endpoint, Login, ReadModelMissing, connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.sink import prepare, take_lock
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model.products import Put
from cqrsctl.write_model.sample import products
from cqrsctl.write_model.table import TableSpec
from tests.functions_world import deploy_all, moto_for, operated, with_table
from tests.pipelines import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cqrsctl.diagnosis.doctor.findings import Diagnosis
    from cqrsctl.wiring import Wiring

PRODUCT = default_product()
LETTER = (
    "INSERT INTO cqrs_dead_letter (projection, stream, shard, sequence_number, record, error, first_seen, attempts)"
    " VALUES ('product', 's', 's', '1', '{}', 'too long', NOW(6), 1)"
)
PLANTED = (
    ("stream_gap", "UPDATE cqrs_checkpoint SET state = 'gap'", "UPDATE cqrs_checkpoint SET state = 'open'"),
    ("dead_letters", LETTER, "DELETE FROM cqrs_dead_letter"),
    (
        "tombstones",
        "UPDATE product_v1 SET _deleted = TRUE, _changed_at = NOW(6) - INTERVAL 3 DAY WHERE ProductId = 1",
        "DELETE FROM product_v1 WHERE _deleted",
    ),
    (
        "read_model_rebuild",
        "INSERT INTO cqrs_rebuild (projection, version, declaration, former_version, former_declaration, stream, state,"
        " undoing, begun_at) SELECT name, 2, declaration, 1, declaration, 's', 'loading', FALSE, NOW(6)"
        " FROM cqrs_projection",
        "DELETE FROM cqrs_rebuild",
    ),
    (
        "read_model_schema",
        "UPDATE cqrs_projection SET declaration = REPLACE(declaration, 'varchar(255)', 'varchar(99)')",
        "UPDATE cqrs_projection SET declaration = REPLACE(declaration, 'varchar(99)', 'varchar(255)')",
    ),
    ("read_model_missing", "DELETE FROM cqrs_projection", ""),
)


@pytest.fixture
def filled(wiring: Wiring) -> Wiring:
    """A pipeline whose three products were projected."""
    name = wiring.environment.table
    TableSpec(name, point_in_time_recovery=False, deletion_protection=False).create_call().make(wiring.dynamodb)
    for entry in products(3):
        Put(name, entry).make(wiring.dynamodb)
    run = project.Run(wiring, (PRODUCT,), SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)
    return wiring


def diagnose(wiring: Wiring, ahead_seconds: float = 0.0) -> Diagnosis:
    return examine(Facts(wiring, Clock(ahead_seconds)), lambda _: None)


def codes(wiring: Wiring, ahead_seconds: float = 0.0) -> list[str]:
    return [found.code for found in diagnose(wiring, ahead_seconds).found]


def execute(wiring: Wiring, sql: str) -> None:
    with connect(wiring.database) as connection:
        connection.execute(sql)
        connection.commit()


def test_what_is_planted_in_a_clean_read_model_is_found_and_gone_once_mended(filled: Wiring) -> None:
    assert diagnose(filled).found == ()
    for code, plant, fix in PLANTED:
        execute(filled, plant)
        assert codes(filled) == [code]
        if fix:
            execute(filled, fix)
            assert codes(filled) == []


def test_only_changes_that_are_unread_come_close_to_trimming(filled: Wiring) -> None:
    assert codes(filled, 30 * 3_600) == []

    Put(filled.environment.table, next(iter(products(1, seed=5)))).make(filled.dynamodb)

    found = [diagnose(filled, hours * 3_600).found for hours in (11, 13, 23)]
    assert [[(each.code, each.finding.severity) for each in one] for one in found] == [
        [("part_failing", Severity.CRITICAL)],
        [("part_failing", Severity.CRITICAL), ("stream_trimming", Severity.WARNING)],
        [("stream_trimming", Severity.CRITICAL), ("part_failing", Severity.CRITICAL)],
    ]
    assert found[0][0].part == "projector"


def test_another_stream_than_the_checkpoints_and_a_view_type_without_images_are_found(filled: Wiring) -> None:
    spec = TableSpec(filled.environment.table, point_in_time_recovery=False, deletion_protection=False)
    keys_only = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}}
    ApiCall("dynamodb", "DeleteTable", {"TableName": spec.name}).make(filled.dynamodb)
    ApiCall("dynamodb", "CreateTable", {**spec.create_call().parameters, **keys_only}).make(filled.dynamodb)

    assert codes(filled) == ["stream_view_type", "stream_changed"]


def test_a_projector_at_work_is_a_reader_of_the_stream(wiring: Wiring) -> None:
    endpoint = wiring.database
    prepare(endpoint, [PRODUCT])
    with connect(endpoint) as connection:
        assert holder(wiring) is None
        take_lock(connection, endpoint.database, [PRODUCT])
        assert holder(wiring) == "unknown"
        locks.sign(connection, ["product"], "me@here, process 7")
        assert holder(wiring) == "me@here, process 7"


def holder(wiring: Wiring) -> str | None:
    return Facts(wiring, Clock()).inventory().holder


def test_nothing_was_made_yet(wiring: Wiring) -> None:
    assert codes(wiring) == ["table_missing", "read_model_missing"]


@contextmanager
def server_administrator(home: Path) -> Iterator[Any]:
    """The account that owns the server's files, over its socket."""
    connection = pymysql.connect(unix_socket=str(home / "local/data/mariadb.sock"), user=getpass.getuser())
    with connection, connection.cursor() as cursor:
        yield cursor


def test_rights_that_are_not_needed_are_found_on_a_real_server(wiring: Wiring, stack_home: Path) -> None:
    endpoint, name = wiring.database, wiring.environment.database.name
    prepare(endpoint, [PRODUCT])
    user = "broad@'127.0.0.1'"
    statements = (
        f"CREATE USER {user} IDENTIFIED BY 'pw'",
        f"GRANT ALL ON `{name}`.* TO {user} WITH GRANT OPTION",
        f"GRANT FILE, PROCESS ON *.* TO {user}",
        f"GRANT SELECT ON mysql.* TO {user}",
        "CREATE ROLE wide",
        f"GRANT wide TO {user}",
    )
    with server_administrator(stack_home) as administrator:
        try:
            for sql in statements:
                administrator.execute(sql)
            broad = Endpoint(endpoint.host, endpoint.port, name, lambda: Login("broad", "pw"))
            wiring.servers = Servers(lambda: Topology(broad))
            server = Facts(wiring, Clock()).server()
        finally:
            administrator.execute(f"DROP USER IF EXISTS {user}")
            administrator.execute("DROP ROLE IF EXISTS wide")

    assert sorted(finding.what for finding in rights_beyond(server, name, embedded=False)) == [
        "The user broad@127.0.0.1 has FILE, PROCESS on *.*.",
        "The user broad@127.0.0.1 has SELECT on `mysql`.*.",
        "The user broad@127.0.0.1 has rights by the role wide, which are not looked at.",
        f"The user broad@127.0.0.1 may give its rights on `{name}`.* to others.",
    ]
    assert "IDENTIFIED" not in str(server)
    assert server.grants.missing(name) == ()


def test_a_mapping_of_ones_own_making_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_for(monkeypatch):
        found = deploy_all(with_table(tmp_path))
        client = found.client("lambda")._client
        (deployed,) = client.list_event_source_mappings()["EventSourceMappings"]
        assert mapping_codes(found.wiring) == []
        client.delete_event_source_mapping(UUID=deployed["UUID"])
        assert mapping_codes(found.wiring) == ["mapping_missing"]
        made = {"EventSourceArn": deployed["EventSourceArn"], "StartingPosition": "LATEST"}
        for name in ("ProductHandlerFunction", "ProductCommandFunction", "ProductCommandFunction"):
            client.create_event_source_mapping(FunctionName=name, **made)

        assert mapping_codes(found.wiring) == [
            "stream_readers",
            "mapping_latest",
            "mapping_destination",
            "mapping_retries",
            "mapping_bisect",
        ]


def mapping_codes(wiring: Wiring) -> list[str]:
    looked = [check for check in CHECKS if check.part == "function" or check.code == "stream_readers"]
    facts = Facts(wiring, Clock(), known={"inventory": ReadModelMissing("it was not made")})
    return [found.code for found in examine(facts, lambda _: None, looked).found]


def test_a_cluster_without_readers_that_autoscaling_never_helps_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = '[environments.prod]\nregion = "eu-west-1"\n[environments.prod.database]\ncluster = "products"\n'
    with moto_for(monkeypatch):
        wiring = operated(tmp_path, settings).wiring
        assert cluster_codes(wiring) == ["cluster_missing"]
        ApiCall("rds", "CreateDBCluster", CLUSTER).make(wiring.client("rds"))
        ApiCall("rds", "CreateDBInstance", WRITER).make(wiring.client("rds"))
        ApiCall("application-autoscaling", "RegisterScalableTarget", SCALED).make(
            wiring.client("application-autoscaling")
        )

        found = cluster_codes(wiring)

    assert found == ["cluster_readers", "cluster_autoscaling", "cluster_protection", "cluster_backups"]


CLUSTER = {
    "DBClusterIdentifier": "products",
    "Engine": "aurora-mysql",
    "EngineVersion": "8.0",
    "MasterUsername": "admin",
    "MasterUserPassword": "password1",
    "BackupRetentionPeriod": 1,
}
WRITER = {
    "DBInstanceIdentifier": "products-1",
    "DBClusterIdentifier": "products",
    "DBInstanceClass": "db.r6g.large",
    "Engine": "aurora-mysql",
}
SCALED = {
    "ServiceNamespace": "rds",
    "ResourceId": "cluster:products",
    "ScalableDimension": "rds:cluster:ReadReplicaCount",
    "MinCapacity": 0,
    "MaxCapacity": 3,
}


def cluster_codes(wiring: Wiring) -> list[str]:
    looked = [check for check in CHECKS if check.part == "cluster"]
    return [
        found.code
        for found in examine(
            Facts(wiring, Clock(), known={"maintenance": [], "support": None}), lambda _: None, looked
        ).found
    ]
