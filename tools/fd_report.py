"""fd-report: a page that says and shows how good models are."""

import fd_cli

from pathlib import Path
from typing import Annotated

import typer


def report(
    face_set: Annotated[
        str | None,
        typer.Argument(
            metavar="SET", show_default=False, help="Face set; - or nothing = standard input."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            show_default=False,
            help="Model file or bundled name, repeatable.  [default: $FACEDIS_MODEL, else ict]",
        ),
    ] = None,
    split: fd_cli.Split = "test",
    baselines: Annotated[
        bool | None,
        typer.Option(
            show_default=False,
            help="LinearRGB methods beside the models.  [default: if the set has training faces]",
        ),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Move predictions rigidly onto the truth (BU3DFE).")
    ] = False,
    title: Annotated[
        str | None,
        typer.Option(show_default=False, help="Of the page.  [default: the models' names]"),
    ] = None,
    count: Annotated[
        int,
        typer.Option("--faces", min=1, max=8, metavar="N", help="Best, average and worst faces."),
    ] = 1,
    size: Annotated[
        int, typer.Option(min=32, max=1024, metavar="PX", help="Height of a face in pictures.")
    ] = 256,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW,HIGH",
            show_default=False,
            help="Errors in mm that colors span.  [default: what 99 % need]",
        ),
    ] = None,
    output: fd_cli.Output = "-",
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures",
            metavar="DIR",
            show_default=False,
            help="Also write the pictures as PNG files into this folder.",
        ),
    ] = None,
    force: fd_cli.Force = False,
) -> None:
    """Make a page of models on a face set: metrics, charts, the paper's figures, a 3D viewer.

    The page is one HTML file that needs no network and no other file. Several models stand side
    by side, measured on the same faces; linear methods fitted on the training split stand beside
    them. Which faces are shown is decided by their errors and by rules, not by their looks.
    """
    from facedis_core.color_scale import ColorScale
    from facedis_core.errors import UsageError
    from facedis_core.figures import FigureMaker, FigureOptions
    from facedis_core.measurement import Ways
    from facedis_core.model_comparison import compare_models
    from facedis_core.report_page import build_page, check_folder, write_figures
    from facedis_core.streams import check_output, open_output

    scale = ColorScale.parse(value_range) if value_range is not None else None
    source = "-" if face_set is None else face_set
    fd_cli.check_read_once(source, *(models or ()))
    check_output(output, force)  # as if binary: nobody reads megabytes of it on a terminal
    inputs = {f"--model {name}": name for name in models or () if Path(name).is_file()}
    if output != "-":
        fd_cli.check_different({"SET": source, **inputs, "--output": output, "--figures": figures})
    if Path(output).suffix.lower() not in ("", ".html", ".htm"):
        raise UsageError(f"{output} would hold HTML; expected a name that ends in .html")
    if figures is not None:
        check_folder(figures, force)
    comparison = compare_models(
        source,
        models or [None],
        split,
        Ways(align, progress=fd_cli.progress_bar),
        baselines=baselines,
    )
    options = FigureOptions(size, count, scale)
    maker = FigureMaker(
        comparison, options, lambda drawn, total: fd_cli.progress(drawn, "drawing", total)
    )
    page = build_page(maker, title)
    with open_output(output, force=force) as stream:
        stream.write(page.html.encode())
    if figures is not None:
        write_figures(figures, page.figures, force)


def main() -> None:
    """Entry point of fd-report."""
    fd_cli.run(report)


if __name__ == "__main__":
    main()
