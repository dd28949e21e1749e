"""Every statement of the package is one that MySQL parses, also those that only Aurora answers.

MariaDB forgives some: it takes `lag` or `rank` for a name, which MySQL has reserved since 8.0.2.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest

import cqrsctl
from cqrsctl.local.engines import MYSQL
from cqrsctl.read_model.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.wiring import Wiring

_PACKAGE = Path(cqrsctl.__file__).parent
_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP|SHOW|SET)\s+\S+\s+\S")
_GIVEN_NAME = re.compile(r"\bAS\s+(?!SELECT|DECIMAL|CHAR)(\w+)")
_COLUMN = re.compile(r"^\s+(\w+) +(?:BIGINT|INT|VARCHAR|CHAR|DATETIME|TEXT|LONGTEXT|BOOLEAN)\b", re.MULTILINE)
_SYNTAX_ERROR = 1064


def statements() -> Iterator[tuple[str, bool]]:
    """Each statement of the package, and whether it is whole: nothing is put into it but values."""
    for path in [path for room in ("read_model", "diagnosis", "pipeline") for path in (_PACKAGE / room).rglob("*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            match node:
                case ast.Constant(value=str(text)) if _STATEMENT.match(text) and id(node) not in parts:
                    yield text, True
                case ast.JoinedStr(values=values):
                    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in values)
                    if _STATEMENT.match(text):
                        yield text, False


@pytest.fixture
def cursor(wiring: Wiring, database: str) -> Iterator[pymysql.cursors.Cursor]:
    if database != MYSQL.name:
        pytest.skip("MySQL is the judge: --database mysql")
    with connect(wiring.database, with_database=False) as connection, connection._raw.cursor() as cursor:
        yield cursor


def test_statements_are_found() -> None:
    texts = [text for text, _ in statements()]
    assert len(texts) > 100
    assert any("replica_host_status" in text for text in texts)


def test_mysql_parses_every_whole_statement(cursor: pymysql.cursors.Cursor) -> None:
    wrong = []
    for text in {text for text, whole in statements() if whole}:
        cursor.execute("SET @statement = %s", (text.replace("%s", "?").replace("%%", "%"),))
        try:
            cursor.execute("PREPARE parsed FROM @statement")
        except pymysql.Error as error:
            if error.args[0] == _SYNTAX_ERROR:
                wrong.append((text, error.args[1]))
    assert not wrong


def test_no_name_that_a_statement_gives_is_reserved(cursor: pymysql.cursors.Cursor) -> None:
    cursor.execute("SELECT word FROM information_schema.keywords WHERE reserved = 1")
    reserved = {word.lower() for (word,) in cursor.fetchall()}
    assert {"lag", "rank", "groups"} <= reserved
    given = {(name, text) for text, _ in statements() for name in [*_GIVEN_NAME.findall(text), *_COLUMN.findall(text)]}
    assert not [(name, text) for name, text in given if name.lower() in reserved]
