"""Sample products: made up, valid, and the same for the same seed."""

from __future__ import annotations

from itertools import islice

import pytest

from cqrsctl.codec import decode_item
from cqrsctl.projection.definition import default_product
from cqrsctl.write_model import sample
from cqrsctl.write_model.product import product


def test_the_same_seed_makes_the_same_products() -> None:
    assert list(sample.products(200, seed=7)) == list(sample.products(200, seed=7))


def test_another_seed_makes_other_products() -> None:
    assert list(sample.products(50, seed=7)) != list(sample.products(50, seed=8))


def test_fewer_products_are_the_first_of_more() -> None:
    assert list(sample.products(10)) == list(islice(sample.products(100), 10))


@pytest.mark.parametrize("count", [0, 1, 25])
def test_ids_run_from_one_to_the_count(count: int) -> None:
    assert [made.product_id for made in sample.products(count)] == list(range(1, count + 1))


def test_every_sample_is_a_valid_product() -> None:
    for made in sample.products(2_000, seed=3):
        assert product(made.fields()) == made


def test_every_sample_fits_the_read_model() -> None:
    columns = default_product().columns
    for made in sample.products(500, seed=3):
        item = decode_item(made.item())
        assert [column.of(item) for column in columns] == list(made.fields().values())


def test_some_samples_are_out_of_stock_and_most_are_not() -> None:
    gone = sum(made.out_of_stock for made in sample.products(1_000))
    assert 0 < gone < 500
