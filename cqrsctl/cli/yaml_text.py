"""Values of JSON as YAML, in block style; what YAML would read as something else is quoted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = re.compile(r"[^\W\d](?:[\w./@%+*()=-]|:(?=\S)|,| (?=[\w(]))*")
"""Text that is text to every reader: it begins with a letter, so it is no number, time, or sign of YAML's own."""
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
"""Words that YAML 1.1 or 1.2 reads as something else, however they are written."""
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def lines(value: Any) -> Iterator[str]:
    """The lines of a value of dicts, lists, text, numbers, booleans and None."""
    match value:
        case dict() if value:
            for name, content in value.items():
                yield from _entry(f"{_scalar(name)}:", content)
        case list() if value:
            for content in value:
                first, *rest = lines(content)
                yield f"- {first}"
                yield from _indented(rest)
        case _:
            yield _scalar(value)


def _entry(name: str, content: Any) -> Iterator[str]:
    if content and isinstance(content, (dict, list)):
        yield name
        yield from _indented(lines(content))
    else:
        yield f"{name} {_scalar(content)}"


def _indented(text: Any) -> Iterator[str]:
    return (f"  {line}" for line in text)


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "{}"
        case list():
            return "[]"
        case str():
            plain = value.isprintable() and _PLAIN.fullmatch(value) and value.lower() not in _WORDS
            return value if plain else f'"{"".join(map(_escaped, value))}"'
        case _:
            return repr(value)


def _escaped(character: str) -> str:
    if character in _ESCAPES or character.isprintable():
        return _ESCAPES.get(character, character)
    code = ord(character)
    return f"\\U{code:08X}" if code > 0xFFFF else f"\\u{code:04X}"
