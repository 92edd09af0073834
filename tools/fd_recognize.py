"""fd-recognize: identify and verify people by their identity latents."""

import fd_cli

import io
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from facedis_core.errors import UsageError

MOST_RANKS = 20


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
            help="Exit 1 unless this limit holds: 'rank1_cosine_accuracy>=0.9'; repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
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
    from facedis_core.checks import Check, require
    from facedis_core.identification import metric_names, report
    from facedis_core.inference import load_model
    from facedis_core.lookup import Labels, lookup_in_latents, lookup_in_set
    from facedis_core.streams import check_output, open_output

    numbers = _ranks(ranks)
    checks = [Check.parse(text, metric_names(numbers)) for text in check or ()]
    check_output(output, force, binary=False)
    if labels is not None and pattern is not None:
        raise UsageError("--labels and --pattern both say who is who; give one of the two")
    said = labels is not None or pattern is not None
    if probes is not None and neutral is not None:
        raise UsageError("--neutral chooses the gallery where PROBES are not given; leave it out")
    if said and split != "test":
        raise UsageError("--split is of a face set, whose labels are its own; leave it out")
    if not said and (probes is not None or gallery.lower().endswith(".npy")):
        raise UsageError(
            "who is who? give --labels CSV, or --pattern such as '{subject}_{expression}'"
        )
    if not said and neutral is not None:
        raise UsageError("--neutral is of latents, a face set has its neutrals; leave it out")
    fd_cli.check_read_once(gallery, probes, labels)
    known = load_model(model)
    if said:
        who = Labels(labels, pattern)
        lookup = lookup_in_latents(gallery, probes, known, who, neutral or "neutral")
    else:
        lookup = lookup_in_set(gallery, known, split, fd_cli.progress_bar)
    found = report(lookup, known, numbers, fd_cli.progress_bar)
    terminal = output == "-" and sys.stdout.isatty()
    text = json.dumps(found, indent=2, allow_nan=False) if as_json else _page(found, terminal)
    with open_output(output, force=force, binary=False) as stream:
        stream.write(f"{text.rstrip()}\n".encode())
    require(checks, found)


def _ranks(text: str) -> list[int]:
    """`1,5` as numbers, ascending; UsageError where it is anything else."""
    words = [word.strip() for word in text.split(",")]
    good = all(word.isascii() and word.isdigit() and len(word) < 7 for word in words)
    found = sorted({int(word) for word in words}) if good else []
    if not found or found[0] < 1 or len(found) > MOST_RANKS:
        raise UsageError(
            f"--ranks {text!r} is no list of ranks; expected up to {MOST_RANKS} numbers from 1 "
            "such as 1,5"
        )
    return found


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
