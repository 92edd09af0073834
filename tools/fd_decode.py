"""fd-decode: latents to meshes."""

from typing import Annotated, Literal

import typer

import fd_cli


def decode(
    latents: Annotated[
        str, typer.Argument(metavar="LATENTS", help="What fd-encode or fd-transfer wrote.")
    ] = "-",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="out.ply, a folder dir/, a pattern 'dir/{name}.obj', or - for PLY after PLY.",
        ),
    ] = "-",
    model: fd_cli.ModelOption = None,
    part: Annotated[
        Literal["full", "identity", "expression"],
        typer.Option("--part", help="The face, its identity, or its expression on the mean face."),
    ] = "full",
    offsets: Annotated[
        bool, typer.Option("--offsets", help="Leave the mean face out: differences to it in mm.")
    ] = False,
    force: fd_cli.Force = False,
) -> None:
    """Turn latents into faces, in mm, as the model that encoded them sees them.

    Also takes a plain float array (N, D_id + D_exp).
    """
    from facedis_core.encoding import decode_faces
    from facedis_core.inference import load_model
    from facedis_core.latents import read_latents
    from facedis_core.mesh import write_mesh
    from facedis_core.paths import is_folder_pattern, output_paths
    from facedis_core.streams import check_output, open_output

    network = load_model(model)
    rows = read_latents(latents, sizes=(network.config.identity, network.config.expression))
    rows.check_model(network.id, network.source)
    meshes = decode_faces(network, rows, part, offsets=offsets)
    if output == "-":
        with open_output(output, force=force) as stream:
            for mesh in meshes:
                write_mesh(stream, mesh)
        return
    paths = output_paths(output, rows.names)
    parents = is_folder_pattern(output)
    for path in paths:
        check_output(str(path), force, parents=parents)
    for path, mesh in fd_cli.progress(zip(paths, meshes, strict=True), "writing", len(paths)):
        with open_output(str(path), force=force, parents=parents) as stream:
            write_mesh(stream, mesh, path.suffix or ".ply")


def main() -> None:
    """Entry point of fd-decode."""
    fd_cli.run(decode)


if __name__ == "__main__":
    main()
