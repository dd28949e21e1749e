"""Rows of products in CSV and JSON lines, and the file of the refused ones."""

from __future__ import annotations

import csv
import gzip
import io
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.errors import CqrsctlError
from cqrsctl.write_model.import_rows import Format, Reject, RejectsFile, SourceRow, format_of, read
from cqrsctl.write_model.product import InvalidProduct, product

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "ProductId,Name,Price,OutOfStock"


def from_csv(text: str) -> list[SourceRow]:
    return list(read(io.StringIO(text, newline=""), Format.CSV))


def from_jsonl(text: str) -> list[SourceRow]:
    return list(read(io.StringIO(text, newline=""), Format.JSONL))


def fault(row: SourceRow) -> str:
    with pytest.raises(InvalidProduct) as caught:
        row.fields()
    return caught.value.message


def header_fault(text: str) -> CqrsctlError:
    with pytest.raises(CqrsctlError) as caught:
        from_csv(text)
    assert caught.value.code == "bad_header"
    return caught.value


class TestCsv:
    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    def test_rows_are_read_with_the_lines_where_they_stand(self, ending: str) -> None:
        rows = from_csv(ending.join([HEADER, "1,Lamp,19.90,false", "2,Desk,5,true", ""]))
        assert rows == [
            SourceRow(2, {"ProductId": "1", "Name": "Lamp", "Price": "19.90", "OutOfStock": "false"}),
            SourceRow(3, {"ProductId": "2", "Name": "Desk", "Price": "5", "OutOfStock": "true"}),
        ]

    def test_the_last_line_needs_no_ending(self) -> None:
        assert [row.line for row in from_csv(f"{HEADER}\n1,Lamp,1,")] == [2]

    def test_a_byte_order_mark_is_no_part_of_the_header(self, tmp_path: Path) -> None:
        path = tmp_path / "products.csv"
        path.write_bytes(f"{HEADER}\r\n1,Lampe für Öl,1,\r\n".encode("utf-8-sig"))
        with path.open(encoding="utf-8-sig", newline="") as file:
            assert [row.fields()["Name"] for row in read(file, Format.CSV)] == ["Lampe für Öl"]

    def test_columns_may_stand_in_any_order(self) -> None:
        (row,) = from_csv("Price,OutOfStock,Name,ProductId\n1,,Lamp,7\n")
        assert row.fields() == {"ProductId": "7", "Name": "Lamp", "Price": "1", "OutOfStock": ""}

    def test_spaces_around_a_columns_name_do_not_matter(self) -> None:
        assert len(from_csv("ProductId, Name ,Price,OutOfStock\n1,a,1,\n")) == 1

    def test_a_quoted_line_break_belongs_to_its_cell_and_counts_as_a_line(self) -> None:
        rows = from_csv(f'{HEADER}\n1,"two\r\nlines",1,\n2,Desk,2,\n')
        assert [(row.line, row.fields()["Name"]) for row in rows] == [(2, "two\r\nlines"), (4, "Desk")]

    def test_doubled_quotes_and_commas_in_quotes_are_text(self) -> None:
        (row,) = from_csv(f'{HEADER}\n1,"a ""big"", lamp",1,\n')
        assert row.fields()["Name"] == 'a "big", lamp'

    def test_blank_lines_are_left_out_but_counted(self) -> None:
        assert [row.line for row in from_csv(f"{HEADER}\n\n1,a,1,\n\n\n2,b,2,\n\n")] == [3, 6]

    @pytest.mark.parametrize(("cells", "count"), [("1,Lamp", 2), ("1,Lamp,19,90,false", 5), ("1", 1)])
    def test_a_row_with_another_number_of_cells_is_malformed(self, cells: str, count: int) -> None:
        bad, good = from_csv(f"{HEADER}\n{cells}\n2,Desk,2,\n")
        assert fault(bad) == f"{count} cells, where the header has 4"
        assert bad.line == 2
        assert good.fields()["ProductId"] == "2"

    def test_a_malformed_row_goes_to_the_rejects_as_it_stands(self) -> None:
        rows = from_csv(f'{HEADER}\n1,Lamp\n2,"a"b,1,\n')
        assert rows[0].rejected("why") == Reject(2, "why", {"Text": "1,Lamp\n"})
        assert rows[1].rejected("why") == Reject(3, "why", {"Text": '2,"a"b,1,\n'})

    def test_reading_goes_on_after_malformed_quotes(self) -> None:
        rows = from_csv(f'{HEADER}\n1,"a"b,1,\n2,Desk,2,\n3,"c" ,3,\n4,Vase,4,\n')
        assert [row.line for row in rows] == [2, 3, 4, 5]
        assert "not a CSV row" in fault(rows[0])
        assert "not a CSV row" in fault(rows[2])
        assert [rows[index].fields()["ProductId"] for index in (1, 3)] == ["2", "4"]

    def test_a_quote_that_is_never_closed_is_reported_at_the_line_where_its_row_begins(self) -> None:
        rows = from_csv(f'{HEADER}\n1,Lamp,1,\n2,"Desk,2,\n3,Vase,3,\n')
        assert [row.line for row in rows] == [2, 3, 4]
        assert fault(rows[1]) == "not a CSV row: a quoted cell begins here that is not closed"
        assert rows[1].rejected("why").fields == {"Text": '2,"Desk,2,\n'}
        assert rows[2].fields()["Name"] == "Vase"

    @pytest.mark.parametrize("ending", ["", '6,"Oak, big",6,\n', '6,Oak",6,\n', '6,"Oak,6,\n'])
    def test_a_quote_that_is_not_closed_swallows_no_row_whatever_follows(self, ending: str) -> None:
        rows = from_csv(f'{HEADER}\n1,"Lamp,1,\nbad,2\n\n,,,\n' + "5,Desk,5,\n" * 1_000 + ending)

        assert [row.line for row in rows if row.fault] == [2, 3, *([1_006] if ending == '6,"Oak,6,\n' else [])]
        assert sum(row.content.get("ProductId") == "5" for row in rows) == 1_000

    def test_a_quote_without_end_is_abandoned_after_as_many_lines_as_a_name_may_have(self) -> None:
        rows = from_csv(f'{HEADER}\n1,"Lamp,1,\n' + "x,bad,5,\n" * 1_000 + '7,"two\nlines",7,\n')

        assert [row.line for row in rows] == [*range(2, 1_004)]
        assert rows[-1].fields()["Name"] == "two\nlines"

    def test_lines_that_look_like_rows_stay_in_their_cell_unless_they_are_products(self) -> None:
        (row,) = from_csv(f'{HEADER}\n1,"a list:\nred,green,blue,1\n2,x,y,z\nend",1,\n')
        assert row.fields()["Name"] == "a list:\nred,green,blue,1\n2,x,y,z\nend"

    def test_empty_rows_and_empty_cells_at_the_end_are_left_out(self) -> None:
        rows = from_csv(f"{HEADER},,\n,,,\n , ,,,,\n1,Lamp,1,true,,\n2,Desk,2,,,,,,\n3,Vase,3,,,x\n")
        assert [row.line for row in rows] == [4, 5, 6]
        assert rows[0].fields() == {"ProductId": "1", "Name": "Lamp", "Price": "1", "OutOfStock": "true"}
        assert rows[1].fields()["OutOfStock"] == ""
        assert fault(rows[2]) == "6 cells, where the header has 4"

    @pytest.mark.parametrize("mark", [";", "\t"])
    def test_semicolons_and_tabs_separate_cells_if_they_separate_the_header(self, mark: str) -> None:
        header = mark.join(('"ProductId"', "Name", "Price", "OutOfStock"))
        one, bad = from_csv(f'{header}\r\n1{mark}"Lamp{mark} big, red"{mark}19.90{mark}\r\n2{mark}Desk\r\n')
        assert one.fields() == {"ProductId": "1", "Name": f"Lamp{mark} big, red", "Price": "19.90", "OutOfStock": ""}
        assert fault(bad) == "2 cells, where the header has 4"

    def test_a_cell_larger_than_csv_allows_is_malformed(self) -> None:
        rows = from_csv(f"{HEADER}\n1,{'a' * (csv.field_size_limit() + 1)},1,\n2,Desk,2,\n")
        assert "not a CSV row" in fault(rows[0])
        assert rows[-1].fields()["ProductId"] == "2"

    def test_a_nul_in_a_cell_is_a_bad_product_not_a_crash(self) -> None:
        bad, good = from_csv(f"{HEADER}\n1,La\0mp,1,\n2,Desk,2,\n")
        with pytest.raises(InvalidProduct):
            product(bad.fields())
        assert product(good.fields()).name == "Desk"

    def test_bytes_that_are_not_utf_8_are_a_bad_product_not_a_crash(self, tmp_path: Path) -> None:
        path = tmp_path / "products.csv"
        path.write_bytes(f"{HEADER}\n1,caf".encode() + b"\xe9,1,\n2,Desk,2,\n")
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            bad, good = read(file, Format.CSV)
        with pytest.raises(InvalidProduct, match="not valid UTF-8"):
            product(bad.fields())
        assert product(good.fields()).name == "Desk"

    def test_a_row_of_a_rejects_file_reads_without_its_line_and_reason(self) -> None:
        (row,) = from_csv(f"{HEADER},Line,Reason\n1,Lamp,1,,17,too dear\n")
        assert row.fields() == {"ProductId": "1", "Name": "Lamp", "Price": "1", "OutOfStock": ""}


class TestHeader:
    def test_a_missing_column_is_named(self) -> None:
        error = header_fault("ProductId,Name,OutOfStock\n1,a,\n")
        assert "(Price missing)" in error.message
        assert error.hint == f"The first line must be: {HEADER}"

    def test_an_unknown_column_is_named(self) -> None:
        assert "(unknown: 'Colour')" in header_fault(f"{HEADER},Colour\n").message

    def test_a_column_that_stands_twice_is_named(self) -> None:
        assert "(twice: Price)" in header_fault(f"{HEADER},Price\n").message

    def test_all_faults_are_told_at_once(self) -> None:
        assert (
            "(Price missing; unknown: 'Prize'; twice: Name)"
            in header_fault("ProductId,Name,Name,Prize,OutOfStock\n").message
        )

    @pytest.mark.parametrize("text", ["", "\n", "1,Lamp,19.90,false\n", "a;b;c;d\n"])
    def test_a_file_without_a_header_is_refused(self, text: str) -> None:
        assert "ProductId, Name, Price, OutOfStock missing" in header_fault(text).message

    def test_a_header_that_is_not_csv_is_refused(self) -> None:
        assert "Line 1 is not a CSV header" in header_fault('"ProductId"x,Name\n').message

    def test_an_unknown_column_beside_semicolons_is_named(self) -> None:
        assert "(unknown: 'Colour')" in header_fault(f"{HEADER},Colour\n".replace(",", ";")).message

    @pytest.mark.parametrize("form", list(Format))
    def test_a_byte_order_mark_at_the_start_is_left_out(self, form: Format) -> None:
        text = f"{HEADER}\n1,Lamp,1," if form is Format.CSV else '{"ProductId": 1, "Name": "Lamp", "Price": 1}'
        (row,) = read(io.StringIO(f"\ufeff{text}\n", newline=""), form)
        assert product(row.fields()).name == "Lamp"


class TestForeignFiles:
    @pytest.mark.parametrize(
        ("content", "what", "command"),
        [
            (gzip.compress(HEADER.encode(), mtime=0), "is compressed by gzip", "gunzip -c"),
            (b"PK\x03\x04...\n", "is a zip archive or a spreadsheet", "unzip -p"),
            (HEADER.encode("utf-16"), "is in UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8"),
            (HEADER.encode("utf-16-le"), "is in UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8"),
        ],
    )
    @pytest.mark.parametrize("name", ["my products.csv", "-"])
    def test_a_file_in_another_encoding_is_named_with_the_command_that_converts_it(
        self, content: bytes, what: str, command: str, name: str
    ) -> None:
        file = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", errors="surrogateescape", newline="")
        with pytest.raises(CqrsctlError, match=what) as caught:
            read(file, Format.CSV, name)
        source = f"… | {command}" if name == "-" else f"{command} 'my products.csv'"
        assert caught.value.code == "foreign_file"
        assert caught.value.hint is not None
        assert caught.value.hint.endswith(f"{source} | cqrsctl product import -")

    def test_compressed_json_lines_are_imported_as_such(self) -> None:
        file = io.StringIO("\x1f\udc8b...")
        with pytest.raises(CqrsctlError) as caught:
            read(file, Format.CSV, "export.json.gz")
        assert caught.value.hint == "Convert it: gunzip -c export.json.gz | cqrsctl product import - --format jsonl"

    @pytest.mark.parametrize("form", list(Format))
    @pytest.mark.parametrize(
        ("text", "command"),
        [
            ('[{"ProductId": 1}]', "jq -c '.[]'"),
            ('[\n  {"ProductId": 1},\n', "jq -c '.[]'"),
            ('{"Items": [{"ProductId": {"N": "1"}}], "Count": 1}', "jq -c '.Items[]'"),
            ('{\n    "Items": [\n', "jq -c '.Items[]'"),
            ('{\n    "Item": {\n', "jq -c ."),
            ('{\n  "ProductId": 1,\n', "jq -c ."),
        ],
    )
    def test_a_json_document_is_named_with_the_command_that_makes_lines_of_it(
        self, form: Format, text: str, command: str
    ) -> None:
        with pytest.raises(CqrsctlError) as caught:
            read(io.StringIO(text, newline=""), form, "p.json")
        assert caught.value.hint == f"Convert it: {command} p.json | cqrsctl product import - --format jsonl"

    def test_json_lines_that_are_read_as_csv_are_named_with_the_option(self) -> None:
        with pytest.raises(CqrsctlError, match=r"^p.txt is JSON lines, not CSV") as caught:
            read(io.StringIO('{"ProductId": 1}\n'), Format.CSV, "p.txt")
        assert caught.value.hint == "Import it as that: cqrsctl product import p.txt --format jsonl"

    @pytest.mark.parametrize(
        ("name", "form"),
        [("a.json", Format.JSONL), ("a.ndjson", Format.JSONL), ("a.txt", Format.CSV), ("-", Format.CSV)],
    )
    def test_the_format_is_known_by_the_ending(self, name: str, form: Format) -> None:
        assert format_of(name) is form


class TestJsonLines:
    def test_objects_are_read_with_the_lines_where_they_stand(self) -> None:
        rows = from_jsonl('{"ProductId": 1, "Name": "Lamp"}\r\n\n   \n{"ProductId": 2}')
        assert rows == [SourceRow(1, {"ProductId": 1, "Name": "Lamp"}), SourceRow(4, {"ProductId": 2})]

    @pytest.mark.parametrize("digits", ["0.1", "19.90", "0.12345678901234567890123456789", "1e-30"])
    def test_a_number_keeps_its_digits(self, digits: str) -> None:
        (row,) = from_jsonl(f'{{"Price": {digits}}}\n')
        price = row.fields()["Price"]
        assert isinstance(price, Decimal)
        assert price.as_tuple() == Decimal(digits).as_tuple()

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_a_constant_that_json_does_not_have_is_a_bad_price(self, constant: str) -> None:
        (row,) = from_jsonl(f'{{"ProductId": 1, "Name": "Lamp", "Price": {constant}}}\n')
        with pytest.raises(InvalidProduct, match=f"Price: '{constant}' is not a number"):
            product(row.fields())

    @pytest.mark.parametrize("text", ["[1, 2]", '"text"', "5", "null", "true"])
    def test_what_is_not_an_object_is_malformed(self, text: str) -> None:
        bad, good = from_jsonl(f'{text}\n{{"ProductId": 2}}\n')
        assert fault(bad) == "not a JSON object"
        assert bad.rejected("why").fields == {"Text": text}
        assert good.fields() == {"ProductId": 2}

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "ProductId,Name",
            "{'ProductId': 1}",
            '{"a": 1} {"b": 2}',
            pytest.param("[" * 100_000, id="too deep"),
            pytest.param(f'{{"a": {"1" * 5_000}}}', id="too many digits"),
            '{"Price": 1e99999999999999999999}',
        ],
    )
    def test_what_is_not_json_is_malformed_and_reading_goes_on(self, text: str) -> None:
        bad, good = from_jsonl(f'{text}\r\n{{"ProductId": 2}}\n')
        assert fault(bad).startswith("not JSON: ")
        assert bad.rejected("why").fields == {"Text": text}
        assert (good.line, good.fields()) == (2, {"ProductId": 2})

    @pytest.mark.parametrize(
        "text",
        [
            '{"Item": {"ProductId": {"N": "1"}, "Name": {"S": "Lamp"}, "Price": {"N": "19.90"}}}',
            '{"ProductId": {"N": "1"}, "Name": {"S": "Lamp"}, "Price": {"N": "19.90"}}',
        ],
    )
    def test_items_as_dynamodb_writes_them_are_products(self, text: str) -> None:
        (row,) = from_jsonl(text)
        assert product(row.fields()).fields() == {
            "ProductId": 1, "Name": "Lamp", "Price": Decimal("19.90"), "OutOfStock": False
        }  # fmt: skip

    @pytest.mark.parametrize("attribute", ['{"N": "x"}', '{"What": 1}', '{"S": 5}'])
    def test_an_item_whose_values_are_not_of_their_types_is_malformed(self, attribute: str) -> None:
        bad, good = from_jsonl(f'{{"Item": {{"ProductId": {attribute}}}}}\n{{"ProductId": 2}}\n')
        assert fault(bad).startswith("not an item of DynamoDB: ")
        assert (good.line, good.fields()) == (2, {"ProductId": 2})

    def test_bytes_that_are_not_utf_8_are_a_bad_product_with_its_line(self) -> None:
        bad, good = from_jsonl('{"ProductId": 1, "Name": "caf\udce9", "Price": 1}\n{"ProductId": 2}\n')
        with pytest.raises(InvalidProduct, match="not valid UTF-8"):
            product(bad.fields())
        assert (bad.line, good.line) == (1, 2)

    def test_a_row_of_a_rejects_file_reads_without_its_line_and_reason(self) -> None:
        (row,) = from_jsonl('{"ProductId": 1, "Line": 17, "Reason": "too dear"}\n')
        assert row.fields() == {"ProductId": 1}


class TestRejectsFile:
    @pytest.mark.parametrize("form", list(Format))
    def test_no_file_is_made_where_nothing_is_refused(self, tmp_path: Path, form: Format) -> None:
        path = tmp_path / "rejects"
        with RejectsFile(path, form):
            assert not path.exists()
        assert not path.exists()

    def test_the_file_is_made_with_the_first_refused_row(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.csv"
        with RejectsFile(path, Format.CSV) as rejects:
            rejects.add(Reject(3, "Price missing", {"ProductId": "1", "Name": 'a "lamp",\nbig'}))
            rejects.add(Reject(9, "not a CSV row", {"Text": '1,"a"b\r\n'}))
        assert path.read_text(encoding="utf-8") == (
            f'{HEADER},Line,Reason,Text\n1,"a ""lamp"",\nbig",,,3,Price missing,\n,,,,9,not a CSV row,"1,""a""b"\n'
        )

    def test_a_mended_csv_of_rejects_can_be_imported(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.csv"
        with RejectsFile(path, Format.CSV) as rejects:
            for row in from_csv(f'{HEADER}\n1,"Öl, ""fein""\n",19;90,yes\n'):
                rejects.add(row.rejected("Price: '19;90' is not a number"))
        repaired = path.read_text(encoding="utf-8").replace("19;90", "19.90", 1)
        (row,) = from_csv(repaired)
        valid = product(row.fields())
        assert (valid.name, valid.price, valid.out_of_stock) == ('Öl, "fein"\n', Decimal("19.90"), True)

    def test_a_mended_file_of_rejected_json_lines_can_be_imported(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.jsonl"
        with RejectsFile(path, Format.JSONL) as rejects:
            for row in from_jsonl('{"ProductId": 1, "Name": "Öl", "Price": 0.12345, "OutOfStock": true}\n'):
                rejects.add(row.rejected("Price: '0.12345' has more than 4 decimals"))
        written = path.read_text(encoding="utf-8")
        assert json.loads(written)["Line"] == 1
        assert json.loads(written)["Reason"] == "Price: '0.12345' has more than 4 decimals"
        (row,) = from_jsonl(written.replace("0.12345", "0.1234", 1))
        assert product(row.fields()).price == Decimal("0.1234")

    def test_bytes_that_are_not_utf_8_are_written_as_they_were(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.csv"
        with RejectsFile(path, Format.CSV) as rejects:
            rejects.add(Reject(2, "not valid UTF-8", {"Name": "caf\udce9"}))
        assert b",caf\xe9," in path.read_bytes()

    @pytest.mark.parametrize("form", list(Format))
    def test_a_resumed_import_adds_to_the_file(self, tmp_path: Path, form: Format) -> None:
        path = tmp_path / "rejects"
        for line in (3, 9):
            with RejectsFile(path, form, resumed=line > 3) as rejects:
                rejects.add(Reject(line, "Price missing", {"ProductId": "1"}))
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) == (3 if form is Format.CSV else 2)
        assert sum("Price missing" in line for line in lines) == 2

    def test_a_file_that_cannot_be_written_is_told_with_a_hint(self, tmp_path: Path) -> None:
        path = tmp_path / "no such folder" / "rejects.csv"
        with RejectsFile(path, Format.CSV) as rejects, pytest.raises(CqrsctlError) as caught:
            rejects.add(Reject(2, "why", {}))
        assert str(path) in caught.value.message
        assert caught.value.hint == "Choose another with --rejects."
