"""fd-register: register raw scans to a model's topology."""

import fd_cli

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer


def register(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCAN|DIR|-", show_default=False, help="Raw scans; default: PLY on stdin."
        ),
    ] = None,
    files_from: fd_cli.FilesFrom = None,
    root: fd_cli.Root = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file out.ply, a folder dir/, a pattern 'dir/{name}.ply', or - for "
            "concatenated PLY.",
        ),
    ] = "-",
    latents: Annotated[
        str | None,
        typer.Option(
            "--latents",
            metavar="FILE",
            show_default=False,
            help="Also encode the registered faces to this file (.npy).",
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="FILE",
            show_default=False,
            help="Write a JSON line per scan: unit, transform to the scan, margin of the pose, "
            "coverage, residuals in mm, distance from the prior, seconds.",
        ),
    ] = None,
    model: fd_cli.ModelOption = None,
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            metavar="FILE",
            show_default=False,
            help="Registration prior of --make-prior.  [default: the bundled one for the model's "
            "topology]",
        ),
    ] = None,
    units: Annotated[
        Literal["auto", "mm", "cm", "dm", "m", "inch"],
        typer.Option(
            "--units",
            help="Unit of scans that do not declare one; auto = the one in which they have the "
            "size of a head.",
        ),
    ] = "auto",
    landmarks: Annotated[
        str | None,
        typer.Option(
            "--landmarks",
            metavar="FILE|DIR",
            show_default=False,
            help="Landmarks of the scan (CSV, JSON, MeshLab .pp), which fix the pose and draw the "
            "fit; for several scans a folder or a pattern with {name}.",
        ),
    ] = None,
    pose: Annotated[
        str | None,
        typer.Option(
            "--pose",
            metavar="FILE|DIR",
            show_default=False,
            help="Pose that takes the face to the scan (4 x 4), instead of a search; JSON lines of "
            "--report, or a folder or a pattern as for --landmarks.",
        ),
    ] = None,
    sequence: Annotated[
        bool,
        typer.Option(
            "--sequence",
            help="The scans are frames of one person, in the order of their numbers: start each "
            "from the last and hold the identity, many times faster; nothing is smoothed.",
        ),
    ] = False,
    residual: Annotated[
        Literal["none", "normal"],
        typer.Option(
            "--residual",
            help="After the fit move vertices along their normals to the scan (normal), for shape "
            "that the prior does not have; fd-encode gains nothing from it.",
        ),
    ] = "none",
    force_register: Annotated[
        bool,
        typer.Option("--force-register", help="Write faces whose fit or pose is doubtful."),
    ] = False,
    seed: fd_cli.Seed = 0,
    make_prior: Annotated[
        str | None,
        typer.Option(
            "--make-prior",
            metavar="SET",
            show_default=False,
            help="Make a registration prior of the training faces of a face set, and register "
            "nothing.",
        ),
    ] = None,
    shard: fd_cli.Shard = None,
    jobs: fd_cli.FaceJobs = 1,
    scheduler: fd_cli.Scheduler = None,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Keep existing output files and register the others."),
    ] = False,
    keep_going: fd_cli.KeepGoing = False,
    failures: fd_cli.Failures = None,
    force: fd_cli.Force = False,
) -> None:
    """Register raw scans: their faces in the model's topology and frame, in mm.

    A scan is a mesh of any triangulation or a point cloud (also STL and .xyz), in any pose and
    unit, with holes, hair and shoulders; it needs no landmarks. What shows no face, a face in two
    places, or a face far from all known ones is refused. Each vertex of the result says whether the
    scan shows it (observed) and how far it lies from the scan (distance, mm).

    Examples:
      fd-register scan.obj -o face.ply
      fd-register scans/ -o faces/ --latents faces.npy --report faces.jsonl --jobs 2 --keep-going
      fd-register scan.ply --landmarks points.pp -o face.ply
      fd-register --sequence frames/ -o faces/
      fd-register scan.ply | fd-encode | fd-transfer - smile.npy | fd-decode -o smile.ply
    """
    given = {**locals()}
    from facedis_core.errors import ErrorCode, UsageError
    from facedis_core.io.paths import check_suffix, natural_key
    from facedis_core.io.streams import check_output, open_output
    from facedis_core.model.model_file import load_model
    from facedis_core.pipeline.file_lists import collect_inputs
    from facedis_core.pipeline.register import (
        RegisterOptions,
        ScanRegistrar,
        load_tracker,
        register_to,
    )
    from facedis_core.pipeline.shards import Shard, find_part
    from facedis_core.registration.prior import prior_of, read_prior

    if make_prior is not None:
        from facedis_core.data.face_set import load_face_set
        from facedis_core.registration.prior import fit_prior, write_prior

        fd_cli.check_idle(
            register,
            given,
            "--make-prior registers nothing",
            but=("make_prior", "output", "seed", "force"),
        )
        fd_cli.check_different({"--make-prior": make_prior, "--output": output})
        check_suffix(output, "a registration prior", ".safetensors")
        check_output(output, force)
        made = fit_prior(load_face_set(make_prior), seed=seed)
        with open_output(output, force=force) as stream:
            write_prior(stream, made)
        return
    options = RegisterOptions(
        output=output,
        latents=latents,
        report=report,
        skip_existing=skip_existing,
        force=force,
        jobs=fd_cli.workers(scheduler, jobs),
    )
    if sequence and (options.jobs != 1 or landmarks or pose or skip_existing or shard):
        raise UsageError(
            "--sequence takes each frame from the last; leave out --jobs, --scheduler, "
            "--landmarks, --pose, --shard and --skip-existing",
            ErrorCode.OPTION_CONFLICT,
        )
    fd_cli.check_different({"--output": output, "--latents": latents, "--report": report})
    skipping = fd_cli.Skipping(keep_going, failures, output, force or skip_existing)
    part = find_part(
        None if shard is None else Shard.parse(shard),
        collect_inputs(inputs or (), files_from),
        root=root,
        keep_going=keep_going,
        scans=True,
    )
    scans = part.inputs
    loaded = load_model(model)
    faces = prior_of(loaded.preparation) if prior is None else read_prior(prior)
    tracker = None
    if sequence:
        tracker = load_tracker(
            loaded, faces, units=units, residual=residual, force=force_register, seed=seed
        )
    registrar = ScanRegistrar(
        loaded,
        faces,
        units=units,
        residual=residual,
        force=force_register,
        seed=seed,
        keep_going=keep_going,
        existing=output if skip_existing else None,
        landmarks=landmarks,
        pose=pose,
        tracker=tracker,
    )
    options = replace(options, label=part.label("fd-register", root, registrar.facts))
    count = len(part.listing) or scans.count
    if landmarks is not None and count != 1 and Path(landmarks).is_file():
        raise UsageError(
            f"--landmarks {landmarks} is of one scan; give a folder, or a pattern with {{name}}",
            ErrorCode.OPTION_CONFLICT,
        )
    # a shell sorts frame10 before frame2; pipes, of which the number is unknown, have their order
    items = scans.items
    if sequence and scans.count is not None:
        items = sorted(items, key=lambda item: natural_key(item.source))
    done = 0
    with fd_cli.progress_bar("registering", scans.count) as advance:
        for item in register_to(options, registrar, items, part.names):
            for line in item.warnings:
                fd_cli.warn(line)
            skipping.add(item.failures)
            done += len(item.registrations) + len(item.existing)
            advance(1)
    skipping.finish(done)


def main() -> None:
    """Entry point of fd-register."""
    fd_cli.run(register)


if __name__ == "__main__":
    main()
