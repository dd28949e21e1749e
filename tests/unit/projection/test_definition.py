"""Columns: an attribute's value fits exactly, or it is a Misfit."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrsctl.projection.declaration import conditions, declaration_of, projection_of
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.projection.fitting import Kind, Misfit

if TYPE_CHECKING:
    from cqrsctl.change import Item, Value
    from cqrsctl.projection.fitting import SqlValue


def fit(kind: str, value: Value) -> SqlValue:
    return ColumnType.parse(kind).fit(value)


def refused(kind: str, value: Value) -> str:
    """The reason with which a value is refused."""
    with pytest.raises(Misfit) as caught:
        fit(kind, value)
    return str(caught.value)


class TestTypes:
    @pytest.mark.parametrize(
        ("text", "kind", "sizes"),
        [
            ("bigint", Kind.BIGINT, ()),
            ("decimal(18,4)", Kind.DECIMAL, (18, 4)),
            ("decimal(65, 30)", Kind.DECIMAL, (65, 30)),
            ("decimal(5,0)", Kind.DECIMAL, (5, 0)),
            (" varchar (255) ", Kind.VARCHAR, (255,)),
            ("varchar(16000)", Kind.VARCHAR, (16_000,)),
            ("varbinary(1)", Kind.VARBINARY, (1,)),
            ("text", Kind.TEXT, ()),
            ("boolean", Kind.BOOLEAN, ()),
            ("double", Kind.DOUBLE, ()),
            ("datetime", Kind.DATETIME, ()),
            ("json", Kind.JSON, ()),
        ],
    )
    def test_a_type_is_read_with_its_sizes(self, text: str, kind: Kind, sizes: tuple[int, ...]) -> None:
        assert ColumnType.parse(text) == ColumnType(kind, sizes)

    @pytest.mark.parametrize("text", ["", "int", "BIGINT", "varchar[3]", "decimal(-1,2)", "bigint;", "text text"])
    def test_an_unknown_type_is_refused_naming_the_known_ones(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"unknown type .*bigint, decimal, .*varbinary"):
            ColumnType.parse(text)

    @pytest.mark.parametrize("text", ["varchar", "decimal", "decimal(18)", "varchar(1,2)", "bigint(20)", "text(10)"])
    def test_a_wrong_number_of_sizes_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"takes \d sizes, not \d"):
            ColumnType.parse(text)

    @pytest.mark.parametrize("text", ["decimal(18,)", "decimal(,4)", "varchar( )", "decimal(1 8,4)"])
    def test_sizes_that_are_not_numbers_are_refused_in_our_own_words(self, text: str) -> None:
        with pytest.raises(ValueError) as caught:
            ColumnType.parse(text)
        assert text.strip() in str(caught.value)
        assert "invalid literal" not in str(caught.value)

    @pytest.mark.parametrize("text", ["decimal(0,0)", "decimal(66,0)", "decimal(65,31)", "decimal(4,5)"])
    def test_a_decimal_that_mysql_does_not_have_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="needs 1 ≤ p ≤ 65"):
            ColumnType.parse(text)

    @pytest.mark.parametrize("text", ["varchar(0)", "varchar(16001)", "varbinary(0)", "varbinary(16001)"])
    def test_a_length_that_is_too_small_or_too_large_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="needs 1 ≤ n ≤ 16000"):
            ColumnType.parse(text)

    @pytest.mark.parametrize("text", ["bigint", "decimal(18,4)", "varchar(255)", "json"])
    def test_a_type_is_written_as_it_is_read(self, text: str) -> None:
        assert str(ColumnType.parse(text)) == text


class TestBigint:
    @pytest.mark.parametrize("number", ["0", "-0", "1E+2", "12.000", str(2**63 - 1), str(-(2**63))])
    def test_a_whole_number_of_64_bits_fits(self, number: str) -> None:
        fitted = fit("bigint", Decimal(number))
        assert type(fitted) is int
        assert fitted == Decimal(number)

    @pytest.mark.parametrize("number", ["1.5", "1E-130", str(2**63), str(-(2**63) - 1), "1E+125", "9" * 38])
    def test_a_fraction_or_a_larger_number_is_refused(self, number: str) -> None:
        assert "is not a whole number of 64 bits" in refused("bigint", Decimal(number))

    @pytest.mark.parametrize("value", ["1", True, b"1", None, [], {}])
    def test_what_is_not_a_number_is_refused(self, value: Value) -> None:
        assert "is not a number" in refused("bigint", value)


class TestDecimal:
    @pytest.mark.parametrize(
        "number",
        ["19.9", "19.9000", "19.900000", "1E+2", "1E+13", "-0", "0E-20", "0.0001", "99999999999999.9999", "-12.5"],
    )
    def test_a_number_that_fits_keeps_its_value(self, number: str) -> None:
        assert fit("decimal(18,4)", Decimal(number)) == Decimal(number)

    @pytest.mark.parametrize("number", ["1.00001", "0.00005", "1E-5", "-1.00001"])
    def test_five_decimals_are_refused_where_four_fit(self, number: str) -> None:
        assert "more than 4 decimals" in refused("decimal(18,4)", Decimal(number))

    @pytest.mark.parametrize("number", ["100000000000000", "1E+14", "1E+125", "9" * 38, "-100000000000000"])
    def test_too_many_digits_before_the_point_are_refused(self, number: str) -> None:
        assert "more than 14 digits before the point" in refused("decimal(18,4)", Decimal(number))

    def test_38_digits_fit_a_column_that_is_wide_enough(self) -> None:
        number = Decimal("1234567890123456789012345678.9012345678")
        assert str(fit("decimal(38,10)", number)) == str(number)

    def test_a_number_below_one_fits_where_there_is_no_place_before_the_point(self) -> None:
        assert fit("decimal(4,4)", Decimal("0.1234")) == Decimal("0.1234")
        assert "more than 0 digits before the point" in refused("decimal(4,4)", Decimal(1))

    @pytest.mark.parametrize("value", ["19.90", True, False, None])
    def test_what_is_not_a_number_is_refused(self, value: Value) -> None:
        assert "is not a number" in refused("decimal(18,4)", value)

    @given(
        st.builds(
            lambda sign, digits, exponent: Decimal((sign, tuple(digits), exponent)),
            st.integers(0, 1),
            st.lists(st.integers(0, 9), min_size=1, max_size=38),
            st.integers(-45, 45),
        )
    )
    def test_a_number_fits_unchanged_or_not_at_all(self, number: Decimal) -> None:
        fits = (Fraction(number) * 10_000).denominator == 1 and abs(Fraction(number)) < 10**14
        try:
            fitted = fit("decimal(18,4)", number)
        except Misfit:
            assert not fits
        else:
            assert fits
            assert isinstance(fitted, Decimal)
            assert fitted == number


class TestText:
    def test_a_varchar_counts_characters_not_bytes(self) -> None:
        assert fit("varchar(3)", "😀é字") == "😀é字"
        assert refused("varchar(3)", "😀é字.") == "4 characters, where 3 fit"

    def test_an_emoji_of_several_code_points_counts_as_mysql_counts_it(self) -> None:
        family = "👩\u200d👧"
        assert fit("varchar(3)", family) == family
        assert "3 characters" in refused("varchar(2)", family)

    def test_empty_text_fits(self) -> None:
        assert fit("varchar(1)", "") == ""
        assert fit("text", "") == ""

    def test_a_text_column_counts_bytes(self) -> None:
        assert fit("text", "a" * 65_535) == "a" * 65_535
        assert refused("text", "a" * 65_536) == "65536 bytes, where 65535 fit"
        assert "bytes" in refused("text", "é" * 32_768)
        assert fit("text", "é" * 32_767) == "é" * 32_767

    @pytest.mark.parametrize("kind", ["varchar(10)", "text"])
    @pytest.mark.parametrize("value", [Decimal(1), True, b"a", ["a"], frozenset({"a"}), None])
    def test_what_is_not_text_is_refused(self, kind: str, value: Value) -> None:
        assert "is not text" in refused(kind, value)


class TestBoolean:
    @pytest.mark.parametrize("value", [True, False])
    def test_a_boolean_fits(self, value: bool) -> None:
        assert fit("boolean", value) is value

    @pytest.mark.parametrize("value", [Decimal(0), Decimal(1), "true", "", b"", None])
    def test_nothing_else_is_taken_for_a_boolean(self, value: Value) -> None:
        assert "is not a boolean" in refused("boolean", value)


class TestDouble:
    @pytest.mark.parametrize("number", ["0.1", "0", "1.50", "-2.25", "1E+125", "1E-130", "123456789012345", "1E+2"])
    def test_a_number_that_a_double_gives_back_fits(self, number: str) -> None:
        fitted = fit("double", Decimal(number))
        assert isinstance(fitted, float)
        assert Decimal(repr(fitted)) == Decimal(number)

    @pytest.mark.parametrize("number", ["9" * 38, "0.12345678901234567890123456789", str(2**53 + 1)])
    def test_a_number_that_a_double_would_change_is_refused(self, number: str) -> None:
        assert "more digits than a double keeps" in refused("double", Decimal(number))

    def test_what_is_not_a_number_is_refused(self) -> None:
        assert "is not a number" in refused("double", "0.1")

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_every_finite_double_fits_bit_by_bit(self, number: float) -> None:
        fitted = fit("double", Decimal(repr(number)))
        assert isinstance(fitted, float)
        assert struct.pack(">d", fitted) == struct.pack(">d", number)


class TestDatetime:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2024-03-01T10:00:00Z", datetime(2024, 3, 1, 10)),  # noqa: DTZ001 -- as MySQL keeps it
            ("2024-03-01T10:00:00+02:00", datetime(2024, 3, 1, 8)),  # noqa: DTZ001
            ("2024-01-01T00:30:00+01:00", datetime(2023, 12, 31, 23, 30)),  # noqa: DTZ001
            ("2024-03-01T10:00:00-05:30", datetime(2024, 3, 1, 15, 30)),  # noqa: DTZ001
            ("2024-03-01T10:00:00", datetime(2024, 3, 1, 10)),  # noqa: DTZ001
            ("2024-03-01T10:00:00.123456Z", datetime(2024, 3, 1, 10, 0, 0, 123456)),  # noqa: DTZ001
            ("2024-03-01T10:00:00.1234560Z", datetime(2024, 3, 1, 10, 0, 0, 123456)),  # noqa: DTZ001
            ("1000-01-01T00:00:00Z", datetime(1000, 1, 1)),  # noqa: DTZ001
        ],
    )
    def test_an_rfc_3339_time_becomes_utc(self, text: str, expected: datetime) -> None:
        assert fit("datetime", text) == expected

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            ("0", datetime(1970, 1, 1)),  # noqa: DTZ001
            ("1709287200", datetime(2024, 3, 1, 10)),  # noqa: DTZ001
            ("1709287200.000001", datetime(2024, 3, 1, 10, 0, 0, 1)),  # noqa: DTZ001
            ("1.7092872E+9", datetime(2024, 3, 1, 10)),  # noqa: DTZ001
            ("-1.5", datetime(1969, 12, 31, 23, 59, 58, 500000)),  # noqa: DTZ001
            ("253402300799.999999", datetime(9999, 12, 31, 23, 59, 59, 999999)),  # noqa: DTZ001
        ],
    )
    def test_a_number_is_seconds_since_1970(self, number: str, expected: datetime) -> None:
        assert fit("datetime", Decimal(number)) == expected

    @pytest.mark.parametrize("value", ["2024-03-01T10:00:00.1234567Z", Decimal("1709287200.1234567")])
    def test_seven_decimals_of_a_second_are_refused(self, value: Value) -> None:
        assert "finer than a microsecond" in refused("datetime", value)

    @pytest.mark.parametrize("number", ["253402300800", "9" * 38, "1E+125", "-1E+20"])
    def test_a_number_past_the_calendar_is_refused(self, number: str) -> None:
        assert "is not a time between the years 1000 and 9999" in refused("datetime", Decimal(number))

    @pytest.mark.parametrize("value", ["0999-12-31T23:59:59Z", "1000-01-01T00:30:00+01:00", Decimal(-30_610_224_001)])
    def test_a_time_before_the_year_1000_is_refused(self, value: Value) -> None:
        assert "is before the year 1000" in refused("datetime", value)

    @pytest.mark.parametrize("text", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"])
    def test_a_zone_that_leads_out_of_the_calendar_is_refused(self, text: str) -> None:
        assert "is not a time between" in refused("datetime", text)

    @pytest.mark.parametrize("text", ["", "yesterday", "2024-02-30T00:00:00Z", "01/03/2024", "2024-03-01T25:00:00Z"])
    def test_text_that_is_not_a_time_is_refused(self, text: str) -> None:
        assert "is not an RFC 3339 time" in refused("datetime", text)

    @pytest.mark.parametrize("value", [True, b"2024-03-01", None])
    def test_what_is_neither_text_nor_number_is_refused(self, value: Value) -> None:
        assert "is not a number" in refused("datetime", value)


class TestJson:
    def test_nested_values_become_json_with_sorted_names(self) -> None:
        value: Value = {"b": [Decimal(1), None, True, {"y": "é"}], "a": b"\x00\xff"}
        assert fit("json", value) == '{"a": "AP8=", "b": [1, null, true, {"y": "é"}]}'

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            ("1", "1"),
            ("1.0", "1"),
            ("1E+2", "100"),
            ("0.1", "0.1"),
            ("-2.50", "-2.5"),
            (str(2**63 - 1), str(2**63 - 1)),
        ],
    )
    def test_a_number_keeps_its_value(self, number: str, expected: str) -> None:
        assert fit("json", [Decimal(number)]) == f"[{expected}]"

    @pytest.mark.parametrize(
        "number",
        ["9" * 38, "0.1234567890123456789", str(-(2**63) - 1), "15.497227080241027", "0.9007199254740993", "1E-23"],
    )
    def test_a_number_that_json_in_mysql_would_change_is_refused(self, number: str) -> None:
        assert "more digits than a JSON number keeps" in refused("json", {"deep": [{"er": Decimal(number)}]})

    def test_sets_become_sorted_lists(self) -> None:
        assert fit("json", frozenset({"b", "a"})) == '["a", "b"]'
        assert fit("json", frozenset({Decimal(2), Decimal(1)})) == "[1, 2]"
        assert fit("json", {"s": frozenset({b"b", b"a"})}) == '{"s": ["YQ==", "Yg=="]}'

    def test_equal_sets_give_equal_text(self) -> None:
        names = [f"name-{number}" for number in range(50)]
        assert fit("json", frozenset(names)) == fit("json", frozenset(reversed(names)))

    @given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
    def test_a_number_comes_back_from_json_as_it_was(self, number: Decimal) -> None:
        fitted = fit("json", number)
        assert isinstance(fitted, str)
        assert json.loads(fitted, parse_float=Decimal, parse_int=Decimal) == number

    @given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.floats(-180, 180)))
    def test_what_fits_comes_back_from_a_parser_that_rounds_once(self, number: float) -> None:
        """As MySQL 8.0 reads a number: its digits as a whole number, times or by a power of ten, in doubles."""
        try:
            fitted = str(fit("json", Decimal(repr(number))))
        except Misfit:
            return
        _, digits, exponent = Decimal(fitted).as_tuple()
        whole, power = float(int("".join(map(str, digits)))), 10.0 ** abs(int(exponent))
        assert (whole * power if int(exponent) > 0 else whole / power) == abs(number)


class TestVarbinary:
    def test_bytes_up_to_the_length_fit(self) -> None:
        assert fit("varbinary(2)", b"\x00\xff") == b"\x00\xff"
        assert refused("varbinary(2)", b"abc") == "3 bytes, where 2 fit"

    def test_text_is_not_taken_for_bytes(self) -> None:
        assert "is not binary" in refused("varbinary(2)", "ab")


def column(kind: str, attribute: str = "A", **options: bool) -> Column:
    return Column("A", ColumnType.parse(kind), attribute, **options)


class TestColumn:
    def test_a_dotted_attribute_is_a_path_into_maps(self) -> None:
        assert column("text", "Maker.Address.City").of({"Maker": {"Address": {"City": "Ulm"}}}) == "Ulm"

    @pytest.mark.parametrize("image", [{}, {"Maker": None}, {"Maker": {}}, {"Maker": "x"}, {"Maker": {"City": None}}])
    def test_a_path_that_leads_nowhere_is_null(self, image: dict[str, Value]) -> None:
        assert column("text", "Maker.City").of(image) is None

    @pytest.mark.parametrize("image", [{}, {"A": None}])
    def test_a_required_attribute_that_is_missing_or_null_is_refused(self, image: dict[str, Value]) -> None:
        with pytest.raises(Misfit, match="A: the attribute A is missing"):
            column("text", required=True).of(image)

    def test_a_key_is_required_without_saying_so(self) -> None:
        with pytest.raises(Misfit, match="is missing"):
            column("bigint", key=True).of({})

    @pytest.mark.parametrize("image", [{}, {"A": None}])
    def test_a_default_stands_in_for_what_is_missing_or_null(self, image: dict[str, Value]) -> None:
        assert Column("A", ColumnType.parse("boolean"), "A", default=False).of(image) is False
        assert Column("A", ColumnType.parse("bigint"), "A", required=True, default=Decimal(3)).of(image) == 3

    def test_a_default_does_not_stand_in_for_an_empty_or_false_value(self) -> None:
        assert Column("A", ColumnType.parse("text"), "A", default="x").of({"A": ""}) == ""
        assert Column("A", ColumnType.parse("boolean"), "A", default=True).of({"A": False}) is False
        assert Column("A", ColumnType.parse("bigint"), "A", default=Decimal(3)).of({"A": Decimal(0)}) == 0

    def test_a_misfit_names_the_column(self) -> None:
        with pytest.raises(Misfit, match=r"^A: 'x' is not a number$"):
            column("bigint").of({"A": "x"})

    def test_a_long_value_is_shortened_in_the_message(self) -> None:
        with pytest.raises(Misfit) as caught:
            column("bigint").of({"A": "x" * 1000})
        assert len(str(caught.value)) < 100

    def test_a_text_key_cannot_end_with_a_space(self) -> None:
        with pytest.raises(Misfit, match="cannot end with a space"):
            column("varchar(10)", key=True).of({"A": "a "})
        assert column("varchar(10)", key=True).of({"A": " a"}) == " a"
        assert column("varchar(10)").of({"A": "a "}) == "a "

    @pytest.mark.parametrize("name", ["", "1a", "a b", "a`b", "_version", "ä", "a" * 49])
    def test_a_name_that_sql_could_trip_over_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="is not a column name"):
            Column(name, ColumnType.parse("bigint"), "A")

    @pytest.mark.parametrize("kind", ["text", "json", "boolean", "double", "datetime"])
    def test_only_exact_types_can_be_keys(self, kind: str) -> None:
        with pytest.raises(ValueError, match="a key column cannot be"):
            column(kind, key=True)

    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_large_columns_cannot_be_indexed(self, kind: str) -> None:
        with pytest.raises(ValueError, match="cannot be indexed"):
            column(kind, index=True)

    def test_a_default_must_fit_the_column(self) -> None:
        with pytest.raises(Misfit, match="more than 1 decimals"):
            Column("A", ColumnType.parse("decimal(3,1)"), "A", default=Decimal("0.25"))


class TestDefaults:
    @pytest.mark.parametrize(
        ("kind", "declared", "expected"),
        [
            ("decimal(18,4)", "0.10", Decimal("0.10")),
            ("decimal(18,4)", 3, Decimal(3)),
            ("bigint", 0, Decimal(0)),
            ("double", "0.1", Decimal("0.1")),
            ("datetime", 0, Decimal(0)),
            ("varchar(9)", "1", "1"),
            ("boolean", False, False),
            ("text", None, None),
        ],
    )
    def test_a_declared_default_becomes_an_attributes_value(
        self, kind: str, declared: bool | int | str | None, expected: Value
    ) -> None:
        default = ColumnType.parse(kind).default(declared)
        assert default == expected
        assert type(default) is type(expected)

    def test_a_default_that_is_not_a_number_is_refused(self) -> None:
        with pytest.raises(Misfit, match="'many' is not a number"):
            ColumnType.parse("bigint").default("many")

    @pytest.mark.parametrize("kind", ["bigint", "decimal(18,4)", "double"])
    @pytest.mark.parametrize("declared", ["NaN", "sNaN", "Infinity", "-Infinity"])
    def test_a_default_that_no_number_column_holds_is_refused(self, kind: str, declared: str) -> None:
        parsed = ColumnType.parse(kind)
        with pytest.raises(Misfit):
            Column("A", parsed, "A", default=parsed.default(declared))


KEY = column("bigint", key=True)


class TestProjection:
    @pytest.mark.parametrize("name", ["", "Product", "1a", "a-b", "a" * 41])
    def test_a_name_that_is_not_an_identifier_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="is not a projection's name"):
            Projection(name, "View", (KEY,))

    @pytest.mark.parametrize("view", ["", "a b", "a`b", "cqrs_checkpoint", "CQRS_x", "product_v1", "Product_V2"])
    def test_a_view_that_could_hide_our_own_tables_is_refused(self, view: str) -> None:
        with pytest.raises(ValueError, match="cannot be the view's name"):
            Projection("product", view, (KEY,))

    def test_two_columns_whose_names_differ_in_case_only_are_refused(self) -> None:
        twin = Column("a", ColumnType.parse("bigint"), "B")
        with pytest.raises(ValueError, match="two columns have the same name"):
            Projection("product", "Product", (KEY, twin))

    @pytest.mark.parametrize("columns", [(), (column("bigint"),)])
    def test_a_projection_without_a_key_is_refused(self, columns: tuple[Column, ...]) -> None:
        with pytest.raises(ValueError, match="no column is the key"):
            Projection("product", "Product", columns)

    def test_keys_and_values_are_told_apart(self) -> None:
        product = default_product()
        assert [key.name for key in product.keys] == ["ProductId"]
        assert [value.name for value in product.values] == ["Name", "Price", "OutOfStock"]
        assert product.key_attributes == {"ProductId"}

    def test_a_column_is_found_whatever_its_case(self) -> None:
        found = default_product().column("productid")
        assert found is not None
        assert found.name == "ProductId"
        assert default_product().column("Colour") is None

    def test_the_declaration_of_the_default_is_stable(self) -> None:
        declared = json.loads(declaration_of(default_product()))
        assert declared["view"] == "Product"
        assert declared["columns"][0] == {
            "attribute": "ProductId",
            "default": None,
            "index": False,
            "key": True,
            "name": "ProductId",
            "required": True,
            "type": "bigint",
        }
        assert [(c["name"], c["type"], c["default"]) for c in declared["columns"][1:]] == [
            ("Name", "varchar(255)", None),
            ("Price", "decimal(18,4)", None),
            ("OutOfStock", "boolean", "False"),
        ]
        assert declaration_of(default_product()) == declaration_of(default_product())

    def test_a_declaration_changes_with_its_columns(self) -> None:
        one = declaration_of(Projection("product", "Product", (KEY,)))
        indexed = declaration_of(Projection("product", "Product", (column("bigint", key=True, index=True),)))
        assert one != indexed

    def test_conditions_belong_to_the_declaration_and_come_back_as_they_were(self) -> None:
        where = conditions({"Stock.Count": 0, "OutOfStock": True, "Kind": "lamp"})
        narrow = Projection("narrow", "Narrow", (KEY,), where)
        assert projection_of("narrow", declaration_of(narrow)) == narrow
        assert declaration_of(narrow) != declaration_of(Projection("narrow", "Narrow", (KEY,)))

    def test_projections_differ_where_a_condition_or_a_default_is_true_in_one_and_1_in_the_other(self) -> None:
        """Python's True equals 1; a rebuild asks whether two projections are the same."""
        true, one = (Projection("narrow", "Narrow", (KEY,), conditions({"Kind": value})) for value in (True, 1))
        assert true != one
        assert true == Projection("narrow", "Narrow", (KEY,), conditions({"Kind": True}))
        kind = ColumnType.parse("json")
        assert Column("Data", kind, "Data", default=True) != Column("Data", kind, "Data", default=Decimal(1))

    @pytest.mark.parametrize(
        ("image", "included"),
        [
            ({"OutOfStock": True, "Stock": {"Count": Decimal(0)}}, True),
            ({"OutOfStock": False, "Stock": {"Count": Decimal(0)}}, False),
            ({"OutOfStock": True, "Stock": {"Count": Decimal(1)}}, False),
            ({"OutOfStock": True, "Stock": "none"}, False),
            ({"OutOfStock": True}, False),
            ({"OutOfStock": Decimal(1), "Stock": {"Count": Decimal(0)}}, False),
            ({"OutOfStock": True, "Stock": {"Count": False}}, False),
        ],
    )
    def test_an_item_is_in_the_view_where_all_conditions_hold(self, image: Item, included: bool) -> None:
        narrow = Projection("narrow", "Narrow", (KEY,), conditions({"Stock.Count": 0, "OutOfStock": True}))
        assert narrow.includes(image) is included
