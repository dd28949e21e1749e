"""What the system refuses, as a full disk or a closed pipe, is no fault of cqrsctl, and shows no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cqrsctl

COMMAND = f"{sys.executable} -m cqrsctl"
SAMPLE = f"{COMMAND} product sample"


def shell(cqrsctl: Cqrsctl, script: str, **variables: str) -> tuple[int, str, str]:
    """The exit code of a shell's command, what it printed, and its errors."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        capture_output=True,
        timeout=100,
        env=cqrsctl.environment(variables),
        cwd=cqrsctl.directory,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("output", ["csv", "jsonl", "json", "table"])
def test_a_reader_that_has_enough_is_no_error_and_ends_the_output(cqrsctl: Cqrsctl, output: str) -> None:
    count = 2_000 if output == "table" else 100_000_000
    code, out, err = shell(cqrsctl, f"{SAMPLE} -n {count} -o {output} | head -n 1")

    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("to", "why"), [("> /dev/full", "No space left on device"), (">&-", "it is closed")], ids=["full", "closed"]
)
def test_output_that_cannot_be_written_is_a_plain_error(cqrsctl: Cqrsctl, to: str, why: str) -> None:
    code, _, err = shell(cqrsctl, f"{SAMPLE} -n 10 {to}")
    as_json = shell(cqrsctl, f"{SAMPLE} -n 10 -o json {to}")
    version = shell(cqrsctl, f"{COMMAND} --version {to}")

    assert (code, err) == (1, f"Error: Standard output cannot be written: {why}. The command itself is done.\n")
    assert json.loads(as_json[2])["error"]["code"] == "output"
    assert (version[0], version[2]) == (1, err)


@pytest.mark.parametrize("to", ["2> /dev/full", "2>&-"])
def test_errors_that_cannot_be_written_change_neither_data_nor_exit_code(cqrsctl: Cqrsctl, to: str) -> None:
    assert shell(cqrsctl, f"{COMMAND} product get x {to}")[0] == 2
    assert shell(cqrsctl, f"{SAMPLE} -n 1 -o jsonl {to}")[0] == 0


def test_a_write_that_is_done_succeeds_though_nobody_reads_what_it_prints(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")

    code, _, err = shell(cqrsctl, f"{COMMAND} product put 1 --name Lamp --price 1 | true")
    full, _, lost = shell(cqrsctl, f"{COMMAND} product put 2 --name Lamp --price 1 > /dev/full")

    assert (code, err) == (0, "Product 1 is created.\n")
    assert (full, lost.splitlines()[0]) == (1, "Product 2 is created.")
    assert "The command itself is done." in lost
    assert cqrsctl.ok("product", "get", "2", "-o", "json").json()["ProductId"] == 2


@pytest.mark.parametrize(
    "variables", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}]
)
def test_data_is_written_in_utf_8_whatever_the_locale(cqrsctl: Cqrsctl, variables: dict[str, str]) -> None:
    code, out, err = shell(cqrsctl, f"{SAMPLE} -n 100 -o json", **variables)

    assert (code, err) == (0, "")
    assert any("grün" in product["Name"] for product in json.loads(out))


def test_a_question_without_standard_input_is_not_confirmed(cqrsctl: Cqrsctl) -> None:
    cqrsctl.ok("table", "create")

    code, _, err = shell(cqrsctl, f"{COMMAND} table delete --unprotect <&-")

    assert code == 2
    assert "was not confirmed" in err


@pytest.mark.parametrize("rows", [1, 10_000])
def test_a_full_disk_is_named_with_its_file(cqrsctl: Cqrsctl, rows: int) -> None:
    (cqrsctl.directory / "p.rejects.csv").symlink_to("/dev/full")
    (cqrsctl.directory / "p.csv").write_text("ProductId,Name,Price,OutOfStock\n" + "x,Lamp,1,\n" * rows)

    code, _, err = shell(cqrsctl, f"{COMMAND} product import p.csv --dry-run")

    assert code == 1
    assert err.startswith("Error: The rejects file p.rejects.csv cannot be written: No space left on device.")


def test_an_interruption_while_the_program_is_loaded_shows_no_traceback(cqrsctl: Cqrsctl) -> None:
    slow = cqrsctl.directory / "typer.py"
    slow.write_text("import sys, time\nsys.stdout.write('loading\\n')\nsys.stdout.flush()\ntime.sleep(60)\n")
    variables = cqrsctl.environment({"PYTHONPATH": os.pathsep.join([str(cqrsctl.directory), *sys.path])})
    loading = subprocess.Popen(
        [sys.executable, "-m", "cqrsctl", "status"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=variables,
        cwd=cqrsctl.directory,
    )
    assert loading.stdout is not None
    assert loading.stdout.readline() == b"loading\n"

    loading.send_signal(signal.SIGINT)

    assert loading.communicate(timeout=30) == (b"", b"")
    assert loading.returncode == 130


@pytest.mark.parametrize("url", ["foo", "http://host:port"])
def test_an_endpoint_that_is_no_url_is_exit_3(cqrsctl: Cqrsctl, url: str) -> None:
    by_flag = cqrsctl("table", "status", "--endpoint-url", url)
    by_variable = cqrsctl("table", "status", variables={"AWS_ENDPOINT_URL_DYNAMODB": url})

    assert (by_flag.code, by_variable.code) == (3, 3)
    assert f"endpoint_url: '{url}' is not a URL." in by_flag.err
    assert f"AWS_ENDPOINT_URL_DYNAMODB: '{url}' is not a URL." in by_variable.err
