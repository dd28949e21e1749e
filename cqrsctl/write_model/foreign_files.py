"""Files that are no products file, but that people have: recognised by how they begin, with how to convert them."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath

from cqrsctl.errors import CqrsctlError

_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")
"""UTF-16's byte-order marks, as UTF-8 with `surrogateescape` reads them."""
_GZIP = "\x1f\udc8b"
_ZIP = "PK\x03\x04"
_ARRAY = re.compile(r"\s*\[\s*(\{|$)")
_ITEMS = re.compile(r'\s*(\{\s*)?"(Items|Count|ScannedCount)"\s*:')
_PART_OF_AN_OBJECT = re.compile(r'\s*"[^"]*"\s*:')

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
"""The endings of JSON lines; exports of DynamoDB end with .json."""


def require_plain_text(first: str, name: str) -> None:
    """Raises CqrsctlError if a file with this first line is compressed, or in UTF-16.

    `name` is what the file is called on the command line.
    """
    if first.startswith(_GZIP):
        form = " --format jsonl" if PurePath(name).with_suffix("").suffix in JSON_SUFFIXES else ""
        raise _foreign(name, "is compressed by gzip", "gunzip -c", form)
    if first.startswith(_ZIP):
        raise _foreign(name, "is a zip archive or a spreadsheet", "unzip -p", "", "Export a spreadsheet as CSV. ")
    if first.startswith(_UTF_16) or "\0" in first[:2]:
        raise _foreign(name, "is in UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8", "")


def require_json_lines(first: str, second: str, name: str) -> None:
    """Raises CqrsctlError if a file that begins with these lines is one JSON document."""
    begins = first.strip() == "{"
    if _ARRAY.match(first):
        raise _foreign(name, "is one JSON array", "jq -c '.[]'", " --format jsonl")
    if _ITEMS.match(second if begins else first):
        raise _foreign(name, "is one JSON document with items of DynamoDB", "jq -c '.Items[]'", " --format jsonl")
    if begins and _PART_OF_AN_OBJECT.match(second):
        raise _foreign(name, "has JSON objects of several lines each", "jq -c .", " --format jsonl")


def require_csv(first: str, second: str, name: str) -> None:
    """Raises CqrsctlError if a file that begins with these lines is JSON."""
    if first.lstrip().startswith(("{", "[")):
        require_json_lines(first, second, name)
        raise CqrsctlError(
            f"{_shown(name)} is JSON lines, not CSV. Nothing was imported.",
            hint=f"Import it as that: cqrsctl product import {shlex.quote(name)} --format jsonl",
            code="foreign_file",
        )


def _foreign(name: str, what: str, converter: str, options: str, advice: str = "") -> CqrsctlError:
    source = f"{converter} {shlex.quote(name)}" if name != "-" else f"… | {converter}"
    return CqrsctlError(
        f"{_shown(name)} {what}. Nothing was imported.",
        hint=f"{advice}Convert it: {source} | cqrsctl product import -{options}",
        code="foreign_file",
    )


def _shown(name: str) -> str:
    return "Standard input" if name == "-" else name
