"""Commands that take the root's options too: global options may stand before the command and after it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cqrsctl.cli.columns import choosing

if TYPE_CHECKING:
    _Base = TyperCommand
else:
    _Base = object  # a group is no TyperCommand, and takes the same options

_COMPLETION = {"install_completion", "show_completion"}


class _TakesGlobalOptions(_Base):
    """Adds the root's options to a command's own."""

    def get_params(self, ctx: Any) -> list[Any]:
        return [*_global_options(ctx), *super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if options := _global_options(ctx):
            ctx.invoke(ctx.find_root().command.callback, **{each.name: ctx.params.pop(each.name) for each in options})
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        alone = type(ctx)(self, info_name=ctx.info_name, help_option_names=ctx.help_option_names)
        super().format_options(alone, formatter)
        if options := _global_options(ctx):
            with formatter.section("Global options"):
                formatter.write_dl([each.get_help_record(ctx) for each in options])


def _global_options(ctx: Any) -> list[Any]:
    """The root's options for a context below it."""
    root = ctx.find_root()
    return [] if root is ctx else [each for each in root.command.params if each.name not in _COMPLETION]


@cache
def _columns_option() -> Any:
    """`--columns`, as Typer makes it of a command's parameter."""
    alone = typer.Typer(add_completion=False)

    @alone.command()
    def _(
        columns: Annotated[
            str | None, typer.Option(metavar="A,B", help="Only these columns, in this order.", show_default=False)
        ] = None,
    ) -> None: ...

    return typer.main.get_command(alone).params[0]


class Command(_TakesGlobalOptions, TyperCommand):
    """A command; one that has --output has --columns too."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        at = next((index for index, each in enumerate(params, 1) if each.name == "output"), None)
        return params if at is None else [*params[:at], _columns_option(), *params[at:]]

    def invoke(self, ctx: Any) -> Any:
        with choosing(ctx.params.pop("columns", None)):
            return super().invoke(ctx)


class Group(_TakesGlobalOptions, TyperGroup):
    """A group of commands."""


class _Typer(typer.Typer):
    """Makes every command a `Command`."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **settings: Any) -> Any:
        return super().command(name, cls=cls, **settings)


def group(help: str) -> typer.Typer:
    """A group of commands, or the module of a single one."""
    return _Typer(help=help, cls=Group, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
