"""The whole pipeline at a glance: what is not well is named with its reason, and leaves the other parts alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cqrsctl.aurora import autoscaling
from cqrsctl.cli import status as command
from cqrsctl.cli.render import to_json
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.diagnosis.health import Health, PartHealth
from cqrsctl.diagnosis.status import Overview, judged
from cqrsctl.errors import DatabaseError, TransientAwsError
from cqrsctl.functions.mapping import Mapping
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.local.ports import free_port
from cqrsctl.read_model import rebuilds, registry
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.sink import prepare, take_lock
from cqrsctl.write_model import table
from cqrsctl.write_model.table_changes import disable_stream_calls
from tests.pipelines import PRODUCT, Clock, beat, execute, make_table, projected, put, with_readers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

NAMES = [
    "table",
    "stream",
    "shards",
    "projector",
    "mapping",
    "read model",
    "cluster",
    "readers",
    "autoscaling",
]


def looked(wiring: Wiring, ahead_seconds: float = 0.0) -> dict[str, PartHealth]:
    """The parts, by name, some time later."""
    return {part.name: part for part in Overview(wiring, Clock(ahead_seconds)).look().parts}


def healths(parts: dict[str, PartHealth]) -> dict[str, str]:
    """What is neither ok nor off."""
    return {name: part.health.value for name, part in parts.items() if part.health not in {Health.OK, Health.OFF}}


@pytest.fixture
def filled(wiring: Wiring) -> Wiring:
    """A pipeline that has caught up."""
    make_table(wiring)
    put(wiring)
    projected(wiring)
    return wiring


@pytest.fixture
def held(filled: Wiring) -> Iterator[Wiring]:
    """A pipeline whose projector holds the lock."""
    endpoint = filled.database
    with connect(endpoint) as connection:
        take_lock(connection, endpoint.database, [PRODUCT])
        yield filled


def test_of_a_pipeline_that_is_well_every_part_is_told(held: Wiring) -> None:
    found = Overview(held, Clock()).look()
    parts = {part.name: part for part in found.parts}

    assert list(parts) == NAMES
    assert healths(parts) == {}
    assert (found.health, found.lag_seconds, found.rows_per_second) == (Health.OK, 0.0, None)
    assert parts["shards"].summary == "1 open, 0 closed; nothing unread"
    assert "; last progress " in parts["projector"].summary
    assert parts["read model"].summary.startswith("product_v1: about ")
    assert parts["readers"].health is Health.OFF


def test_without_a_table_the_parts_that_need_it_say_so_and_the_others_go_on(wiring: Wiring) -> None:
    prepare(wiring.database, [PRODUCT])

    parts = looked(wiring)

    assert healths(parts) == {"table": "failing", "stream": "unknown", "shards": "unknown", "projector": "unknown"}
    assert (parts["table"].reason or "").startswith(f"No table {wiring.environment.table!r}")
    assert parts["stream"].reason == "unknown without the table"
    assert parts["read model"].health is Health.OK


def test_a_stream_that_is_off_is_failing_and_the_table_is_not(filled: Wiring) -> None:
    for call in disable_stream_calls(table.describe(filled.dynamodb, filled.environment.table)):
        call.make(filled.dynamodb)

    parts = looked(filled)

    assert parts["table"].health is Health.OK
    assert parts["stream"].health is Health.FAILING
    assert "Switch it on with: cqrsctl table enable-stream" in (parts["stream"].reason or "")


def test_with_the_database_away_the_write_model_is_told_all_the_same(filled: Wiring) -> None:
    away = replace(filled.database, port=free_port())
    filled.servers = Servers(lambda: Topology(away))

    parts = looked(filled)

    assert healths(parts) == {"shards": "unknown", "projector": "unknown", "read model": "failing"}
    assert "the database does not answer" in (parts["read model"].reason or "")
    assert parts["shards"].summary == "1 open, 0 closed"
    assert parts["shards"].reason == "how far they are read is unknown without the database"


def test_a_part_whose_api_does_not_answer_leaves_the_others(filled: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TransientAwsError("application-autoscaling DescribeScalableTargets: no answer")

    monkeypatch.setattr(autoscaling, "describe", refuse)

    parts = looked(filled)

    assert healths(parts) == {"autoscaling": "unknown"}
    assert "no answer" in (parts["autoscaling"].reason or "")


def test_without_a_read_model_it_is_off_and_what_waits_is_named(wiring: Wiring) -> None:
    make_table(wiring)
    put(wiring)

    parts = looked(wiring, 3_600)

    assert healths(parts) == {"projector": "failing"}
    assert parts["read model"].summary == "there is none yet of product: cqrsctl read-model init"
    assert parts["projector"].summary == "no progress yet"
    assert (parts["projector"].reason or "").startswith("stopped: changes wait for 1 h")


def test_a_projector_that_holds_the_lock_and_beats_but_does_not_get_on_is_stuck(held: Wiring) -> None:
    put(held, seed=2)
    beat(held.database, 0)
    execute(held, "UPDATE cqrs_checkpoint SET updated_at = NOW(6) - INTERVAL 40 SECOND")

    stuck = looked(held, 100)["projector"]
    execute(held, "UPDATE cqrs_checkpoint SET updated_at = NOW(6)")
    behind = looked(held, 100)["projector"]

    assert stuck.health is Health.FAILING
    assert "but its checkpoints did not move for 4" in (stuck.reason or "")
    assert stuck.facts["held"] is True
    assert behind.health is Health.WARNING
    assert (behind.reason or "").endswith("and it gets on")


def test_a_gap_is_failing_in_the_shards_and_in_the_read_model(filled: Wiring) -> None:
    execute(filled, "UPDATE cqrs_checkpoint SET state = 'gap'")

    parts = looked(filled)

    assert healths(parts) == {"shards": "failing", "projector": "unknown", "read model": "failing"}
    assert "left the stream before they were read" in (parts["shards"].reason or "")
    assert parts["read model"].facts["gaps"] == 1


def test_dead_letters_and_a_rebuild_that_was_stopped_are_warnings(filled: Wiring) -> None:
    execute(
        filled,
        "INSERT INTO cqrs_dead_letter (projection, stream, shard, sequence_number, record, error, first_seen, attempts)"
        " VALUES ('product', 's', 's', '1', '{}', 'x', NOW(6), 1)",
    )
    arn = table.require_stream(table.describe(filled.dynamodb, filled.environment.table))
    endpoint = filled.database
    with connect(endpoint) as connection:
        rebuilds.take_lock(connection, endpoint.database, "product")
        rebuilds.begin(connection, PRODUCT, arn, 2)
        under_way = looked(filled)["read model"]
    stopped = looked(filled)["read model"]

    assert under_way.summary.endswith("product_v2 is being built, 0 of about 3 items loaded")
    assert under_way.reason == "1 dead letter: cqrsctl dead-letter list"
    assert stopped.health is Health.WARNING
    assert (stopped.reason or "").startswith("a rebuild was stopped with 0 items in product_v2")


def test_a_table_that_is_gone_or_declared_otherwise_is_failing(filled: Wiring) -> None:
    other = replace(PRODUCT, view="Other")
    filled.environment = replace(filled.environment, projections=(other,))
    assert "made from another declaration" in (looked(filled)["read model"].reason or "")

    execute(filled, "DROP TABLE product_v1")
    assert "its table is gone" in (looked(filled)["read model"].reason or "")


def test_a_reader_that_stopped_and_one_that_is_gone_are_named(filled: Wiring) -> None:
    with_readers(filled, good=0, stopped=None, gone=free_port())

    readers = looked(filled)["readers"]

    assert readers.health is Health.FAILING
    assert "stopped is 1 min" in (readers.reason or "")
    assert "gone: does not answer" in (readers.reason or "")
    assert readers.summary.startswith("behind by at most: good 0.")


def test_where_the_function_projects_the_projector_is_off_and_the_lag_is_the_iterator_age(filled: Wiring) -> None:
    beat(filled.database, 0, "Lambda function x")
    arn = table.require_stream(table.describe(filled.dynamodb, filled.environment.table))
    mapping = Mapping("uuid", PROJECTOR, arn, "TRIM_HORIZON", "Enabled", "", "OK", {})
    known = {"function": None, "mappings": [mapping], "iterator_age_seconds": 2.5}
    filled.environment = replace(filled.environment, aws_endpoints=frozenset({"AWS_ENDPOINT_URL_LAMBDA"}))

    found = judged(Facts(filled, Clock(), known=known))

    projector = next(part for part in found.parts if part.name == "projector")
    assert (projector.health, projector.summary) == (Health.OFF, "the Lambda function projects")
    assert found.lag_seconds == 2.5


def test_the_rate_is_measured_between_two_looks_and_is_0_where_no_checkpoint_moved(filled: Wiring) -> None:
    clock = Clock()
    overview = Overview(filled, clock)
    first = overview.look()
    clock.sleep(2)
    idle = overview.look()
    put(filled, count=40, seed=2)
    projected(filled)
    clock.sleep(2)
    busy = overview.look()

    assert (first.rows_per_second, idle.rows_per_second) == (None, 0.0)
    assert busy.rows_per_second is not None
    assert busy.rows_per_second >= 20  # others write to the same server


def test_the_document_holds_every_part_with_the_facts_that_it_was_judged_by(filled: Wiring) -> None:
    document = json.loads(to_json(command.record(Overview(filled, Clock()).look())))

    assert [part["part"] for part in document["parts"]] == NAMES
    assert {key for part in document["parts"] for key in part} == {"part", "health", "summary", "reason", "facts"}
    assert (document["health"], document["environment"], document["lag_seconds"]) == ("ok", "local", 0.0)
    facts = next(part["facts"] for part in document["parts"] if part["part"] == "read model")
    assert facts["bytes"] > 0
    assert {"table", "rows", "building", "dead_letters", "gaps"} <= facts.keys()


def test_the_command_exits_1_where_a_part_is_failing_and_else_0(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    failing = cqrsctl("status", "-o", "json")
    make_table(wiring)
    put(wiring)
    projected(wiring)
    well = cqrsctl("status")

    assert (failing.code, failing.json()["health"]) == (1, "failing")
    assert well.code == 0
    assert [line.split("  ")[0] for line in well.out.splitlines()[2:]] == NAMES
    assert "\x1b" not in well.out


def test_the_command_exits_1_if_a_part_could_not_be_looked_at(cqrsctl: Cqrsctl) -> None:
    nobody = {"CQRSCTL_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_EC2_METADATA_DISABLED": "true"}
    (cqrsctl.directory / "cqrsctl.toml").write_text('[environments.prod]\nregion = "eu-west-1"\ntable = "Products"\n')

    unknown = cqrsctl("-e", "prod", "status", "-o", "json", variables=nobody)

    assert unknown.json()["health"] == "unknown"
    assert unknown.code == 1


def test_a_view_needs_a_terminal(cqrsctl: Cqrsctl) -> None:
    refused = cqrsctl("status", "--watch", "-o", "json")

    assert (refused.code, refused.out) == (2, "")
    assert "-o jsonl" in json.loads(refused.err)["error"]["hint"]


def test_a_projection_of_a_later_release_that_is_not_declared_here_is_in_nobodys_way(filled: Wiring) -> None:
    execute(
        filled,
        "INSERT INTO cqrs_projection (name, view_name, active_version, declaration, created_at)"
        " SELECT 'later', 'Later', 1, REPLACE(declaration, 'varchar(255)', 'point'), NOW(6) FROM cqrs_projection",
    )

    projected(filled)

    assert healths(looked(filled)) == {}
    with connect(filled.database) as connection, pytest.raises(DatabaseError, match="unknown type 'point'") as refused:
        registry.registered(connection)
    assert refused.value.code == "declaration_unknown"
