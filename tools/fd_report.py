"""fd-report: compare models on a face set in one HTML page."""

import fd_cli

from pathlib import Path
from typing import Annotated

import typer


def report(
    face_set: Annotated[
        str | None,
        typer.Argument(
            metavar="SET|FACES",
            show_default=False,
            help="Face set, default: standard input; with --registrations the registered faces, as "
            "-o of fd-register.",
        ),
    ] = None,
    models: fd_cli.Models = None,
    split: fd_cli.Split = "test",
    baselines: Annotated[
        bool | None,
        typer.Option(
            "--baselines/--no-baselines",
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
            help="Number of best, of average and of worst faces or scans to show.",
        ),
    ] = 1,
    size: Annotated[
        int,
        typer.Option(min=32, max=1024, metavar="PX", help="Height of a face in pixels."),
    ] = 256,
    value_range: fd_cli.ColorRange = None,
    textures: Annotated[
        str | None,
        typer.Option(
            "--textures",
            metavar="MESH|DIR",
            show_default=False,
            help="Original mesh whose texture, or colors of vertices, the faces in 3D have. A "
            "folder: the file of the face's name, or of its subject's.",
        ),
    ] = None,
    registrations: Annotated[
        str | None,
        typer.Option(
            "--registrations",
            metavar="FILE",
            show_default=False,
            help="Report on registered scans: the file of fd-register --report.",
        ),
    ] = None,
    failures: Annotated[
        str | None,
        typer.Option(
            "--failures",
            metavar="FILE",
            show_default=False,
            help="Scans that fd-register refused: the file of its --failures.",
        ),
    ] = None,
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
    """Compare models on a face set, or look through registered scans, in one HTML page.

    All models are measured on the same faces, beside linear baselines, and compared with the first
    by paired differences: metrics, charts, a 3D viewer and the figures of the paper, which are
    error maps of the best, average and worst faces, expression transfer, interpolation, identity
    parts. Of scans the page shows a table of distances, what was refused and why, and doubtful,
    worst, average and best scans beside their faces. The page needs no network and no other file.

    Examples:
      fd-report set.safetensors -m model.safetensors -o report.html
      fd-report set.safetensors -m a.safetensors -m b.safetensors -o ab.html --figures png/
      fd-report set.safetensors --textures heads/ -o report.html
      fd-report faces/ --registrations faces.jsonl --failures failed.jsonl -o scans.html
    """
    given = {**locals()}
    from facedis_core.errors import ErrorCode, UsageError
    from facedis_core.io.streams import check_output, open_output
    from facedis_core.render.color_scale import ColorScale
    from facedis_core.report.figures import FigureOptions
    from facedis_core.report.page import ReportOptions, build_report, check_folder, write_figures

    source = "-" if face_set is None else face_set
    drawn = FigureOptions(
        size, count, ColorScale.parse(value_range) if value_range is not None else None
    )
    if registrations is not None:
        from facedis_core.report.registrations import (
            RegistrationReportOptions,
            build_registration_report,
        )

        if face_set is None:
            raise UsageError(
                "--registrations needs the registered faces too; give fd-report FACES "
                "--registrations FILE",
                ErrorCode.OPTION_CONFLICT,
            )
        idle = ("models", "split", "baselines", "align", "textures")
        fd_cli.check_idle(report, given, "--registrations measures no model", only=idle)
        scans = RegistrationReportOptions(
            source, registrations, failures, title, figures=drawn, output=output
        )
    else:
        if failures is not None:
            raise UsageError(
                "--failures lists scans; give --registrations too", ErrorCode.OPTION_CONFLICT
            )
        options = ReportOptions(
            face_set=source,
            models=models or [None],
            split=split,
            baselines=baselines,
            align=align,
            title=title,
            figures=drawn,
            textures=textures,
            output=output,
        )
    fd_cli.check_read_once(source, *(models or ()), *filter(None, (registrations, failures)))
    check_output(output, force)  # as binary: nobody reads megabytes of HTML on a terminal
    inputs: dict[str, str | None] = {
        f"--model {name}": name for name in models or () if Path(name).is_file()
    }
    inputs |= {"--registrations": registrations, "--failures": failures}
    if output != "-":
        fd_cli.check_different({"SET": source, **inputs, "--output": output, "--figures": figures})
    if figures is not None:
        check_folder(figures, force)
    if registrations is not None:
        page = build_registration_report(scans, fd_cli.progress_bar)
    else:
        page = build_report(options, fd_cli.progress_bar)
    for warning in page.warnings:
        fd_cli.warn(warning)
    with open_output(output, force=force) as stream:
        stream.write(page.html.encode())
    if figures is not None:
        write_figures(figures, page, force)


def main() -> None:
    """Entry point of fd-report."""
    fd_cli.run(report)


if __name__ == "__main__":
    main()
