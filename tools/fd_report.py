"""fd-report: compare models on a face set in one HTML page."""

import fd_cli

from pathlib import Path
from typing import Annotated

import typer


def report(
    face_set: Annotated[
        str | None,
        typer.Argument(
            metavar="SET", show_default=False, help="Face set; default: standard input."
        ),
    ] = None,
    models: fd_cli.Models = None,
    split: fd_cli.Split = "test",
    baselines: Annotated[
        bool | None,
        typer.Option(
            show_default=False,
            help="Also measure linear methods fitted on the training split.  [default: if the set "
            "has one]",
        ),
    ] = None,
    align: fd_cli.AlignPredictions = False,
    title: Annotated[
        str | None,
        typer.Option(show_default=False, help="Title of the page.  [default: the models' names]"),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--faces",
            min=1,
            max=8,
            metavar="N",
            help="Number of best, of average and of worst faces to show.",
        ),
    ] = 1,
    size: Annotated[
        int,
        typer.Option(min=32, max=1024, metavar="PX", help="Height of a face in pixels."),
    ] = 256,
    value_range: fd_cli.ColorRange = None,
    output: fd_cli.Output = "-",
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures",
            metavar="DIR",
            show_default=False,
            help="Also write figures (PNG) and charts (SVG) into this folder.",
        ),
    ] = None,
    force: fd_cli.Force = False,
) -> None:
    """Compare models on a face set: metrics, charts, figures and a 3D viewer in one HTML page.

    All models are measured on the same faces, beside linear baselines, and compared with the first
    by paired differences. The figures are those of
    the paper: error maps of the best, average and worst faces, expression transfer, interpolation,
    identity parts. The page needs no network and no other file.

    Examples:
      fd-report set.safetensors -m model.safetensors -o report.html
      fd-report set.safetensors -m a.safetensors -m b.safetensors -o ab.html --figures png/
    """
    from facedis_core.io.streams import check_output, open_output
    from facedis_core.render.color_scale import ColorScale
    from facedis_core.report.figures import FigureOptions
    from facedis_core.report.page import ReportOptions, build_report, check_folder, write_figures

    source = "-" if face_set is None else face_set
    options = ReportOptions(
        face_set=source,
        models=models or [None],
        split=split,
        baselines=baselines,
        align=align,
        title=title,
        figures=FigureOptions(
            size, count, ColorScale.parse(value_range) if value_range is not None else None
        ),
        output=output,
    )
    fd_cli.check_read_once(source, *(models or ()))
    check_output(output, force)  # as binary: nobody reads megabytes of HTML on a terminal
    inputs = {f"--model {name}": name for name in models or () if Path(name).is_file()}
    if output != "-":
        fd_cli.check_different({"SET": source, **inputs, "--output": output, "--figures": figures})
    if figures is not None:
        check_folder(figures, force)
    report = build_report(options, fd_cli.progress_bar)
    with open_output(output, force=force) as stream:
        stream.write(report.html.encode())
    if figures is not None:
        write_figures(figures, report, force)


def main() -> None:
    """Entry point of fd-report."""
    fd_cli.run(report)


if __name__ == "__main__":
    main()
