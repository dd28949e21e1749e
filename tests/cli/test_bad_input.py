"""What is typed wrong, or is not there: a clear error with a hint, the right exit code, nothing half-done."""

from __future__ import annotations

import csv
import gzip
import json
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import COMMAND

if TYPE_CHECKING:
    from tests.conftest import Cqrsctl, Result

HEADER = "ProductId,Name,Price,OutOfStock\n"


def error(result: Result) -> dict[str, str]:
    """The error of a command run with -o json."""
    content: dict[str, str] = json.loads(result.err.splitlines()[-1])["error"]
    return content


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("price", ["1e400", "NaN", "-3", "19,90", "0." + "1" * 30, "Infinity", "", "1_000"])
def test_a_price_that_cannot_be_kept_exactly_is_refused(cqrsctl: Cqrsctl, price: str) -> None:
    cqrsctl.ok("table", "create")

    result = cqrsctl("product", "put", "1", "--name", "Lamp", f"--price={price}", "-o", "json")

    assert result.code == 2
    assert "Price" in error(result)["message"]
    assert cqrsctl("product", "get", "1").code == 1


@pytest.mark.parametrize("product", ["abc", str(2**63), "1.5"])
def test_an_id_that_is_no_whole_number_of_63_bits_is_refused(cqrsctl: Cqrsctl, product: str) -> None:
    for command in (["get", product], ["delete", product], ["put", product, "--name", "x", "--price", "1"]):
        result = cqrsctl("product", *command, "-o", "json")
        assert result.code == 2
        assert "ProductId" in error(result)["message"]


@pytest.mark.parametrize("option", ["--min-price", "--max-price"])
def test_a_price_to_look_for_is_named_by_its_option(cqrsctl: Cqrsctl, option: str) -> None:
    result = cqrsctl("query", "list", option, "cheap", "-o", "json")

    assert result.code == 2
    assert error(result)["message"].startswith(f"{option}: ")


def test_a_name_of_300_characters_is_refused_and_one_with_quotes_and_emoji_is_not(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    name = """Bob's "best" lamp 💡; DROP TABLE x -- %s"""

    cqrsctl.ok("product", "put", "1", "--name", name, "--price", "1")
    refused = cqrsctl("product", "put", "2", "--name", "x" * 300, "--price", "1")
    cqrsctl.ok("project", "--once")

    assert refused.code == 2
    assert "300 characters" in refused.err
    assert cqrsctl.ok("query", "get", "1", "-o", "json").json()["Name"] == name
    assert cqrsctl.ok("query", "list", "--name-like", "💡", "-o", "json").json()[0]["ProductId"] == 1


def test_bad_rows_go_to_the_rejects_file_and_the_good_ones_in(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    content = (
        "\ufeff" + HEADER + '1,"Lamp, ""big""",19.90,true\n2,Tray,1e400,false\n3,N\0L,1,false\n4,,1,false\n'
        "abc,Mat,1,false\n5,Mat,1,maybe\n6,Mat\n7,Mug,2.5,\n"
    ).replace("\n", "\r\n")
    (cqrsctl.directory / "p.csv").write_bytes(content.encode() + b"8,caf\xe9,1,false\r\n")

    result = cqrsctl("product", "import", "p.csv", "-o", "json")
    rejects = (cqrsctl.directory / "p.rejects.csv").read_text(errors="surrogateescape").splitlines()

    assert result.code == 1
    assert result.json()["imported"] == 2
    assert "7 rows were rejected" in error(result)["message"]
    refused = list(csv.DictReader(rejects))
    assert [row["Line"] for row in refused] == ["3", "4", "5", "6", "7", "8", "10"]
    assert refused[5]["Text"] == "6,Mat"
    assert cqrsctl.ok("product", "get", "1", "-o", "json").json()["Name"] == 'Lamp, "big"'
    assert cqrsctl("product", "get", "2").code == 1


def test_a_quote_that_is_not_closed_costs_its_own_row_only(cqrsctl: Cqrsctl) -> None:
    rows = "".join(f"{number},Lamp,1,\n" for number in range(3, 5_003))

    result = cqrsctl("product", "import", "-", "--dry-run", "-o", "json", stdin=f'{HEADER}1,a,1,\n2,"Lamp,1,\n{rows}')

    assert result.code == 1
    assert (result.json()["valid"], result.json()["rejected"]) == (5_001, 1)
    assert error(result)["message"] == "1 row was rejected; see products.rejects.csv for line and reason."
    (reject,) = csv.DictReader((cqrsctl.directory / "products.rejects.csv").read_text().splitlines())
    assert (reject["Line"], reject["Text"]) == ("3", '2,"Lamp,1,')


def test_one_impossible_number_does_not_end_an_import(cqrsctl: Cqrsctl) -> None:
    lines = (
        '\ufeff{"ProductId": 1, "Name": "a", "Price": 1e99999999999999999999}\n{"Item": {"ProductId": {"N": "2"}}}\n'
    )
    (cqrsctl.directory / "export.json").write_text(lines, encoding="utf-8")

    assert cqrsctl("product", "import", "export.json", "--dry-run").code == 1

    rejects = (cqrsctl.directory / "export.rejects.jsonl").read_text().splitlines()
    assert [(row["Line"], row["Reason"]) for row in map(json.loads, rejects)] == [
        (1, "not JSON: a number has too many digits"),
        (2, "Name and Price missing"),
    ]


def test_the_hint_imports_the_rejects_file_in_its_format(cqrsctl: Cqrsctl) -> None:
    arguments = ("product", "import", "-", "--format", "jsonl", "--dry-run", "-o", "json", "--rejects")

    assert error(cqrsctl(*arguments, "bad rows", stdin="{}"))["hint"].endswith(" 'bad rows' --format jsonl")
    assert error(cqrsctl(*arguments, "bad.jsonl", stdin="{}"))["hint"].endswith(" bad.jsonl")


def test_a_folder_and_a_closed_standard_input_are_no_files_to_import(cqrsctl: Cqrsctl) -> None:
    folder = cqrsctl("product", "import", ".", "-o", "json")
    closed = subprocess.run(
        ["sh", "-c", f"{COMMAND} product import - --dry-run -o json <&-"],
        capture_output=True,
        env=cqrsctl.environment(),
        cwd=cqrsctl.directory,
        check=False,
    )

    assert (folder.code, error(folder)["message"]) == (2, ".: Is a directory.")
    assert (closed.returncode, b"Standard input is closed." in closed.stderr) == (2, True)


def test_a_compressed_file_is_named_with_the_command_that_imports_it(cqrsctl: Cqrsctl) -> None:
    content = (HEADER + "1,Lamp,1,\n").encode()
    (cqrsctl.directory / "p.csv.gz").write_bytes(gzip.compress(content))

    result = cqrsctl("product", "import", "p.csv.gz", "--dry-run", "-o", "json")

    assert result.code == 1
    assert error(result)["hint"] == "Convert it: gunzip -c p.csv.gz | cqrsctl product import -"


def test_a_fixed_rejects_file_can_be_imported(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    assert cqrsctl("product", "import", "-", "--rejects", "bad.csv", stdin=HEADER + '1,Lamp,"19,90",no\n').code == 1
    rejects = cqrsctl.directory / "bad.csv"
    rejects.write_text(rejects.read_text().replace('"19,90"', "19.90", 1))

    cqrsctl.ok("product", "import", "bad.csv")

    assert cqrsctl.ok("product", "get", "1", "-o", "json").json()["Price"] == "19.90"


@pytest.mark.parametrize(
    ("header", "said"),
    [("ProductId,Name,OutOfStock\n1,x,true", "Price missing"), ("ProductId,Name,Price,OutOfStock,Colour\n", "Colour")],
)
def test_a_header_that_is_not_of_products_stops_the_import_before_it_begins(
    cqrsctl: Cqrsctl, header: str, said: str
) -> None:
    cqrsctl.ok("table", "create")

    result = cqrsctl("product", "import", "-", stdin=header)

    assert result.code == 1
    assert said in result.err
    assert "Nothing was imported" in result.err


def test_json_lines_keep_their_digits_and_bad_ones_are_rejected(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    lines = [
        '{"ProductId": 1, "Name": "Lamp", "Price": 12345678901234.5678}',
        '{"ProductId": 2, "Name": "Lamp", "Price": NaN}',
        "[1]",
        '{"ProductId": 1.5, "Name": "Lamp", "Price": 1}',
        "{",
        '{"ProductId": 3, "Name": "Tray", "Price": "2", "OutOfStock": true}',
    ]

    result = cqrsctl("product", "import", "-", "--format", "jsonl", "-o", "json", stdin="\n".join(lines))

    assert result.code == 1
    assert (result.json()["imported"], result.json()["rejected"]) == (2, 4)
    assert cqrsctl.ok("product", "get", "1", "-o", "json").json()["Price"] == "12345678901234.5678"
    rejects = [json.loads(line) for line in (cqrsctl.directory / "products.rejects.jsonl").read_text().splitlines()]
    assert [reject["Line"] for reject in rejects] == [2, 3, 4, 5]


def test_no_credentials_is_exit_3_with_a_hint(cqrsctl: Cqrsctl) -> None:
    (cqrsctl.directory / "cqrsctl.toml").write_text('[environments.prod]\nregion = "eu-west-1"\n')

    result = cqrsctl("-e", "prod", "table", "status", "-o", "json", variables={"AWS_EC2_METADATA_DISABLED": "true"})

    assert result.code == 3
    assert error(result)["code"] == "credentials"
    assert "aws configure" in error(result)["hint"]


def test_no_region_and_an_unknown_profile_are_exit_3(cqrsctl: Cqrsctl) -> None:
    (cqrsctl.directory / "cqrsctl.toml").write_text("[environments.prod]\n")

    for arguments in (["-e", "prod"], ["-e", "prod", "--region", "eu-west-1", "--profile", "nobody"]):
        result = cqrsctl(*arguments, "table", "status", "-o", "json")
        assert result.code == 3, result


def test_an_endpoint_that_does_not_answer_is_exit_4(cqrsctl: Cqrsctl) -> None:
    result = cqrsctl("--endpoint-url", f"http://127.0.0.1:{free_port()}", "table", "status", "-o", "json")

    assert result.code == 4
    assert error(result)["code"] == "aws_unavailable"


def test_a_missing_table_is_exit_4_and_names_the_command_that_makes_it(cqrsctl: Cqrsctl) -> None:
    for arguments in (
        ["table", "status"],
        ["product", "get", "1"],
        ["product", "put", "1", "--name", "x", "--price", "1"],
        ["product", "import", "-"],
        ["project", "--once"],
        ["stream", "tail"],
    ):
        result = cqrsctl(*arguments, "-o", "json", stdin=HEADER)
        assert result.code == 4, arguments
        assert error(result)["code"] == "table_missing"
        assert "table create" in error(result)["hint"]


def test_another_region_has_another_table(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")

    result = cqrsctl("--region", "ap-south-1", "table", "status")

    assert result.code == 4
    assert "ap-south-1" in result.err


def test_a_stream_that_is_off_or_lacks_new_images_is_refused(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create", "--no-stream")
    for command in (["project", "--once"], ["stream", "tail"], ["stream", "status"]):
        off = cqrsctl(*command, "-o", "json")
        assert (off.code, error(off)["code"]) == (4, "stream_off")
    cqrsctl.ok("table", "enable-stream")
    cqrsctl.ok("table", "enable-stream")
    cqrsctl.ok("table", "disable-stream", "--yes")
    cqrsctl.ok("table", "disable-stream", "--yes")


def test_a_stream_that_was_off_is_a_gap_and_the_hints_lead_out_of_it(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1")
    cqrsctl.ok("project", "--once")
    cqrsctl.ok("table", "disable-stream", "--yes")
    cqrsctl.ok("product", "put", "2", "--name", "Desk", "--price", "2")
    off = error(cqrsctl("project", "--once", "-o", "json"))
    assert "cqrsctl table enable-stream" in off["hint"]
    assert "cqrsctl rebuild" in off["hint"]
    assert "cqrsctl rebuild" in cqrsctl.ok("table", "enable-stream").err
    assert cqrsctl("project", "--once").code == 6
    cqrsctl.ok("rebuild")
    cqrsctl.ok("project", "--once")
    assert "drift: 0" in cqrsctl.ok("verify").out


def test_a_database_that_is_down_is_exit_5_at_once(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    down = {
        "CQRSCTL_DATABASE_HOST": "127.0.0.1",
        "CQRSCTL_DATABASE_PORT": str(free_port()),
        "CQRSCTL_DATABASE_PASSWORD": "secret-word",
    }

    for command in (["project", "--once"], ["query", "count"], ["read-model", "status"], ["verify"]):
        result = cqrsctl(*command, "-o", "json", variables=down)
        assert result.code == 5, result
        assert error(result)["code"] == "database_unavailable"
        assert "secret-word" not in result.err


def test_a_wrong_password_is_exit_5_and_is_not_shown(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    port = cqrsctl.ok("local", "status", "-o", "json").json()[1]["address"].split(":")[1]

    result = cqrsctl(
        "-vv",
        "query",
        "count",
        variables={
            "CQRSCTL_DATABASE_HOST": "127.0.0.1",
            "CQRSCTL_DATABASE_PORT": port,
            "CQRSCTL_DATABASE_PASSWORD": "wrong-word",
        },
    )

    assert result.code == 5
    assert "refused the login" in result.err
    assert "wrong-word" not in result.err


def test_a_database_elsewhere_without_a_ca_bundle_is_refused(cqrsctl: Cqrsctl) -> None:
    elsewhere = {"CQRSCTL_DATABASE_HOST": "db.example.com", "CQRSCTL_DATABASE_PASSWORD": "x"}

    result = cqrsctl("query", "count", "-o", "json", variables=elsewhere)

    assert (result.code, error(result)["code"]) == (3, "tls")


def test_a_broken_file_is_exit_3_and_names_the_place(cqrsctl: Cqrsctl) -> None:
    file = cqrsctl.directory / "cqrsctl.toml"
    for content, place in (("a = = 1\n", "line 1"), ("[environments.local]\nregoin = 'x'\n", "environments.local")):
        file.write_text(content)
        result = cqrsctl("table", "status")
        assert result.code == 3
        assert place in result.err


def test_conditions_of_a_put_are_held(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    put = ["product", "put", "1", "--name", "x", "--price", "1"]

    assert cqrsctl(*put, "--if-exists").code == 1
    cqrsctl.ok(*put, "--if-absent")
    assert "exists already" in cqrsctl(*put, "--if-absent").err
    assert "unchanged" in cqrsctl.ok(*put, "--if-exists").err
    assert cqrsctl(*put, "--if-exists", "--if-absent").code == 2


def test_deleting_a_table_needs_a_yes_where_nobody_can_be_asked(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create", "--deletion-protection")

    assert cqrsctl("table", "delete", "--yes").code == 2
    assert cqrsctl("table", "delete", "--unprotect").code == 2
    cqrsctl.ok("table", "delete", "--unprotect", "--yes")
    assert cqrsctl("table", "delete", "--yes").code == 4


def test_creating_a_table_again_succeeds_and_a_different_one_lists_the_differences(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create", "--tag", "team=shop")
    same = cqrsctl.ok("table", "create", "--tag", "team=shop")
    other = cqrsctl("table", "create", "--billing", "provisioned", "--no-pitr", "-o", "json")

    planned = [cqrsctl("table", "create", *more, "--dry-run") for more in ([], ["--billing", "provisioned"])]

    assert "already exists; nothing to do" in same.err
    assert (planned[0].code, planned[0].out, planned[0].err) == (0, "", "Nothing to do.\n")
    assert planned[1].code == 4
    assert "billing: asked provisioned, is on-demand" in planned[1].err
    assert other.code == 4
    assert "billing: asked provisioned, is on-demand" in error(other)["message"]
    assert "point-in-time recovery: asked off, is on" in error(other)["message"]


def test_a_dry_run_prints_the_calls_and_makes_none(cqrsctl: Cqrsctl) -> None:
    def planned(*arguments: str) -> list[str]:
        result = cqrsctl.ok(*arguments, "--dry-run", "-o", "json")
        assert all(call["parameters"]["TableName"] == cqrsctl.variables["CQRSCTL_TABLE"] for call in result.json())
        return [call["operation"] for call in result.json()]

    put = ("product", "put", "1", "--name", "x", "--price", "1")
    creation = ("table", "create", "--billing", "provisioned", "--kms-key", "arn:key", "--tag", "a=b")

    assert planned(*creation) == ["CreateTable", "UpdateContinuousBackups"]
    assert "CreateTable" in cqrsctl.ok(*creation, "--dry-run").out
    for missing in (("table", "enable-stream"), ("table", "disable-stream"), ("table", "delete"), put):
        assert cqrsctl(*missing, "--dry-run").code == 4, "there is no table yet"
    cqrsctl.ok("table", "create", "--no-stream", "--no-pitr")
    assert planned("table", "enable-stream") == ["UpdateTable"]
    assert planned("table", "disable-stream") == []
    assert planned("table", "delete") == ["DeleteTable"]
    assert planned(*put, "--if-absent") == ["PutItem"]
    assert planned("product", "delete", "1") == ["DeleteItem"]
    assert "does not exist" in cqrsctl("product", "update", "1", "--price", "2", "--dry-run").err
    assert "does not exist" in cqrsctl(*put, "--if-exists", "--dry-run").err
    assert cqrsctl("product", "get", "1").code == 1
    assert cqrsctl.ok("table", "status", "-o", "json").json()["stream"] == "off"


def test_usage_errors_are_exit_2_also_as_json(cqrsctl: Cqrsctl) -> None:
    assert cqrsctl("tabel").code == 2
    assert "Did you mean 'table'?" in cqrsctl("tabel").err
    assert cqrsctl("query", "list", "--limit", "0").code == 2
    assert error(cqrsctl("query", "list", "-o", "json", "--nonsense"))["code"] == "usage"
    assert cqrsctl("stream", "tail", "--since", "soon").code == 2
    assert cqrsctl("project", "--projection", "nobody").code == 2
    assert cqrsctl("product", "import", "no-such-file.csv").code == 2
    assert cqrsctl("project", "--input", "no-such-file.jsonl").code == 2


def test_a_replayed_file_that_is_none_names_the_line(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    result = cqrsctl("project", "--input", "-", stdin='{"stream_arn": "x"}\n')

    assert result.code == 1
    assert "Line 1 cannot be replayed: not the ARN of a stream" in result.err


def test_a_replayed_file_of_another_table_or_a_later_stream_is_refused_before_any_of_it_is_applied(
    cqrsctl: Cqrsctl,
) -> None:
    """Applied, they would win over every change of this table's stream to come."""
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1")
    lines = cqrsctl.ok("stream", "tail", "--no-follow", "-o", "jsonl").out
    arn = json.loads(lines)["stream_arn"]
    table, _, _ = arn.partition("/stream/")
    for other in (
        f"{table}/stream/2099-01-01T00:00:00.000",
        arn.replace(":table/", ":table/Other"),
        arn.replace("us-east-1", "eu-west-1"),
        arn.replace(":123456789012:", ":999999999999:"),
    ):
        result = cqrsctl("project", "--input", "-", stdin=lines.replace(arn, other))
        assert result.code == 1
        assert "Line 1 cannot be replayed: it" in result.err
        assert other.partition("/stream/")[0] in result.err
        assert cqrsctl.ok("query", "count", "-o", "json").json() == {"count": 0}
    assert cqrsctl.ok("project", "--input", "-", "-o", "json", stdin=lines).json()["rows"] == 1


def test_a_replayed_file_is_checked_by_the_tables_last_stream_while_the_stream_is_off(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "1")
    lines = cqrsctl.ok("stream", "tail", "--no-follow", "-o", "jsonl").out
    cqrsctl.ok("table", "disable-stream", "--yes")
    arn = json.loads(lines)["stream_arn"]
    later = f"{arn.partition('/stream/')[0]}/stream/2099-01-01T00:00:00.000"
    earlier = f"{arn.partition('/stream/')[0]}/stream/2020-01-01T00:00:00.000"

    refused = cqrsctl("project", "--input", "-", "-o", "json", stdin=lines.replace(arn, later))
    assert refused.code == 1
    assert error(refused)["code"] == "bad_input"
    assert later in error(refused)["message"]
    assert arn in error(refused)["message"]
    for allowed in (earlier, arn):
        done = cqrsctl.ok("project", "--input", "-", "-o", "json", stdin=lines.replace(arn, allowed))
        assert done.json()["rows"] == 1


def test_a_replayed_file_is_refused_if_the_table_never_had_a_stream(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create", "--no-stream")
    record = {
        "stream_arn": "arn:aws:dynamodb:us-east-1:123456789012:table/"
        f"{cqrsctl.variables['CQRSCTL_TABLE']}/stream/2020-01-01T00:00:00.000",
        "sequence_number": "1",
        "event": "REMOVE",
        "keys": {"ProductId": {"N": "1"}},
        "old_image": None,
        "new_image": None,
        "created_at": "2020-01-01T00:00:00Z",
    }

    refused = cqrsctl("project", "--input", "-", "-o", "json", stdin=json.dumps(record))

    assert refused.code == 1
    assert error(refused)["code"] == "bad_input"
    assert "none at all" in error(refused)["message"]


def test_nothing_of_a_bad_record_or_what_follows_it_is_applied(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")
    for number in ("1", "2", "3"):
        cqrsctl.ok("product", "put", number, "--name", "Lamp", "--price", "1")
    first, second, third = cqrsctl.ok("stream", "tail", "--no-follow", "-o", "jsonl").out.splitlines()
    bad = second.replace(":table/", ":table/Other")

    refused = cqrsctl("project", "--input", "-", stdin="\n".join((first, bad, third)))

    assert refused.code == 1
    assert "Line 2 cannot be replayed" in refused.err
    shown = {row["ProductId"] for row in cqrsctl.ok("query", "list", "-o", "json").json()}
    assert shown <= {1}
