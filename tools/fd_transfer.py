"""fd-transfer: combine the identity of one face with the expression of another."""

import fd_cli

from pathlib import Path
from typing import Annotated

import typer


def transfer(
    identity: Annotated[
        str,
        typer.Argument(
            metavar="IDENTITY", help="Latents, a mesh or a folder of meshes: the identity."
        ),
    ],
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPRESSION", help="Latents, a mesh or a folder of meshes: the expression."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Latents (.npy), - for standard output; or where IDENTITY is a mesh, its file "
            "with moved vertices: a file, a folder dir/, a pattern 'dir/{name}.obj', or a point "
            "cache out.pc2 or out.mdd.",
        ),
    ] = "-",
    model: fd_cli.ModelOption = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Combine every identity with every expression.")
    ] = False,
    scale: Annotated[
        float, typer.Option("--scale", metavar="FACTOR", help="Factor on the expression latents.")
    ] = 1.0,
    map_file: fd_cli.MapOption = None,
    units: fd_cli.Units = "auto",
    align: fd_cli.Align = "auto",
    trust_order: fd_cli.TrustOrder = False,
    force_encode: fd_cli.ForceEncode = False,
    stream: fd_cli.Stream = False,
    force: fd_cli.Force = False,
) -> None:
    """Combine the identity of one face with the expression of another.

    One row with one, one with many, many with one, or equal numbers row by row; --all-pairs
    combines every row of one with every row of the other. One of the two inputs may be - for
    standard input, and one may be a plain float array (N, D_id + D_exp). Meshes are encoded with
    the model; latents need none, and with -m must be of it. A mesh that comes out is that of
    IDENTITY with moved vertices, as of fd-decode --onto: textures, unit, pose and what the model
    misses of it stay. With --map either mesh may be of another rig.

    Examples:
      fd-transfer alice.npy bob_smile.npy | fd-decode > alice_smiles.ply
      fd-transfer alice.npy faces.npy --scale 1.5 | fd-decode -o exaggerated/
      fd-transfer alice.obj bob_smile.obj -o alice_smiles.obj
      fd-transfer rig.obj bob_smile.ply --map rig.map.safetensors -o rig_smiles.obj
    """
    from facedis_core.data.latents import concatenate, save_latents
    from facedis_core.errors import ErrorCode, UsageError
    from facedis_core.io.paths import check_suffix, is_folder_pattern, names_surface
    from facedis_core.io.streams import check_output
    from facedis_core.mesh.mesh import is_mesh_source, is_mesh_suffix
    from facedis_core.pipeline.combine import open_pair, pair_rows, pairs_of_model, transfer_blocks

    given, encode, expected = {**locals()}, None, None
    if is_mesh_source(identity) or is_mesh_source(expression):  # else no model is needed
        from facedis_core.data.topology_map import read_map
        from facedis_core.pipeline.decode import DecodeOptions, decode_to
        from facedis_core.pipeline.encode import LatentsOfMeshes, warn_of_map
        from facedis_core.pipeline.onto import OntoDecoder, find_originals

        known = None if map_file is None else read_map(map_file)
        encode = LatentsOfMeshes(model, fd_cli.warn, units, align, trust_order, force_encode, known)
        encode.encoder.model.check_part("identity")
        encode.encoder.model.check_part("expression")
    else:
        idle = ("map_file", "units", "align", "trust_order", "force_encode")
        fd_cli.check_idle(transfer, given, "both inputs are latents, not meshes", only=idle)
        if model is not None:
            from facedis_core.model.model_file import load_model

            expected = load_model(model)
    onto = None
    as_mesh = is_mesh_suffix(Path(output).suffix) or names_surface(output)
    if as_mesh or is_folder_pattern(output):
        if encode is None or not is_mesh_source(identity):
            raise UsageError(
                f"the output {output} is a mesh, but IDENTITY {identity} is none to write it onto; "
                "give a mesh, or decode latents: fd-transfer ... | fd-decode",
                ErrorCode.OUTPUT_SUFFIX,
            )
        onto = find_originals(identity, of_pairs=True)
        options = DecodeOptions(
            output=output, stream=stream, force=force, onto=onto.format_for(output)
        )
    else:
        check_suffix(output, "latents", ".npy")
        check_output(output, force)
    with open_pair(identity, expression, encode) as rows:
        pairs = pair_rows(*rows, all_pairs=all_pairs)
        if expected is not None:
            pairs = pairs_of_model(pairs, expected.id, expected.source)
        combined = transfer_blocks(pairs, scale)
        if encode is None or onto is None:
            save_latents(output, combined, force=force, stream=stream)
            if encode is not None:
                warn_of_map(encode.topology_map, encode.used_map, fd_cli.warn)
            return
        blocks = combined if stream else [concatenate(list(combined))]
        warn_of_map(encode.topology_map, encode.used_map, fd_cli.warn)
        decoder = OntoDecoder(
            encode.encoder.model,
            originals=onto,
            units=units,
            align=align,
            trust_order=trust_order,
            topology_map=encode.topology_map,
        )
        for _ in decode_to(options, decoder, blocks):
            pass


def main() -> None:
    """Entry point of fd-transfer."""
    fd_cli.run(transfer)


if __name__ == "__main__":
    main()
