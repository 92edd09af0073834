"""fd-view: faces taken apart and put together in the browser."""

import fd_cli

import traceback
from contextlib import suppress
from typing import Annotated

import typer


def view(
    faces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MESH|DIR|SET|LATENTS|-",
            show_default=False,
            help="Faces to choose from; - = on stdin.  [default: the bundled examples]",
        ),
    ] = None,
    model: fd_cli.ModelOption = None,
    align: fd_cli.Align = "auto",
    units: fd_cli.Units = "auto",
    trust_order: fd_cli.TrustOrder = False,
    force_encode: fd_cli.ForceEncode = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen on 127.0.0.1; 0 = a free port.")
    ] = 0,
    open_browser: Annotated[
        bool,
        typer.Option(
            "--open/--no-open",
            help="Show the page in the browser at once; ps then shows its address.",
        ),
    ] = False,
) -> None:
    """Look at faces in the browser: mix two, move along latent directions, see what is lost.

    Prints the address of a page and serves it until Ctrl-C, to the browser on this machine only.
    Meshes can be dropped on the page; they are encoded as fd-encode would, and nothing is written
    to disk. Of more than 200 faces, 200 that are evenly_spaced spread are taken.
    """
    from facedis_core.encoding import Encoder
    from facedis_core.gallery import chosen_faces, example_faces, mean_face
    from facedis_core.inference import load_model
    from facedis_core.live_model import LiveModel
    from facedis_core.viewer_server import LiveServer

    encoder = Encoder(
        load_model(model),
        units=units,
        align=align,
        trust_order=trust_order,
        far_faces=force_encode,
    )
    fd_cli.check_read_once(*(faces or ()))
    if faces:
        chosen, count = chosen_faces(encoder, faces)
        if len(chosen) < count:
            fd_cli.warn(f"{len(chosen)} of {count} faces are taken, evenly_spaced spread")
        for face in chosen:
            if face.warning:
                fd_cli.warn(face.warning)
    else:
        chosen = example_faces(encoder)
    live = LiveModel(encoder, [*chosen, mean_face(encoder)])
    with LiveServer(live, port, on_bug=_show) as server:
        fd_cli.say(server.url)
        if open_browser:
            _open(server.url)
        server.serve_forever()


def _open(url: str) -> None:
    """A browser of the terminal ends with the person's visit; the server must not wait for it."""
    import threading
    import webbrowser

    def show() -> None:
        if not webbrowser.open(url):
            fd_cli.warn("no browser could be started; open the address yourself")

    threading.Thread(target=show, daemon=True).start()


def _show(error: BaseException) -> None:
    with suppress(OSError, ValueError):
        traceback.print_exception(error)


def main() -> None:
    """Entry point of fd-view."""
    fd_cli.run(view)


if __name__ == "__main__":
    main()
