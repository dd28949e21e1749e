"""What a valid product is, and how it stands in the table."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrsctl.codec import decode_item
from cqrsctl.projection.definition import default_product
from cqrsctl.write_model.product import InvalidProduct, Product, product

LAMP: dict[str, object] = {"ProductId": "7", "Name": "Lamp", "Price": "19.90", "OutOfStock": "false"}


def made(**changed: object) -> Product:
    return product({**LAMP, **changed})


def refused(**changed: object) -> str:
    """The reason with which a product is refused."""
    with pytest.raises(InvalidProduct) as caught:
        made(**changed)
    assert caught.value.code == "invalid_product"
    assert caught.value.hint
    return caught.value.message


def test_fields_as_text_become_a_product() -> None:
    assert product(LAMP) == Product(7, "Lamp", Decimal("19.90"), out_of_stock=False)


def test_fields_as_values_become_the_same_product() -> None:
    assert product({"ProductId": 7, "Name": "Lamp", "Price": Decimal("19.90"), "OutOfStock": False}) == product(LAMP)


class TestPrice:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("0", "0"),
            ("19.90", "19.90"),
            (" 19.90 ", "19.90"),
            ("+1.5", "1.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("12.5e-2", "0.125"),
            ("0.0001", "0.0001"),
            ("1.000000", "1"),
            ("99999999999999.9999", "99999999999999.9999"),
            (5, "5"),
            (Decimal("2.50"), "2.50"),
        ],
    )
    def test_a_price_is_exact(self, value: object, expected: str) -> None:
        assert made(Price=value).price == Decimal(expected)

    @pytest.mark.parametrize(
        "value", ["abc", "NaN", "Infinity", "-inf", "1_000", "１２", "1 000", "€5", "0x10", "1e", "--1", "1.2.3", True]
    )
    def test_a_price_that_is_not_a_number_is_refused(self, value: object) -> None:
        assert refused(Price=value) == f"Price: {str(value)!r} is not a number"

    def test_a_decimal_comma_is_refused_with_advice(self) -> None:
        assert refused(Price="19,90") == "Price: '19,90' is not a number (write a point, not a comma)"

    @pytest.mark.parametrize("value", ["-3", "-0.0001", -3, "-1e400"])
    def test_a_negative_price_is_refused(self, value: object) -> None:
        assert refused(Price=value) == f"Price: {str(value)!r} is negative"

    @pytest.mark.parametrize("value", ["1e400", "1e999999999", "100000000000000", "1e14", 10**14])
    def test_a_price_with_too_many_digits_before_the_point_is_refused(self, value: object) -> None:
        assert "has more than 14 digits before the point" in refused(Price=value)

    @pytest.mark.parametrize("value", ["0.00001", "1." + "1" * 30, "1e-400", "1e-999999999"])
    def test_a_price_with_too_many_decimals_is_refused(self, value: str) -> None:
        assert "has more than 4 decimals" in refused(Price=value)

    def test_a_price_of_minus_zero_is_zero(self) -> None:
        price = made(Price="-0.0").price
        assert (price, price.is_signed()) == (Decimal(0), False)

    @pytest.mark.parametrize("value", ["0e50", "0e-50", "0e999999999", "0e-9999", "1." + "0" * 60])
    def test_a_price_stands_in_the_item_with_no_more_digits_than_the_table_takes(self, value: str) -> None:
        number = made(Price=value).item()["Price"]["N"]
        assert len(number) <= 38 + len(".")

    def test_a_long_price_is_shortened_in_the_message(self) -> None:
        assert len(refused(Price="9" * 5_000)) < 150


class TestProductId:
    @pytest.mark.parametrize(
        ("value", "expected"), [("0", 0), (0, 0), (" 12 ", 12), ("007", 7), (str(2**63 - 1), 2**63 - 1)]
    )
    def test_a_whole_number_is_an_id(self, value: object, expected: int) -> None:
        assert made(ProductId=value).product_id == expected

    @pytest.mark.parametrize("value", ["abc", "1.5", 1.5, Decimal("1.0"), True, "-1", -1, "+1", "１２", "1_0", "1e3"])
    def test_an_id_that_is_not_a_whole_number_is_refused(self, value: object) -> None:
        assert refused(ProductId=value) == f"ProductId: {str(value)!r} is not a whole number"

    @pytest.mark.parametrize("value", [2**63, str(2**63), pytest.param("9" * 5_000, id="5000 digits")])
    def test_an_id_of_more_than_63_bits_is_refused(self, value: object) -> None:
        assert "is larger than 2⁶³-1" in refused(ProductId=value)


class TestName:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("😀" * 255, id="emoji"),
            pytest.param("a" * 255, id="longest"),
            'O\'Neill "the" lamp; DROP TABLE',
            "a\nb",
            " padded ",
            "字",
        ],
    )
    def test_a_name_is_kept_as_it_is(self, name: str) -> None:
        assert made(Name=name).name == name

    def test_a_name_of_300_characters_is_refused(self) -> None:
        assert refused(Name="a" * 300) == "Name: 300 characters, where 255 are allowed"

    def test_a_name_with_a_nul_is_refused(self) -> None:
        assert refused(Name="a\0b") == "Name: it contains a NUL character"

    @pytest.mark.parametrize("name", [" ", "\t\n", "\u2003"])
    def test_a_blank_name_is_refused(self, name: str) -> None:
        assert refused(Name=name) == "Name: it is blank"

    @pytest.mark.parametrize("name", ["a\ud83d", "\udce9t\udce9"])
    def test_a_name_with_a_lone_surrogate_is_refused(self, name: str) -> None:
        assert refused(Name=name) == "Name: it is not valid UTF-8"

    @pytest.mark.parametrize("name", [5, True, Decimal(1), ["Lamp"], {"en": "Lamp"}])
    def test_a_name_that_is_not_text_is_refused(self, name: object) -> None:
        assert refused(Name=name) == f"Name: {str(name)!r} is not text"


class TestOutOfStock:
    @pytest.mark.parametrize("value", [True, "true", "TRUE", " True ", "1", 1, "yes", "Yes"])
    def test_what_means_true_is_true(self, value: object) -> None:
        assert made(OutOfStock=value).out_of_stock is True

    @pytest.mark.parametrize("value", [False, "false", "False", "0", 0, "no", "", "  ", None])
    def test_what_means_false_is_false(self, value: object) -> None:
        assert made(OutOfStock=value).out_of_stock is False

    @pytest.mark.parametrize("value", ["maybe", 2, "t", "on", Decimal("1.0"), []])
    def test_what_means_neither_is_refused(self, value: object) -> None:
        assert refused(OutOfStock=value) == f"OutOfStock: {str(value)!r} is neither true nor false"


class TestFields:
    def test_out_of_stock_may_be_left_out(self) -> None:
        assert product({name: LAMP[name] for name in ("ProductId", "Name", "Price")}).out_of_stock is False

    @pytest.mark.parametrize("name", ["ProductId", "Name", "Price"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_an_empty_field_is_missing(self, name: str, value: object) -> None:
        assert refused(**{name: value}) == f"{name} missing"

    def test_all_missing_fields_are_named_at_once(self) -> None:
        with pytest.raises(InvalidProduct, match=r"^ProductId and Name and Price missing$"):
            product({})

    def test_an_unknown_field_is_refused(self) -> None:
        assert refused(Colour="blue") == "unknown field 'Colour'"

    def test_a_fields_case_counts(self) -> None:
        with pytest.raises(InvalidProduct, match=r"^ProductId missing$"):
            product({**{name: value for name, value in LAMP.items() if name != "ProductId"}, "productid": "7"})


class TestItem:
    def test_an_item_has_exactly_the_tables_shape(self) -> None:
        assert made(OutOfStock="yes").item() == {
            "ProductId": {"N": "7"},
            "Name": {"S": "Lamp"},
            "Price": {"N": "19.90"},
            "OutOfStock": {"BOOL": True},
        }

    def test_a_price_is_written_without_an_exponent(self) -> None:
        assert made(Price="1e3").item()["Price"] == {"N": "1000"}
        assert made(Price="1e-4").item()["Price"] == {"N": "0.0001"}

    @given(
        product_id=st.integers(0, 2**63 - 1),
        name=st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255
        ).filter(str.strip),
        price=st.decimals(min_value=0, max_value=Decimal("99999999999999.9999"), places=4, allow_nan=False),
        out_of_stock=st.booleans(),
    )
    def test_every_valid_product_reaches_the_read_model_unchanged(
        self, product_id: int, name: str, price: Decimal, out_of_stock: bool
    ) -> None:
        valid = product({"ProductId": product_id, "Name": name, "Price": price, "OutOfStock": out_of_stock})
        item = decode_item(valid.item())
        assert [column.of(item) for column in default_product().columns] == [product_id, name, price, out_of_stock]
