"""Letters, repairs and rebuilds together: what is retried goes nowhere back, and an undo loses nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cqrsctl.change import SequenceNumber
from cqrsctl.clock import SystemClock
from cqrsctl.errors import Busy
from cqrsctl.pipeline import project, settling
from cqrsctl.pipeline.rebuild.progress import Phase, RebuildProgress, Unfit
from cqrsctl.pipeline.settling import LetterOutcome
from cqrsctl.pipeline.verify.verifying import Verification
from cqrsctl.projection.batch import Batch, DeadLetter
from cqrsctl.projection.definition import ColumnType, Projection
from cqrsctl.projection.recovery import OnError
from cqrsctl.projection.rows import row_of
from cqrsctl.read_model import dead_letters as kept
from cqrsctl.read_model import loaded_segments, rebuilds
from cqrsctl.read_model.checkpoints import aware
from cqrsctl.read_model.connection import Connection, connect
from cqrsctl.read_model.loading import Chunk, Loader
from cqrsctl.read_model.sink import take_lock
from cqrsctl.read_model.writing import TableWriter
from cqrsctl.stream.reader import Beginning
from cqrsctl.wiring import Wiring
from cqrsctl.write_model.table import describe
from tests.integration.pipeline.test_rebuild import (
    PRODUCT,
    Died,
    create_table,
    die_at,
    execute,
    names,
    put,
    query,
    remove,
    run,
)
from tests.integration.read_model.test_sink import change
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = "x" * 300


def sized(characters: int) -> Projection:
    """The projection with a Name of another length."""
    columns = tuple(
        replace(column, type=ColumnType.parse(f"varchar({characters})")) if column.name == "Name" else column
        for column in PRODUCT.columns
    )
    return replace(PRODUCT, columns=columns)


WIDER = sized(500)


@pytest.fixture(autouse=True)
def table(wiring: Wiring) -> None:
    create_table(wiring)


def projected(wiring: Wiring, projection: Projection = PRODUCT) -> None:
    runner = project.Run(wiring, (projection,), SystemClock(), lambda _: None, lambda _: None, OnError.DEAD_LETTER)
    project.from_stream(runner, once=True, beginning=Beginning.HORIZON, dry_run=False)


def declared(wiring: Wiring, projection: Projection) -> Wiring:
    return Wiring(replace(wiring.environment, projections=(projection,)))


def retried(wiring: Wiring, projection: Projection = WIDER) -> list[LetterOutcome]:
    return [each.outcome for each in settling.retry(declared(wiring, projection), None)]


def letters(wiring: Wiring) -> list[str]:
    return [str(letter.change.keys["ProductId"]) for letter in settling.listing(wiring)]


def repaired(wiring: Wiring) -> int:
    verify = Verification(wiring, PRODUCT, SystemClock(), lambda _: None, repair=True, patience_seconds=0.2)
    return sum(row.repaired for row in verify.run())


def test_a_letter_from_just_before_a_rebuild_is_stale_after_it(wiring: Wiring) -> None:
    put(wiring, 7, LONG)
    put(wiring, 7, "newest")
    put(wiring, 8, LONG)
    remove(wiring, 8)
    projected(wiring)
    assert letters(wiring) == ["7", "8"]
    run(wiring, WIDER)
    assert retried(wiring) == [LetterOutcome.STALE, LetterOutcome.STALE]
    assert names(wiring) == {7: "newest"}


def test_a_letter_from_before_a_repair_is_stale_for_the_row_that_it_inserted(wiring: Wiring) -> None:
    put(wiring, 7, LONG)
    put(wiring, 7, "newest")
    projected(wiring)
    execute(wiring, "DELETE FROM product_v1")
    SystemClock().sleep(1.1)  # times of changes are rounded to the second
    assert repaired(wiring) == 1
    execute(wiring, "ALTER TABLE product_v1 MODIFY Name VARCHAR(500)")
    execute(wiring, "UPDATE cqrs_projection SET declaration = REPLACE(declaration, 'varchar(255)', 'varchar(500)')")
    assert retried(wiring) == [LetterOutcome.STALE]
    assert names(wiring) == {7: "newest"}


def test_later_changes_win_over_a_row_that_was_repaired_after_a_record_of_a_later_stream(wiring: Wiring) -> None:
    put(wiring, 7, "first")
    projected(wiring)
    execute(wiring, "UPDATE product_v1 SET Name = 'foreign', _version = _version + 9 * POW(10, 55)")
    assert repaired(wiring) == 1
    assert names(wiring) == {7: "first"}
    put(wiring, 7, "second")
    projected(wiring)
    assert names(wiring) == {7: "second"}


def test_an_undo_makes_letters_again_of_those_that_were_retried_since_the_rebuild(wiring: Wiring) -> None:
    put(wiring, 7, LONG)
    put(wiring, 8, LONG)
    projected(wiring)
    run(wiring, WIDER, unfit=Unfit.SKIP)
    first, second = [letter.number for letter in settling.listing(wiring)]
    assert [each.number for each in settling.retry(declared(wiring, WIDER), [first])] == [first]
    settling.discard(wiring, [second])
    assert letters(wiring) == []
    run(wiring, WIDER, undo=True)
    assert letters(wiring) == ["7"]


def test_an_undo_keeps_what_was_repaired_since_the_rebuild(wiring: Wiring) -> None:
    put(wiring, 7, "first")
    put(wiring, 8, "second")
    projected(wiring)
    execute(wiring, "DELETE FROM product_v1 WHERE ProductId = 7")
    execute(wiring, "UPDATE product_v1 SET Name = 'drifted' WHERE ProductId = 8")
    run(wiring)
    execute(wiring, "DELETE FROM product_v2 WHERE ProductId = 7")
    execute(wiring, "UPDATE product_v2 SET Name = 'drifted' WHERE ProductId = 8")
    assert repaired(wiring) == 2
    run(wiring, undo=True)
    assert names(wiring) == {7: "first", 8: "second"}


# A letter is one, whoever writes it.


@pytest.fixture
def two_writers(wiring: Wiring) -> Iterator[list[DeadLetter]]:
    """The same change set aside by the function, which knows no shard, and by the projector."""
    projected(wiring)
    refused = change(5, 7, LONG)
    yield [DeadLetter("product", shard_id, refused, "too long") for shard_id in ("", "shard-1")]


def write(wiring: Wiring, *written: DeadLetter) -> None:
    with connect(wiring.database) as connection:
        kept.write(connection, written)
        connection.commit()


def test_a_change_is_one_letter_whether_the_function_or_the_projector_set_it_aside(
    wiring: Wiring, two_writers: list[DeadLetter]
) -> None:
    write(wiring, two_writers[0])
    write(wiring, two_writers[1])
    assert letters(wiring) == ["7"]


def test_a_discarded_letter_does_not_come_back(wiring: Wiring, two_writers: list[DeadLetter]) -> None:
    write(wiring, two_writers[0])
    settling.discard(wiring, [letter.number for letter in settling.listing(wiring)])
    write(wiring, two_writers[1])
    assert letters(wiring) == []


@pytest.mark.parametrize("shard_id", ["", "shard-2"])
def test_changes_of_two_items_with_one_sequence_number_are_two_letters(
    wiring: Wiring, two_writers: list[DeadLetter], shard_id: str
) -> None:
    """Numbers are unique in a shard only, and the function knows none."""
    other = replace(two_writers[0], shard_id=shard_id, change=change(5, 8, LONG))
    write(wiring, two_writers[0], other)
    write(wiring, other)
    assert sorted(letters(wiring)) == ["7", "8"]


def test_a_letter_of_an_earlier_release_is_known_again_and_keeps_its_shard(
    wiring: Wiring, two_writers: list[DeadLetter]
) -> None:
    """It has the shard itself where there is a digest of the item now."""
    write(wiring, two_writers[1])
    execute(wiring, "UPDATE cqrs_dead_letter SET shard = 'shard-1'")
    write(wiring, two_writers[0])
    (letter,) = settling.listing(wiring)
    assert letter.shard_id == "shard-1"


def test_a_row_that_the_former_table_cannot_hold_is_counted(wiring: Wiring) -> None:
    put(wiring, 7, LONG)
    projected(wiring)
    run(wiring, WIDER, unfit=Unfit.SKIP)
    execute(wiring, "DELETE FROM product_v2")
    verification = Verification(
        declared(wiring, WIDER), WIDER, SystemClock(), lambda _: None, repair=True, patience_seconds=0.2
    )
    assert [row.repaired for row in verification.run()] == [True]
    assert verification.result.not_in_former == 1


def test_an_undo_that_nobody_may_share_holds_the_projectors_lock(wiring: Wiring) -> None:
    """A running projector would not notice that its checkpoints went back."""
    put(wiring, 7)
    projected(wiring)
    run(wiring)
    before = query(wiring, "SELECT * FROM cqrs_checkpoint")
    with connect(wiring.database) as projector:
        take_lock(projector, wiring.database.database, [PRODUCT])
        with pytest.raises(Busy, match="held by another projector"):
            run(wiring, undo=True)
    assert query(wiring, "SELECT * FROM cqrs_checkpoint") == before


def test_a_segment_is_not_further_than_what_was_loaded_of_it(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    put(wiring, 7)
    projected(wiring)

    def dies(_: Loader, chunk: Chunk) -> None:
        if chunk.rows:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "load", dies)
        with pytest.raises(Died):
            run(wiring)
    with connect(wiring.database) as connection:
        assert loaded_segments.items(connection, "product") == 0
    run(wiring)
    assert names(wiring) == {7: "Lamp"}


def test_a_letter_that_only_the_table_being_built_cannot_take_is_applied_and_stays(wiring: Wiring) -> None:
    projected(wiring)
    put(wiring, 7, LONG)
    projected(wiring)
    with connect(wiring.database, bulk=True) as connection:
        arn = describe(wiring.dynamodb, wiring.environment.table).stream_arn or ""
        rebuilds.begin(connection, sized(10), arn, 1)
        execute(wiring, "ALTER TABLE product_v1 MODIFY Name VARCHAR(500)")
        execute(wiring, "UPDATE cqrs_projection SET declaration = REPLACE(declaration, 'varchar(255)', 'varchar(500)')")
    (each,) = settling.retry(declared(wiring, WIDER), None)
    assert (each.outcome, each.error) == (LetterOutcome.APPLIED, "Name: 300 characters, where 10 fit")
    assert names(wiring) == {7: LONG}
    assert letters(wiring) == ["7"]


@pytest.mark.parametrize("refused_by", ["its columns", "the database"])
def test_a_change_that_only_the_new_table_cannot_take_never_leads_back(wiring: Wiring, refused_by: str) -> None:
    """The view showed the change; after the cutover it must not show what the item was before it."""
    put(wiring, 7, "before")
    projected(wiring)
    (narrower, later) = (sized(10), "longer than ten") if refused_by == "its columns" else (PRODUCT, "refused")

    def meanwhile(done: RebuildProgress) -> None:
        if done.phase is Phase.CATCHING_UP and names(wiring) == {7: "before"}:
            if refused_by == "the database":
                execute(wiring, "ALTER TABLE product_v2 ADD CONSTRAINT own CHECK (Name <> 'refused')")
            put(wiring, 7, later)
            wait_for(lambda: names(wiring) == {7: later}, "the view shows the change")

    run(wiring, narrower, unfit=Unfit.SKIP, progress=meanwhile)

    assert names(wiring) == {}
    assert letters(wiring) == ["7"]
    if refused_by == "the database":
        execute(wiring, "ALTER TABLE product_v2 DROP CONSTRAINT own")
        assert [each.outcome for each in settling.retry(wiring, None)] == [LetterOutcome.APPLIED]
        assert names(wiring) == {7: later}


# Mistakes that nothing found.


def test_the_floor_of_the_former_table_outlives_the_next_rebuild(wiring: Wiring) -> None:
    """Until it is dropped it serves, and an undo may bring it back: what is older than its snapshot stays stale."""
    put(wiring, 7, "newest")
    projected(wiring)
    run(wiring)
    with pytest.raises(Died):
        run(wiring, progress=die_at(Phase.LOADING))
    old = change(SequenceNumber("5"), 8, "older than the snapshot")
    with connect(wiring.database) as connection:
        (since,) = query(wiring, "SELECT since FROM cqrs_snapshot WHERE version = 2")
        before = (aware(since["since"]) or old.created_at) - timedelta(seconds=1)
        row = row_of(PRODUCT, old._replace(created_at=before))
        applied = TableWriter(connection, [PRODUCT]).apply(
            Batch({"product": [row]}, (), 1, building={"product": [row]})
        )
    assert applied.rows == 0
    assert names(wiring) == {7: "newest"}


def test_a_letter_is_committed_with_the_checkpoint_after_it(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    projected(wiring)
    put(wiring, 7, LONG)
    seen: list[tuple[int, int]] = []
    commit = Connection.commit

    def commits(connection: Connection) -> None:
        commit(connection)
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "commit", commit)
            passed = query(wiring, "SELECT shard FROM cqrs_checkpoint WHERE sequence_number IS NOT NULL")
            seen.append((len(query(wiring, "SELECT id FROM cqrs_dead_letter")), len(passed)))

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "commit", commits)
        projected(wiring)
    assert set(seen) == {(0, 0), (1, 1)}
