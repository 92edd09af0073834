"""fd-info: show what files hold, and verify them."""

import fd_cli

import json
from typing import Annotated, Any, Literal

import typer

from facedis_core.errors import ErrorCode, UsageError


def info(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="Meshes, latents, face sets, models, reports, folders; default: stdin.",
        ),
    ] = None,
    files_from: fd_cli.FilesFrom = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check ids, values, labels and splits of the whole file; exit 3 if bad.",
        ),
    ] = False,
    history: Annotated[
        bool,
        typer.Option(
            "--history", help="Print the commands that made FILE, oldest first, one a line."
        ),
    ] = False,
    completion: Annotated[
        Literal["bash", "zsh", "fish"] | None,
        typer.Option(
            "--completion",
            show_default=False,
            help="Print the completion script of all commands for this shell.",
        ),
    ] = None,
) -> None:
    """Show the kind, sizes and ids of files, and the commands that made them.

    \b
    reach_mm       of a model: largest distance of a training face to its mean face
    protocol       of a face set: how its faces were split into train, test and validation
    neutrals       of a face set: subjects with a neutral for training
    neutrals_eval  of a face set: subjects with a neutral for evaluation
    region         of a face set: vertices that metrics count

    Examples:
      fd-info model.safetensors faces.npy smile.ply
      fd-info set.safetensors --verify --json
    """  # noqa: D301 - the backslash is what keeps these lines apart
    if completion is not None:
        from fd_completion import completion_script

        print(completion_script(completion))
        return
    if history and (as_json or verify):
        raise UsageError(
            "--history prints commands; leave out --json and --verify", ErrorCode.OPTION_CONFLICT
        )
    from facedis_core.inspection.file_info import describe, made_with
    from facedis_core.io.streams import open_output
    from facedis_core.pipeline.file_lists import collect_inputs

    with open_output("-", force=False, binary=False) as stream:
        for file in collect_inputs(files or (), files_from):
            if history:
                lines = [f"{step}\n" for step in made_with(file)]
                stream.write("".join(lines).encode(errors="replace"))
                continue
            for facts in describe(file, verify=verify, warn=fd_cli.warn):
                text = json.dumps(facts) if as_json else _page(facts)
                stream.write(f"{text}\n".encode(errors="replace"))


def _page(facts: dict[str, Any]) -> str:
    """Facts for people: one line each, long lists cut short, history as commands."""
    from facedis_core.data.history import HistoryStep
    from facedis_core.io.text import on_one_line

    lines = [f"{on_one_line(facts['file'])}: {facts['kind']}"]
    for key, value in facts.items():
        if key == "history":
            lines += [f"  made by        {HistoryStep(**step)}" for step in value]
        elif key == "verified":
            lines += [f"  verified       {name} {_short(part)}" for name, part in value.items()]
        elif key not in ("file", "kind"):
            lines.append(f"  {key:<14} {_short(value)}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    from facedis_core.io.text import on_one_line

    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    if isinstance(value, list):
        shown = " ".join(map(_short, value[:6]))
        return f"{shown} ... ({len(value)})" if len(value) > 6 else shown
    return f"{value:.6g}" if isinstance(value, float) else on_one_line(str(value))


def main() -> None:
    """Entry point of fd-info."""
    fd_cli.run(info)


if __name__ == "__main__":
    main()
