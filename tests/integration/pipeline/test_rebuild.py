"""Rebuilding: the table is made anew beside the old one, and the view put over it when it is nowhere older."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import ShardState
from cqrsctl.clock import SystemClock
from cqrsctl.errors import Busy, ConfigurationError, CqrsctlError, DatabaseError, StreamGap
from cqrsctl.pipeline import project
from cqrsctl.pipeline.rebuild import rebuilding
from cqrsctl.pipeline.rebuild.progress import Phase, RebuildProgress, Rebuilt, Unfit
from cqrsctl.pipeline.rebuild.rebuilding import Rebuilding
from cqrsctl.pipeline.rebuild.snapshot import BadItems
from cqrsctl.projection.batch import Batch
from cqrsctl.projection.declaration import conditions
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.projection.rows import Row
from cqrsctl.read_model import checkpoints, function_position, loaded_segments, rebuilds, registry, schema
from cqrsctl.read_model.connection import Login, connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.function_position import Reason
from cqrsctl.read_model.grants import NEEDED
from cqrsctl.read_model.loading import Loader
from cqrsctl.read_model.rebuilds import RebuildState
from cqrsctl.read_model.sink import prepare
from cqrsctl.read_model.writing import TableWriter
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model.product import Product
from cqrsctl.write_model.products import delete
from cqrsctl.write_model.table import TableSpec, describe
from cqrsctl.write_model.table_changes import delete_calls, enable_stream_calls
from tests.integration.read_model.test_connection_care import administrator
from tests.pipelines import MARK_GAP
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cqrsctl.wiring import Wiring

PRODUCT = default_product()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
COLOURED = Projection(
    "product",
    "Product",
    (*PRODUCT.columns, Column("Colour", ColumnType.parse("varchar(20)"), "Colour", default="white", index=True)),
)


def create_table(wiring: Wiring, *, stream: bool = True) -> None:
    TableSpec(
        wiring.environment.table, stream=stream, point_in_time_recovery=False, deletion_protection=False
    ).create_call().make(wiring.dynamodb)


def delete_table(wiring: Wiring) -> None:
    for call in delete_calls(describe(wiring.dynamodb, wiring.environment.table), unprotect=False):
        call.make(wiring.dynamodb)


def enable_stream(wiring: Wiring) -> None:
    for call in enable_stream_calls(describe(wiring.dynamodb, wiring.environment.table)):
        call.make(wiring.dynamodb)


@pytest.fixture(autouse=True)
def table(wiring: Wiring) -> None:
    create_table(wiring)


def put(wiring: Wiring, product_id: int, name: str = "Lamp", **more: dict[str, Any]) -> None:
    item = Product(product_id, name, Decimal("1.50"), out_of_stock=product_id % 2 == 0).item()
    wiring.dynamodb.put_item(TableName=wiring.environment.table, Item={**item, **more})


def remove(wiring: Wiring, product_id: int) -> None:
    delete(wiring.dynamodb, wiring.environment.table, product_id)


def run(
    wiring: Wiring,
    projection: Projection = PRODUCT,
    *,
    undo: bool = False,
    unfit: Unfit = Unfit.STOP,
    progress: Callable[[RebuildProgress], None] = lambda _: None,
) -> tuple[Rebuilt, list[str]]:
    notices: list[str] = []
    rebuilder = Rebuilding(wiring, projection, SystemClock(), progress, notices.append, unfit=unfit)
    return rebuilder.run(undo=undo), notices


def projected(wiring: Wiring, projection: Projection = PRODUCT) -> None:
    runner = project.Run(wiring, (projection,), SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(runner, once=True, beginning=Beginning.HORIZON, dry_run=False)


def query(wiring: Wiring, sql: str) -> list[dict[str, Any]]:
    with connect(wiring.database) as connection:
        return connection.query(sql)


def execute(wiring: Wiring, sql: str) -> None:
    with connect(wiring.database) as connection:
        connection.execute(sql)
        connection.commit()


def names(wiring: Wiring) -> dict[int, str]:
    return {row["ProductId"]: row["Name"] for row in query(wiring, "SELECT ProductId, Name FROM Product")}


class Died(BaseException):
    """As if the process was killed."""


def die_at(phase: Phase, items: int = 0) -> Callable[[RebuildProgress], None]:
    def progress(done: RebuildProgress) -> None:
        if done.phase is phase and done.items >= items:
            raise Died

    return progress


def test_a_table_older_than_its_stream_is_loaded_and_the_former_table_kept(wiring: Wiring) -> None:
    delete_table(wiring)
    create_table(wiring, stream=False)
    for number in range(1, 31):
        put(wiring, number)
    enable_stream(wiring)

    rebuilt, _ = run(wiring)

    assert (rebuilt.table, rebuilt.former, rebuilt.progress.items) == ("product_v2", "product_v1", 30)
    assert names(wiring) == dict.fromkeys(range(1, 31), "Lamp")
    put(wiring, 3, "Changed")
    remove(wiring, 4)
    projected(wiring)
    assert names(wiring) == {number: "Lamp" for number in range(1, 31) if number != 4} | {3: "Changed"}
    run(wiring)
    with connect(wiring.database) as connection:
        assert schema.physical_tables(connection, "product") == ["product_v2", "product_v3"]


def test_what_the_stream_brought_wins_over_the_snapshot(wiring: Wiring) -> None:
    """The new table has a change and a tombstone of later than the snapshot before this is loaded."""
    put(wiring, 1)
    put(wiring, 2)
    projected(wiring)
    with connect(wiring.database, bulk=True) as connection:
        begun = rebuilds.begin(
            connection, PRODUCT, describe(wiring.dynamodb, wiring.environment.table).stream_arn or "", 8
        )
        put(wiring, 1, "Later")
        remove(wiring, 2)
        put(wiring, 3)
        projected(wiring)
        former = [((1,), ("Earlier", Decimal(1), False)), ((2,), ("Deleted since", Decimal(1), False))]
        rows = [Row(key, values, 0, False, SystemClock().now()) for key, values in former]
        for by_file in (True, False):
            loader = Loader(connection, begun.table, by_file=by_file)
            loader.load(loader.chunk(rows))
            connection.commit()
    assert query(wiring, "SELECT ProductId, Name, _deleted FROM product_v2 ORDER BY ProductId") == [
        {"ProductId": 1, "Name": "Later", "_deleted": 0},
        {"ProductId": 2, "Name": None, "_deleted": 1},
        {"ProductId": 3, "Name": "Lamp", "_deleted": 0},
    ]
    run(wiring)
    assert names(wiring) == {1: "Later", 3: "Lamp"}


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.CATCHING_UP, Phase.CUTOVER])
def test_a_rebuild_that_died_serves_the_old_table_and_goes_on_where_it_was(wiring: Wiring, phase: Phase) -> None:
    for number in range(1, 21):
        put(wiring, number)
    projected(wiring)
    with pytest.raises(Died):
        run(wiring, progress=die_at(phase, items=1))

    put(wiring, 5, "Changed")
    projected(wiring)
    assert names(wiring)[5] == "Changed"
    assert query(wiring, "SELECT Name FROM product_v2 WHERE ProductId = 5") == [{"Name": "Changed"}]
    rebuilt, notices = run(wiring)

    assert notices[0] == "A rebuild is under way: it resumes with table product_v2."
    assert rebuilt.table == "product_v2"
    assert rebuilt.progress.items == 20
    assert 0 < rebuilt.progress.resumed <= 20
    assert names(wiring) == dict.fromkeys(range(1, 21), "Lamp") | {5: "Changed"}


def test_a_cutover_that_was_cut_short_can_only_be_finished(wiring: Wiring) -> None:
    put(wiring, 1)
    with pytest.raises(Died):
        run(wiring, progress=die_at(Phase.CUTOVER))
    execute(wiring, "UPDATE cqrs_rebuild SET state = 'cutover'")
    with pytest.raises(CqrsctlError, match="can only be finished") as raised:
        rebuilding.discard(wiring, PRODUCT)
    assert raised.value.code == "cutover_begun"

    run(wiring)

    with connect(wiring.database) as connection:
        assert [table.name for table in registry.read(connection, [PRODUCT]).active] == ["product_v2"]
        assert rebuilds.under_way(connection, "product") is None


@pytest.mark.parametrize(
    ("undo", "projection", "active"), [(True, PRODUCT, "product_v1"), (False, COLOURED, "product_v3")]
)
def test_a_cutover_that_was_cut_short_is_finished_before_something_else_is_done(
    wiring: Wiring, undo: bool, projection: Projection, active: str
) -> None:
    put(wiring, 1)
    projected(wiring)
    with pytest.raises(Died):
        run(wiring, progress=die_at(Phase.CUTOVER))
    execute(wiring, "UPDATE cqrs_rebuild SET state = 'cutover'")

    rebuilt, notices = run(wiring, projection, undo=undo)

    assert notices[0] == "The cutover to table product_v2 was cut short: it is finished first."
    assert (rebuilt.table, rebuilt.former) == (active, "product_v2")
    with connect(wiring.database) as connection:
        assert [(table.name, table.projection) for table in registry.read(connection, [PRODUCT]).active] == [
            (active, projection)
        ]


def test_a_rebuild_that_is_given_up_leaves_the_old_table_and_nothing_else(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    with pytest.raises(Died):
        run(wiring, progress=die_at(Phase.LOADING))

    assert rebuilding.discard(wiring, PRODUCT) == "product_v2"

    assert rebuilding.discard(wiring, PRODUCT) is None
    put(wiring, 1, "Changed")
    projected(wiring)
    assert names(wiring) == {1: "Changed"}
    with connect(wiring.database) as connection:
        assert schema.physical_tables(connection, "product") == ["product_v1"]


def test_only_one_rebuilds_a_projection_at_a_time(wiring: Wiring) -> None:
    prepare(wiring.database, [PRODUCT])
    with connect(wiring.database) as connection:
        rebuilds.take_lock(connection, wiring.environment.database.name, "product")
        with pytest.raises(Busy, match="is being rebuilt by another process"):
            run(wiring)
        with pytest.raises(Busy):
            rebuilding.discard(wiring, PRODUCT)


def gap(wiring: Wiring) -> None:
    projected(wiring)
    execute(wiring, MARK_GAP)


def test_rights_that_the_cutover_needs_are_asked_for_before_anything_is_loaded(
    wiring: Wiring, stack_home: Path
) -> None:
    endpoint, name = wiring.database, wiring.environment.database.name
    run(wiring)
    needed = ", ".join(right for right in NEEDED if right != "CREATE VIEW")
    with administrator(stack_home) as root:
        root.execute("CREATE USER narrow@'127.0.0.1' IDENTIFIED BY 'pw'")
        try:
            root.execute(f"GRANT {needed} ON `{name}`.* TO narrow@'127.0.0.1'")
            narrow = replace(endpoint, login=lambda: Login("narrow", "pw"))
            wiring.servers = Servers(lambda: Topology(narrow))
            with pytest.raises(DatabaseError, match=r"lacks CREATE VIEW on the whole database"):
                run(wiring)
        finally:
            root.execute("DROP USER narrow@'127.0.0.1'")
    wiring.servers = Servers(lambda: Topology(endpoint))
    with connect(endpoint) as connection:
        assert rebuilds.under_way(connection, PRODUCT.name) is None


def test_a_gap_is_ended(wiring: Wiring) -> None:
    put(wiring, 1)
    gap(wiring)
    put(wiring, 2)
    with pytest.raises(StreamGap):
        projected(wiring)

    run(wiring)

    assert names(wiring) == {1: "Lamp", 2: "Lamp"}
    put(wiring, 3)
    projected(wiring)
    assert set(names(wiring)) == {1, 2, 3}


def test_another_stream_is_gone_on_with(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    delete_table(wiring)
    create_table(wiring)
    put(wiring, 2)
    with pytest.raises(StreamGap, match="was fed by another stream"):
        projected(wiring)

    run(wiring)

    projected(wiring)
    assert set(names(wiring)) == {2}


def test_a_gap_comes_back_with_the_old_table_where_the_rebuild_is_given_up(wiring: Wiring) -> None:
    put(wiring, 1)
    gap(wiring)
    with pytest.raises(Died):
        run(wiring, progress=die_at(Phase.LOADING))
    rebuilding.discard(wiring, PRODUCT)
    with pytest.raises(StreamGap):
        projected(wiring)


def test_a_rebuild_that_lost_changes_itself_begins_again(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    with pytest.raises(Died):
        run(wiring, progress=die_at(Phase.CATCHING_UP))
    gap(wiring)

    rebuilt, notices = run(wiring)

    assert notices[0].startswith("A rebuild is under way, but changes left the stream")
    assert names(wiring) == {1: "Lamp"}
    assert (rebuilt.table, rebuilt.progress.resumed) == ("product_v2", 0)


def test_a_changed_declaration_comes_into_the_database_with_its_indexes(wiring: Wiring) -> None:
    put(wiring, 1, Colour={"S": "red"})
    put(wiring, 2)
    projected(wiring)
    with pytest.raises(DatabaseError, match="column Colour is new") as raised:
        projected(wiring, COLOURED)
    assert "cqrsctl rebuild" in (raised.value.hint or "")

    rebuilt, _ = run(wiring, COLOURED)

    assert rebuilt.changed
    assert query(wiring, "SELECT ProductId, Colour FROM Product ORDER BY ProductId") == [
        {"ProductId": 1, "Colour": "red"},
        {"ProductId": 2, "Colour": "white"},
    ]
    indexed = "SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND column_name = "
    assert query(wiring, indexed + "'Colour' AND table_name = 'product_v2'")
    with pytest.raises(DatabaseError, match="column Colour is gone"):
        projected(wiring, PRODUCT)
    put(wiring, 3, Colour={"S": "blue"})
    projected(wiring, COLOURED)
    assert query(wiring, "SELECT Colour FROM Product WHERE ProductId = 3") == [{"Colour": "blue"}]


def test_a_projector_of_the_old_declaration_fills_the_new_table_too(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    clock = SystemClock()
    runner = project.Run(wiring, (PRODUCT,), clock, lambda _: None, lambda _: None)
    running = Thread(target=lambda: project.from_stream(runner, once=False, beginning=Beginning.HORIZON, dry_run=False))
    running.start()
    try:
        wait_for(lambda: bool(query(wiring, "SELECT * FROM information_schema.processlist")), "it runs")
        with pytest.raises(Died):
            run(wiring, COLOURED, progress=die_at(Phase.LOADING))
        put(wiring, 2, Colour={"S": "red"})
        wait_for(lambda: set(names(wiring)) == {1, 2}, "the old table is written")
        assert query(wiring, "SELECT Colour FROM product_v2 WHERE ProductId = 2") == [{"Colour": "red"}]
        rebuilt, notices = run(wiring, COLOURED)
        assert not rebuilt.projected
        assert "It writes the new table too." in notices[1]
        put(wiring, 3, Colour={"S": "blue"})
        wait_for(lambda: len(query(wiring, "SELECT * FROM Product WHERE Colour = 'blue'")) == 1, "it goes on")
    finally:
        clock.stop.set()
        running.join()


def test_an_undo_brings_the_former_table_up_to_date_before_it_shows_it(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    run(wiring, COLOURED)
    put(wiring, 1, "Changed")
    put(wiring, 2)
    projected(wiring, COLOURED)

    rebuilt, _ = run(wiring, COLOURED, undo=True)

    assert (rebuilt.table, rebuilt.former, rebuilt.can_undo) == ("product_v1", "product_v2", True)
    assert names(wiring) == {1: "Changed", 2: "Lamp"}
    assert "Colour" not in query(wiring, "SELECT * FROM Product")[0]
    put(wiring, 3)
    projected(wiring)
    run(wiring, PRODUCT, undo=True)
    assert query(wiring, "SELECT Colour FROM Product WHERE ProductId = 3") == [{"Colour": "white"}]


def test_an_undo_that_is_given_up_leaves_the_new_table_and_can_be_tried_again(wiring: Wiring) -> None:
    put(wiring, 1)
    run(wiring)
    put(wiring, 1, "Changed")
    projected(wiring)
    with pytest.raises(Died):
        run(wiring, undo=True, progress=die_at(Phase.CATCHING_UP))
    with pytest.raises(Busy, match="An undo of projection product is under way"):
        run(wiring)
    assert rebuilding.discard(wiring, PRODUCT) == "product_v1"
    assert names(wiring) == {1: "Changed"}
    projected(wiring)
    assert run(wiring, undo=True)[0].table == "product_v1"
    assert names(wiring) == {1: "Changed"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("DELETE FROM cqrs_rebuild", "There is no rebuild"),
        ("DROP TABLE product_v1", "product_v1 is gone"),
        ("UPDATE cqrs_rebuild SET ended_at = NOW(6) - INTERVAL 24 HOUR", "are not in the stream any more"),
    ],
)
def test_an_undo_without_a_way_back_is_refused(wiring: Wiring, spoil: str, message: str) -> None:
    put(wiring, 1)
    run(wiring)
    execute(wiring, spoil)
    with pytest.raises(CqrsctlError, match=message) as raised:
        run(wiring, undo=True)
    assert raised.value.code == "nothing_to_undo"
    assert names(wiring) == {1: "Lamp"}


def test_items_that_do_not_fit_stop_the_rebuild_by_name_until_they_are_mended(wiring: Wiring) -> None:
    delete_table(wiring)
    create_table(wiring, stream=False)
    put(wiring, 1)
    put(wiring, 7, Price={"N": "1.23456"})
    enable_stream(wiring)
    with pytest.raises(BadItems, match=r"ProductId 7: Price: 1\.23456 has more than 4 decimals"):
        run(wiring)
    put(wiring, 7)
    run(wiring)
    assert set(names(wiring)) == {1, 7}


def test_items_that_do_not_fit_can_be_left_out(wiring: Wiring) -> None:
    put(wiring, 1)
    put(wiring, 7, Price={"N": "1.23456"})
    rebuilt, _ = run(wiring, unfit=Unfit.SKIP)
    assert rebuilt.progress.left_out == 1
    assert set(names(wiring)) == {1}


def test_a_change_that_only_the_new_columns_refuse_holds_the_cutover_up(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    narrow = Projection(
        "product", "Product", (PRODUCT.columns[0], replace(PRODUCT.columns[1], type=ColumnType.parse("varchar(5)")))
    )
    with pytest.raises(Died):
        run(wiring, narrow, progress=die_at(Phase.CATCHING_UP))
    put(wiring, 1, "Chandelier")
    projected(wiring)
    assert names(wiring) == {1: "Chandelier"}
    with pytest.raises(CqrsctlError, match="1 changes did not fit projection product"):
        run(wiring, narrow)
    assert names(wiring) == {1: "Chandelier"}


def test_a_view_of_some_items_only_is_made_beside_the_others(wiring: Wiring) -> None:
    sold_out = Projection("sold_out", "SoldOut", PRODUCT.columns[:2], conditions({"OutOfStock": True}))
    for number in range(1, 5):
        put(wiring, number)
    projected(wiring)
    with pytest.raises(ConfigurationError) as raised:
        both = project.Run(wiring, (PRODUCT, sold_out), SystemClock(), lambda _: None, lambda _: None)
        project.from_stream(both, once=True, beginning=Beginning.HORIZON, dry_run=False)
    assert "cqrsctl rebuild --projection sold_out" in (raised.value.hint or "")

    run(wiring, sold_out)

    assert [row["ProductId"] for row in query(wiring, "SELECT * FROM SoldOut")] == [2, 4]
    put(wiring, 2, OutOfStock={"BOOL": False})
    put(wiring, 3, OutOfStock={"BOOL": True})
    project.from_stream(both, once=True, beginning=Beginning.HORIZON, dry_run=False)
    assert [row["ProductId"] for row in query(wiring, "SELECT * FROM SoldOut ORDER BY ProductId")] == [3, 4]
    assert set(names(wiring)) == {1, 2, 3, 4}


def test_a_renamed_view_takes_the_place_of_the_old_one(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    run(wiring, replace(PRODUCT, view="Article"))
    assert [row["ProductId"] for row in query(wiring, "SELECT * FROM Article")] == [1]
    views = query(wiring, "SELECT table_name AS name FROM information_schema.views WHERE table_schema = DATABASE()")
    assert [row["name"] for row in views] == ["Article"]


def test_the_account_tells_how_far_a_rebuild_is(wiring: Wiring) -> None:
    put(wiring, 1)
    with pytest.raises(Died):
        run(wiring, progress=die_at(Phase.CATCHING_UP))
    with connect(wiring.database) as connection:
        under_way = rebuilds.under_way(connection, "product")
        assert under_way is not None
        assert (under_way.table.name, under_way.former.name, under_way.state) == (
            "product_v2",
            "product_v1",
            RebuildState.LOADED,
        )
        segments = loaded_segments.read(connection, "product")
    assert all(segment.finished for segment in segments)
    assert sum(segment.items for segment in segments) == 1


def test_what_is_older_than_the_snapshot_is_stale_for_the_new_table(wiring: Wiring) -> None:
    prepare(wiring.database, [PRODUCT])
    with connect(wiring.database) as connection:
        begun = rebuilds.begin(connection, PRODUCT, "arn", 1, lambda: NOW)
        rebuilds.cut_over(connection, begun)
        writer = TableWriter(connection, [PRODUCT])
        before = Row((1,), ("Old", Decimal(1), False), 5, deleted=False, changed_at=NOW - timedelta(seconds=1))
        after = Row((2,), ("New", Decimal(1), False), 5, deleted=False, changed_at=NOW)
        applied = writer.apply(Batch({"product": [before, after]}, (), 2))
    assert (applied.rows, applied.stale) == (1, 1)
    assert names(wiring) == {2: "New"}


def test_a_gap_that_was_ended_leaves_no_way_back(wiring: Wiring) -> None:
    put(wiring, 1)
    gap(wiring)
    rebuilt, _ = run(wiring)
    assert not rebuilt.can_undo
    with pytest.raises(CqrsctlError, match="ended a gap") as raised:
        run(wiring, undo=True)
    assert raised.value.code == "nothing_to_undo"


def test_the_mark_of_a_gap_stays_whoever_writes_a_position(wiring: Wiring) -> None:
    put(wiring, 1)
    gap(wiring)
    with connect(wiring.database) as connection:
        arn = describe(wiring.dynamodb, wiring.environment.table).stream_arn or ""
        (position,) = checkpoints.read(connection, [PRODUCT], arn)["product"].values()
        checkpoints.write(connection, arn, {"product": [replace(position, state=ShardState.OPEN)]})
        connection.commit()
        assert checkpoints.are_lost(connection, "product", arn)


SOLD_OUT = replace(PRODUCT, name="sold_out", view="SoldOut", where=conditions({"OutOfStock": True}))


@pytest.mark.parametrize("times", [1, 9])
def test_a_view_that_loses_changes_while_the_next_one_is_rebuilt_is_rebuilt_once_more(
    wiring: Wiring, times: int
) -> None:
    put(wiring, 1)
    put(wiring, 2)
    projected(wiring)
    rebuilt: list[str] = []

    def rebuild(projection: Projection) -> Rebuilt:
        rebuilt.append(projection.name)
        done, _ = run(wiring, projection)
        if 2 <= len(rebuilt) <= times + 1:
            execute(wiring, MARK_GAP + " WHERE projection = 'product'")
        return done

    both = (PRODUCT, SOLD_OUT)
    if times == 1:
        rebuilding.rebuild_all(both, rebuild, lambda: rebuilding.with_gap(wiring, both))
        assert names(wiring) == {1: "Lamp", 2: "Lamp"}
    else:
        with pytest.raises(StreamGap, match="also at the second try"):
            rebuilding.rebuild_all(both, rebuild, lambda: rebuilding.with_gap(wiring, both))
    assert rebuilt == ["product", "sold_out", "product"]


def test_an_undo_that_lost_changes_is_not_run_again_and_says_so(wiring: Wiring) -> None:
    put(wiring, 1)
    projected(wiring)
    run(wiring)
    undone: list[str] = []

    def undo(projection: Projection) -> Rebuilt:
        done, _ = run(wiring, projection, undo=True)
        undone.append(projection.name)
        execute(wiring, MARK_GAP)
        return done

    with pytest.raises(StreamGap, match="product"):
        rebuilding.rebuild_all([PRODUCT], undo, lambda: rebuilding.with_gap(wiring, [PRODUCT]), again=False)
    assert undone == ["product"]


def test_views_that_all_have_a_gap_of_the_function_are_rebuilt_one_after_the_other(wiring: Wiring) -> None:
    both = (PRODUCT, SOLD_OUT)
    put(wiring, 1)
    runner = project.Run(wiring, both, SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(runner, once=True, beginning=Beginning.HORIZON, dry_run=False)
    stream_arn = describe(wiring.dynamodb, wiring.environment.table).stream_arn or ""
    with connect(wiring.database) as connection:
        function_position.mark(connection, stream_arn, Reason.PAUSED, [each.name for each in both])
        connection.commit()

    for each in both:
        run(wiring, each)

    with connect(wiring.database) as connection:
        assert function_position.gaps(connection) == []
