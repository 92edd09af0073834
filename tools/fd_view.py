"""fd-view: mix and vary faces in the browser."""

import fd_cli

import traceback
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

if TYPE_CHECKING:
    from facedis_core.viewer.face_stream import FaceStream


def view(
    faces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MESH|DIR|SET|LATENTS|-",
            show_default=False,
            help="Faces to choose from; - is standard input, shown as it arrives.  [default: the "
            "bundled examples]",
        ),
    ] = None,
    model: fd_cli.ModelOption = None,
    align: fd_cli.Align = "auto",
    units: fd_cli.Units = "auto",
    trust_order: fd_cli.TrustOrder = False,
    force_encode: fd_cli.ForceEncode = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 = any free port.")
    ] = 0,
    open_browser: Annotated[
        bool,
        typer.Option(
            "--open/--no-open",
            help="Open the page in the browser; other users can then see its address in ps.",
        ),
    ] = False,
) -> None:
    """Mix two faces, vary latents and see reconstruction errors in the browser.

    Prints the address of the page, and serves it to the browser of this machine until Ctrl-C.
    Meshes and latents can be dropped on the page; meshes are encoded as by fd-encode, raw scans
    registered as by fd-register first, and nothing is written to disk. Of more than 200 faces 200
    are shown, evenly spaced; of more on standard input 100 to 200, and the newest.

    Examples:
      fd-view
      fd-view scans/ latents.npy -m model.safetensors --open
      fd-interp a.npy b.npy --steps 100 --stream | fd-view -
    """
    from facedis_core.io.streams import open_input
    from facedis_core.model.model_file import load_model
    from facedis_core.pipeline.encode import MeshEncoder
    from facedis_core.viewer.face_stream import FaceStream
    from facedis_core.viewer.faces import load_faces
    from facedis_core.viewer.live_model import LiveModel
    from facedis_core.viewer.server import LiveServer

    fd_cli.check_read_once(*(faces or ()))
    encoder = MeshEncoder(
        load_model(model),
        units=units,
        align=align,
        trust_order=trust_order,
        force_encode=force_encode,
    )
    offered = load_faces(encoder, faces or ())
    for warning in offered.warnings:
        fd_cli.warn(warning)
    stream = None if offered.stream_place is None else FaceStream(encoder, fd_cli.warn)
    live = LiveModel(encoder, offered, stream)
    with (
        open_input("-") if stream else nullcontext() as data,
        LiveServer(live, port, on_bug=_print_traceback) as server,
    ):
        fd_cli.say(server.url)
        if stream and data:
            _read(stream, data)
        if open_browser:
            _open(server.url)
        server.serve_forever()


def _read(stream: "FaceStream", data: BinaryIO) -> None:
    """Read faces in a thread, which ends with the process."""
    import threading

    threading.Thread(target=stream.read, args=(data,), daemon=True).start()


def _open(url: str) -> None:
    """Open the browser in a thread: a text browser runs until its user leaves it."""
    import threading
    import webbrowser

    def show() -> None:
        if not webbrowser.open(url):
            fd_cli.warn("no browser could be started; open the address yourself")

    threading.Thread(target=show, daemon=True).start()


def _print_traceback(error: BaseException) -> None:
    with suppress(OSError, ValueError):
        traceback.print_exception(error)


def main() -> None:
    """Entry point of fd-view."""
    fd_cli.run(view)


if __name__ == "__main__":
    main()
