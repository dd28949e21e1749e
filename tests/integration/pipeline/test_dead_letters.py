"""Records that do not fit, on a real server: set aside with their neighbours applied, retried, discarded."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.change import Page, Position
from cqrsctl.errors import CqrsctlError, DatabaseError
from cqrsctl.pipeline import settling as operations
from cqrsctl.pipeline.settling import LetterOutcome, Retried
from cqrsctl.projection.batch import DeadLetter
from cqrsctl.projection.definition import ColumnType
from cqrsctl.projection.projector import Summary
from cqrsctl.projection.recovery import Applier, BadRecord, OnError
from cqrsctl.read_model import dead_letters, schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare
from cqrsctl.wiring import Wiring
from tests.integration.read_model.test_sink import PRODUCT, change, make_sink, names

if TYPE_CHECKING:
    from cqrsctl.change import ChangeRecord

REFUSE_NAMES = "ALTER TABLE product_v1 ADD CONSTRAINT no_swearing CHECK (Name NOT LIKE 'damn%')"
LONG = "x" * 300
EMOJI = "Lámpara 😀"


def apply(wiring: Wiring, *changes: ChangeRecord, on_error: OnError = OnError.DEAD_LETTER) -> Summary:
    """Apply changes of one shard as the projector does."""
    summary = Summary()
    sink = make_sink(wiring)
    sink.open()
    position = Position("shard-1", None, changes[-1].sequence_number)
    try:
        Applier(sink, on_error, summary.count).apply([Page(changes, position)])
    finally:
        sink.close()
    return summary


def letters(wiring: Wiring) -> list[dead_letters.KeptLetter]:
    return list(operations.listing(wiring))


def run(wiring: Wiring, sql: str) -> None:
    with connect(wiring.database) as connection:
        connection.execute(sql)
        connection.commit()


def test_a_letter_keeps_the_whole_record(wiring: Wiring) -> None:
    bad = change(2, 2, LONG)
    summary = apply(wiring, change(1, 1), bad, change(3, 3, EMOJI))

    assert names(wiring) == {1: "Lamp", 3: EMOJI}
    assert (summary.changes, summary.rows, summary.dead_lettered) == (3, 2, 1)
    (letter,) = letters(wiring)
    assert letter.change == bad
    assert (letter.projection, letter.shard_id, letter.attempts) == ("product", "shard-1", 1)
    assert letter.error == "Name: 300 characters, where 255 fit"
    assert operations.show(wiring, letter.number) == letter


def test_a_record_that_comes_again_is_one_letter_with_one_number(wiring: Wiring) -> None:
    apply(wiring, change(2, 2, LONG))
    (first,) = letters(wiring)
    apply(wiring, change(2, 2, LONG))

    assert letters(wiring) == [first]


def test_a_constraint_of_the_database_makes_a_letter_of_its_record_only(wiring: Wiring) -> None:
    apply(wiring, change(1, 1))
    run(wiring, REFUSE_NAMES)
    changes = [change(number, number, "damned" if number == 700 else f"Lamp {number}") for number in range(2, 1_502)]

    summary = apply(wiring, *changes)

    assert len(names(wiring)) == 1_500
    assert (summary.changes, summary.rows, summary.dead_lettered) == (1_500, 1_499, 1)
    (letter,) = letters(wiring)
    assert letter.change.keys == {"ProductId": Decimal(700)}
    assert "no_swearing" in letter.error


def test_stopping_at_a_constraint_names_the_record_and_keeps_what_stands_before_it(wiring: Wiring) -> None:
    apply(wiring, change(1, 1))
    run(wiring, REFUSE_NAMES)

    with pytest.raises(BadRecord, match=r"ProductId 4 .*no_swearing"):
        apply(wiring, *(change(n, n, "damned" if n == 4 else "Lamp") for n in range(2, 8)), on_error=OnError.STOP)

    assert sorted(names(wiring)) == [1, 2, 3]
    assert letters(wiring) == []
    assert make_sink(wiring).open()["product"]["shard-1"].sequence_number == 3


def test_later_changes_of_the_same_key_go_on(wiring: Wiring) -> None:
    apply(wiring, change(1, 1), change(2, 1, LONG), change(3, 1, "after"))

    assert names(wiring) == {1: "after"}


def test_a_retried_letter_never_overwrites_newer_state(wiring: Wiring) -> None:
    apply(wiring, change(2, 1))
    run(wiring, REFUSE_NAMES)
    apply(wiring, change(3, 1, "damned"))
    apply(wiring, change(4, 1, "newer"))
    run(wiring, "ALTER TABLE product_v1 DROP CONSTRAINT no_swearing")
    (letter,) = letters(wiring)

    assert list(operations.retry(wiring, None)) == [Retried(letter.number, LetterOutcome.STALE)]
    assert names(wiring) == {1: "newer"}
    assert letters(wiring) == []


def test_a_letter_that_fits_by_now_is_applied_and_gone(wiring: Wiring) -> None:
    apply(wiring, change(1, 1))
    run(wiring, REFUSE_NAMES)
    apply(wiring, change(2, 1, "damned"), change(3, 2, None))
    (letter,) = letters(wiring)

    (refused,) = operations.retry(wiring, [letter.number])
    assert refused.outcome is LetterOutcome.REFUSED
    assert letters(wiring)[0].attempts == 2
    run(wiring, "ALTER TABLE product_v1 DROP CONSTRAINT no_swearing")
    assert list(operations.retry(wiring, [letter.number, letter.number])) == [
        Retried(letter.number, LetterOutcome.APPLIED)
    ]
    assert names(wiring) == {1: "damned"}
    assert letters(wiring) == []


def test_a_removal_in_a_letter_leaves_a_tombstone(wiring: Wiring) -> None:
    apply(wiring, change(1, 1))
    removal = change(2, 1, None)
    with connect(wiring.database) as connection:
        dead_letters.write(connection, [letter_of(removal)])
        connection.commit()

    assert [one.outcome for one in operations.retry(wiring, None)] == [LetterOutcome.APPLIED]
    assert names(wiring) == {}
    apply(wiring, change(1, 1))
    assert names(wiring) == {}


def letter_of(record: ChangeRecord) -> DeadLetter:
    return DeadLetter("product", "shard-1", record, "planted")


def test_a_letter_that_still_does_not_fit_stays_with_its_new_reason(wiring: Wiring) -> None:
    apply(wiring, change(1, 1, LONG), change(2, 2, LONG), change(3, 3))

    found = list(operations.retry(wiring, None))

    assert [one.outcome for one in found] == [LetterOutcome.REFUSED] * 2
    assert found[0].error == "Name: 300 characters, where 255 fit"
    assert [letter.attempts for letter in letters(wiring)] == [2, 2]


def test_a_letter_of_a_projection_that_is_not_declared_any_more_stays(wiring: Wiring) -> None:
    apply(wiring, change(1, 1, LONG))
    others = replace(wiring.environment, projections=(replace(PRODUCT, name="other", view="Other"),))

    (refused,) = operations.retry(Wiring(others), None)
    assert (refused.outcome, refused.error) == (LetterOutcome.REFUSED, "projection product is not declared")
    assert len(letters(wiring)) == 1


def test_a_letter_is_not_retried_into_a_table_of_another_declaration_which_would_round_it(wiring: Wiring) -> None:
    apply(wiring, change(1, 1, LONG))
    name, wider = PRODUCT.columns[1], ColumnType.parse("varchar(400)")
    columns = tuple(replace(column, type=wider) if column is name else column for column in PRODUCT.columns)
    declared = replace(wiring.environment, projections=(replace(PRODUCT, columns=columns),))

    with pytest.raises(DatabaseError, match="made from another declaration"):
        list(operations.retry(Wiring(declared), None))
    assert len(letters(wiring)) == 1


def test_letters_outlive_a_read_model_that_is_made_anew(wiring: Wiring) -> None:
    apply(wiring, change(1, 1, LONG), change(2, 2))
    with connect(wiring.database) as connection:
        schema.drop(connection, [PRODUCT])

    assert len(letters(wiring)) == 1
    prepare(wiring.database, [PRODUCT])
    assert [one.outcome for one in operations.retry(wiring, None)] == [LetterOutcome.REFUSED]


def test_letters_of_the_largest_items_are_written_in_statements_that_the_server_takes(wiring: Wiring) -> None:
    large = '"' * 390_000
    changes = [
        change(number, number)._replace(
            new_image={"ProductId": Decimal(number), "Name": LONG, "Price": Decimal(1), "More": large},
            old_image={"ProductId": Decimal(number), "More": large},
        )
        for number in range(1, 9)
    ]

    assert apply(wiring, *changes).dead_lettered == 8
    assert [letter.change for letter in letters(wiring)] == changes


def test_discarded_letters_are_gone_and_the_others_stay(wiring: Wiring) -> None:
    apply(wiring, change(1, 1, LONG), change(2, 2, LONG), change(3, 3, LONG))
    numbers = [letter.number for letter in letters(wiring)]

    assert operations.discard(wiring, numbers[:2]) == numbers[:2]
    assert [letter.number for letter in letters(wiring)] == numbers[2:]


def test_a_number_that_is_not_there_changes_nothing(wiring: Wiring) -> None:
    apply(wiring, change(1, 1, LONG))
    (letter,) = letters(wiring)
    for act in (
        lambda: operations.discard(wiring, [letter.number, letter.number + 1]),
        lambda: list(operations.retry(wiring, [letter.number, letter.number + 1])),
        lambda: operations.show(wiring, letter.number + 1),
    ):
        with pytest.raises(CqrsctlError, match=f"no dead letter {letter.number + 1}"):
            act()
    assert letters(wiring) == [letter]


def test_many_letters_are_written_in_one_transaction_and_listed_in_order(wiring: Wiring) -> None:
    summary = apply(wiring, *(change(number, number, LONG) for number in range(1, 131)))

    assert summary.dead_lettered == 130
    assert [letter.change.sequence_number for letter in letters(wiring)] == list(range(1, 131))
