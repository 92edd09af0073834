"""Options, help page and version of a command, from the function that does its work.

Nothing here imports NumPy, torch or rich.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from facedis_core import __version__

# Environment variable of shell completion (fd-info --completion), one for all commands.
COMPLETION: Final = "_FACEDIS_COMPLETE"


def command_name(function: Callable[..., Any]) -> str:
    """`fd-encode` of the function that does its work."""
    return Path(inspect.getfile(function)).stem.replace("_", "-")


def click_command(
    function: Callable[..., Any],
    suggestions: Mapping[str, Callable[[str], list[str]]] | None = None,
) -> Any:
    """The command as the library below typer has it, with all its options.

    The docstring of the function is the help text; what follows its line `Examples:` is printed
    below the options. `suggestions` complete the values that the help page calls by these names.
    """
    name = command_name(function)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    text, _, examples = (inspect.getdoc(function) or "").partition("\nExamples:\n")
    app.command(
        name,
        help=text,
        # \b: click keeps these lines as they are
        epilog=f"\b\nExamples:\n{examples}" if examples else None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )(_with_version(function, name, suggestions or {}))
    command = typer.main.get_command(app)
    for parameter in command.get_params(typer.Context(command, **command.context_settings)):
        if hasattr(parameter, "get_runtime_param"):  # not every typer has it
            checked = parameter.get_runtime_param
            parameter.get_runtime_param = partial(_Unchecked, checked)
    return command


class _Unchecked:
    """Passes text and defaults on without validation.

    typer has every value checked by pydantic, whose import alone takes a command as long as
    NumPy's; with this only those who give a number or a choice pay for it.
    """

    def __init__(self, checked: Callable[[], Any]) -> None:
        self._checked = checked

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        source = ctx.get_parameter_source(param.name)
        if source.name == "DEFAULT" or param.type_descriptor.annotation in (str, list[str]):
            return list(value) if isinstance(value, tuple) else value
        return self._checked().coerce(value, param=param, ctx=ctx)


def _with_version(
    function: Callable[..., Any],
    name: str,
    suggestions: Mapping[str, Callable[[str], list[str]]],
) -> Callable[..., None]:
    """The command with the option `--version` and completion of values."""

    def show(context: typer.Context, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            _print_version(name)
            raise typer.Exit

    def command(version: bool = False, **options: Any) -> None:
        function(**options)

    option = typer.Option(
        "--version", callback=show, is_eager=True, help="Show the version and the bundled models."
    )
    signature = inspect.signature(function, eval_str=True)
    for parameter in signature.parameters.values():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if info.metavar in suggestions:
                info.autocompletion = suggestions[info.metavar]
    version = inspect.Parameter(
        "version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )
    parameters = [p.replace(kind=version.kind) for p in signature.parameters.values()]
    parameters.append(version)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = function.__doc__
    return command


def _print_version(name: str) -> None:
    """The version, then a line a model: its name, its id or what is wrong with it."""
    from facedis_core.model.bundled import list_models

    print(f"{name} {__version__}")
    models = list_models()
    width = max((len(model.name) for model in models), default=0)
    for model in models:
        default = f"  ({model.default})" if model.default else ""
        print(f"  {model.name:<{width}}  {model.id}{default}")
