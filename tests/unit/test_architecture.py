"""The rules of the package's structure: who may import whom, and what importing does."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import cqrsctl
from cqrsctl.functions import package

ROOT = Path(cqrsctl.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
SHARED = {"change", "clock", "codec", "errors", "aws", "wire"}
PIPELINE = {
    *SHARED,
    "",
    "kms",
    "polling",
    "retries",
    "stopping",
    "config",
    "wiring",
    "write_model",
    "stream",
    "projection",
    "read_model",
    "aurora",
    "functions",
    "costs",
    "local",
}
ROOMS: dict[str, set[str]] = {
    "account": set(),
    "words": set(),
    "change": set(),
    "clock": set(),
    "errors": {"change"},
    "codec": {"change"},
    "aws": {"errors"},
    "kms": {"aws", "errors"},
    "polling": {"clock", "errors"},
    "retries": {"clock", "errors"},
    "wire": {"change", "codec", "errors"},
    "stopping": {"errors"},
    "denials": {"aws", "clock", "errors", "retries"},
    "settings_file": {"errors", "projection"},
    "config": {"errors", "projection", "settings_file"},
    "write_model": {*SHARED, "", "kms", "polling", "retries"},
    "stream": SHARED,
    "projection": {"change", "clock", "errors", "retries"},
    "read_model": {"account", "change", "codec", "errors", "projection", "stopping"},
    "aurora": {"aws", "clock", "errors", "kms", "polling", "", "retries"},
    "functions": {
        "aws",
        "clock",
        "polling",
        "",
        "retries",
        "change",
        "codec",
        "errors",
        "projection",
        "read_model",
        "write_model",
    },
    "local": {"account", "errors"},
    "wiring": {*SHARED, "denials", "stopping", "config", "aurora", "local", "read_model"},
    "cloudformation": {"functions", "write_model"},
    "costs": {*SHARED, "aurora", "wiring", "stream", "write_model", "functions"},
    "pipeline": PIPELINE,
    "diagnosis": {*PIPELINE, "pipeline", "words"},
    "cli": {*PIPELINE, "words", "", "settings_file", "pipeline", "diagnosis", "cloudformation"},
    "__main__": {"cli"},
    "__init__": set(),
}
IN_LAMBDA = {"cqrsctl", "boto3", "botocore", "pymysql"}
"""What a Lambda function may import beyond the standard library: AWS's runtime has boto3, and the zip PyMySQL."""
PURE = (
    "change.py",
    "codec.py",
    "errors.py",
    "words.py",
    "projection/declaration.py",
    "projection/definition.py",
    "projection/tables.py",
    "projection/rows.py",
    "projection/batch.py",
    "projection/recovery.py",
    "costs/monthly.py",
    "cloudformation/intrinsics.py",
)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def room(module: str) -> str:
    parts = module.split(".")
    if len(parts) < 2 or parts[0] != "cqrsctl":
        return ""
    return parts[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    names = {entry.stem if entry.suffix else entry.name for entry in ROOT.iterdir()}

    used = {room(module) for module in imports(path) if module.startswith("cqrsctl.")} & names

    assert used - {own} <= ROOMS[own]


@pytest.mark.parametrize("name", PURE)
def test_the_pure_middle_needs_the_standard_library_only(name: str) -> None:
    outside = {module.split(".")[0] for module in imports(ROOT / name)} - sys.stdlib_module_names

    assert outside <= {"cqrsctl"}


def test_what_the_lambda_handlers_import_is_the_standard_library_boto3_and_pymysql() -> None:
    needed = package.modules()
    outside = {name.split(".")[0] for path in needed.values() for name in package.imported(path)}

    assert "cqrsctl.read_model.sink" in needed
    assert outside - sys.stdlib_module_names == IN_LAMBDA


def test_only_the_read_model_knows_pymysql_and_only_the_command_line_draws() -> None:
    for path in MODULES:
        top = path.relative_to(ROOT).parts[0]
        names = {module.split(".")[0] for module in imports(path)}
        assert "pymysql" not in names or top == "read_model", path
        assert not names & {"rich", "typer"} or top == "cli", path


def test_the_heartbeat_is_asked_for_in_one_module() -> None:
    asking = {path.relative_to(ROOT).as_posix() for path in MODULES if "cqrs_heartbeat" in path.read_text()}

    assert asking == {"read_model/bookkeeping.py", "read_model/heartbeat.py"}


def test_importing_any_module_opens_no_connection_and_no_file_of_the_user() -> None:
    modules = [".".join(("cqrsctl", *path.relative_to(ROOT).with_suffix("").parts)) for path in MODULES]
    program = (
        "import importlib, socket, sys\n"
        "def refuse(*_): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        f"for name in {[name for name in modules if not name.endswith('__main__')]!r}: importlib.import_module(name)\n"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_no_two_modules_share_a_name() -> None:
    names = Counter(
        path.stem for path in MODULES if path.stem != "__init__" and path.relative_to(ROOT).parts[0] != "cli"
    )

    assert not [name for name, count in names.items() if count > 1]


def test_no_two_classes_share_a_name() -> None:
    names = Counter(
        node.name
        for path in MODULES
        if path.relative_to(ROOT).parts[0] != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )

    assert not [name for name, count in names.items() if count > 1]


TEXTS = {"error", "hint", "message", "fix", "reason", "summary", "told", "what", "why"}
"""What is said to people; what a program decides, it decides by a code or a type."""


def test_nothing_is_decided_by_the_words_of_a_message() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(text)}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        for text in _searched(node)
        if _last_name(text) in TEXTS
    ]

    assert not found


def _searched(node: ast.AST) -> list[ast.expr]:
    """The texts that an expression looks for words in."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        looks = node.func.attr in {"startswith", "endswith", "index"}
        by_pattern = node.func.attr in {"match", "fullmatch", "search"}
        return [node.func.value] if looks else list(node.args) if by_pattern else []
    if isinstance(node, ast.Compare) and any(isinstance(each, ast.In | ast.NotIn) for each in node.ops):
        return node.comparators if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str) else []
    return []


def _last_name(node: ast.expr) -> str:
    """`message` of `error.message`, and of `str(error)` what is made a text."""
    match node:
        case ast.Attribute():
            return node.attr
        case ast.Name():
            return node.id
        case ast.Call(func=ast.Name(id="str"), args=[text]):
            return _last_name(text)
        case _:
            return ""


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(ROOT)): count for path in MODULES if (count := len(path.read_text().splitlines())) > 400
    }

    assert not long
