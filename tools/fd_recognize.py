"""fd-recognize: identify and verify people by their identity latents."""

import fd_cli

import io
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer


def recognize(
    gallery: Annotated[
        str,
        typer.Argument(
            metavar="GALLERY",
            help="Latents of known people; without PROBES a face set or latents of all faces.",
        ),
    ],
    probes: Annotated[
        str | None,
        typer.Argument(metavar="PROBES", show_default=False, help="Latents to identify."),
    ] = None,
    model: fd_cli.ModelOption = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="CSV", help="Labels of the latents: name,subject[,expression]."
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", help="Labels from the names: '{subject}_{expression}'."),
    ] = None,
    neutral: Annotated[
        str | None,
        typer.Option(
            "--neutral",
            help="Without PROBES: the expression that forms the gallery.  [default: neutral]",
        ),
    ] = None,
    split: fd_cli.Split = "test",
    ranks: Annotated[
        str, typer.Option("--ranks", metavar="K,...", help="Ranks k of the rank-k accuracies.")
    ] = "1,5",
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check",
            metavar="LIMIT",
            help="Exit 1 unless this limit on a number of the JSON output holds: "
            "'rank1_cosine_accuracy>=0.9'; repeatable.",
        ),
    ] = None,
    as_json: fd_cli.Json = False,
    output: fd_cli.Output = "-",
    force: fd_cli.Force = False,
) -> None:
    """Identify people in a gallery and verify pairs of faces, by their identity part.

    Faces are compared by the cosine of identity latents and by the vertex distance of identity
    faces; the report has rank-k accuracies, AUC and EER for both. Latents need --labels or
    --pattern, a face set has labels. Without PROBES the gallery is the neutral of each person
    and all other faces are probes. One of the two inputs may be - for standard input.

    Examples:
      fd-recognize set.safetensors --split test
      fd-recognize known.npy unknown.npy --pattern '{subject}_{expression}' --json
    """
    from facedis_core.evaluate.gates import Check, require_all
    from facedis_core.evaluate.identification import IdentificationOptions, identify, metric_names
    from facedis_core.io.paths import check_suffix
    from facedis_core.io.streams import check_output, open_output

    options = IdentificationOptions(
        gallery=gallery,
        probes=probes,
        model=model,
        labels=labels,
        pattern=pattern,
        neutral=neutral,
        split=split,
        ranks=ranks,
    )
    checks = [Check.parse(text, metric_names(options.rank_numbers)) for text in check or ()]
    fd_cli.check_read_once(gallery, probes, labels)
    check_suffix(output, "accuracies", ".json")
    check_output(output, force, binary=False)

    found = identify(options, fd_cli.progress_bar)

    terminal = output == "-" and sys.stdout.isatty()
    text = json.dumps(found, indent=2, allow_nan=False) if as_json else _page(found, terminal)
    with open_output(output, force=force, binary=False) as stream:
        stream.write(f"{text.rstrip()}\n".encode())
    require_all(checks, found)


def _page(report: Mapping[str, Any], terminal: bool) -> str:
    """The report as a table: rank-k accuracies, AUC, EER, and the numbers of faces and pairs."""
    from rich.console import Console
    from rich.table import Table

    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, highlight=False)
    facts, found = report["provenance"], report["model"]
    console.print("  ".join(f"{key} {value}" for key, value in facts.items()), soft_wrap=True)
    table = Table("", "cosine", "vertex")
    for key, value in found.items():
        if "cosine" in key:
            name = key.replace("_cosine", "").removesuffix("_accuracy").replace("rank", "rank ")
            other = found[key.replace("cosine", "vertex")]
            table.add_row(name, f"{value:.4f}", f"{other:.4f}")
    console.print(table)
    for key, value in found.items():
        if isinstance(value, int):
            console.print(f"{key.replace('_', ' ')} {value}")
    return text.getvalue()


def main() -> None:
    """Entry point of fd-recognize."""
    fd_cli.run(recognize)


if __name__ == "__main__":
    main()
