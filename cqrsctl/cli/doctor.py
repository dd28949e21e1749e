"""`cqrsctl doctor`: problems, and how to fix them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cqrsctl import words
from cqrsctl.cli import columns, render
from cqrsctl.cli.global_options import group
from cqrsctl.cli.invocation import OutputOption, of
from cqrsctl.cli.render import Output
from cqrsctl.diagnosis.doctor.checks import examine
from cqrsctl.diagnosis.doctor.findings import Severity
from cqrsctl.diagnosis.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.diagnosis.doctor.findings import Diagnosis, Found

app = group("Find problems and suggest fixes.")

_COLUMNS = ("severity", "code", "part", "finding", "why", "fix")
_COLOURS = {Severity.CRITICAL: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold"}


@app.command()
def doctor(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Find problems and suggest fixes.

    Looks at the table, its stream, the function's mapping, the cluster, the database and the read model as they are
    now, and at what this identity may do. Nothing is changed. Exit 1 if something is wrong; notes alone are not.

    \b
    Examples:
      cqrsctl doctor
      cqrsctl -e prod doctor -o jsonl
    """
    facts = Facts(of(ctx).wiring, of(ctx).clock)
    with render.live() as show:
        diagnosis = examine(facts, lambda check: show(f"looking at the {check.part}"))
    records = [_record(found, of(ctx).addressed) for found in diagnosis.found]
    if output is Output.TABLE and not columns.chosen():
        _show(diagnosis, records)
    else:
        render.rows(output, _COLUMNS, records)
    if not diagnosis.well:
        raise typer.Exit(1)


def _show(diagnosis: Diagnosis, records: list[dict[str, str]]) -> None:
    for record in records:
        _show_one(record)
    if not records:
        render.text(f"Nothing found: {words.count(diagnosis.checks, 'check')}.")
        return
    counted = [_counted(diagnosis.count(severity), severity) for severity in Severity if diagnosis.count(severity)]
    render.text(f"{', '.join(counted)}; {words.count(diagnosis.checks, 'check')}.")


def _show_one(record: dict[str, str]) -> None:
    from rich.text import Text

    from cqrsctl.cli.layout import hung, wrapped

    head = Text(record["severity"], _COLOURS[Severity(record["severity"])])
    lines = [head.append(f"  {record['part']}  {record['code']}", "not bold default")]
    for name, column in (("", "finding"), ("why", "why"), ("fix", "fix")):
        indent = 8 if name else 2
        text = wrapped(render.printable(record[column]), render.width() - indent)
        lines += hung(Text(f"  {name}"), map(Text, text), indent, render.width())
    render.show([*lines, Text()])


def _counted(count: int, severity: Severity) -> str:
    return words.count(count, severity.value, "critical" if severity is Severity.CRITICAL else None)


def _record(found: Found, addressed: Callable[[str], str]) -> dict[str, str]:
    finding = found.finding
    return {
        "severity": finding.severity.value,
        "code": found.code,
        "part": found.part,
        "finding": addressed(finding.what),
        "why": addressed(finding.why),
        "fix": addressed(finding.fix),
    }
