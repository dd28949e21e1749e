"""What a shell completes: the names of environments, projections, columns and readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer  # noqa: TC002 -- Typer reads annotations at run time

from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cqrsctl.config import Environment, Flags
    from cqrsctl.projection.definition import Projection


def environment_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The declared environments, and the embedded ones."""
    from cqrsctl.config import environments

    return _beginning(lambda: environments(_flags(ctx))[0], incomplete)


def projection_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The projections that the environment declares."""
    return _beginning(lambda: [each.name for each in _environment(ctx).projections], incomplete)


def column_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The columns of the projection that is typed already, else of all."""
    return _beginning(lambda: _columns(ctx), incomplete)


def reader_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The cluster's readers."""
    return _beginning(lambda: _readers(_environment(ctx)), incomplete)


def _beginning(ask: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    """The names that begin so. A shell has no place for an error, so what is refused completes to nothing."""
    try:
        return [name for name in ask() if name.startswith(incomplete)]
    except CqrsctlError:
        return []


def _environment(ctx: typer.Context) -> Environment:
    from cqrsctl.config import load

    return load(_flags(ctx))


def _flags(ctx: typer.Context) -> Flags:
    """The global options that are typed already, before the command or after it."""
    from cqrsctl.config import Flags

    typed: dict[str, Any] = {}
    context: Any = ctx
    while context is not None:
        typed = {name: value for name, value in context.params.items() if value is not None} | typed
        context = context.parent
    return Flags(**{name: typed.get(name) for name in Flags.__dataclass_fields__})


def _columns(ctx: typer.Context) -> list[str]:
    typed = ctx.params.get("projection")
    chosen = {typed} if isinstance(typed, str) else set(typed or ())
    projections: list[Projection] = [
        each for each in _environment(ctx).projections if not chosen or each.name in chosen
    ]
    return list(dict.fromkeys(column.name for each in projections for column in each.columns))


def _readers(environment: Environment) -> list[str]:
    from cqrsctl.wiring import Wiring

    return [reader.name for reader in Wiring(environment).servers.now().readers]
