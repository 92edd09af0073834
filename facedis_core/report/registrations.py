"""A page about registered scans: distances, what was refused, and scans beside their faces.

Of many scans it holds a line each; meshes are read one at a time, and only those that are drawn.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError, missing_extra
from facedis_core.geometry.alignment import RigidTransform
from facedis_core.io.paths import OutputPaths, is_file
from facedis_core.io.progress import Progress, no_progress
from facedis_core.io.streams import naming, open_input, read_all
from facedis_core.io.text import first_of, shown
from facedis_core.mesh import ply
from facedis_core.mesh.appearance import read_appearance
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.mesh.scan_formats import SCAN_FORMATS, read_scan
from facedis_core.pipeline.failures import Failure
from facedis_core.pipeline.file_meshes import read_file_meshes
from facedis_core.render.camera import FRONT, Camera
from facedis_core.render.color_bar import ColorBar
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.contact_sheet import ContactSheet
from facedis_core.render.error_map import error_summary
from facedis_core.render.scene import FaceRenderer, FaceToDraw
from facedis_core.render.shading import BACKGROUND, Picture, to_srgb
from facedis_core.render.surface_texture import colored_vertices
from facedis_core.render.vertex_colors import vertex_colors
from facedis_core.report.charts import Series, color_class, histogram, svg_file
from facedis_core.report.figures import Figure, FigureOptions, sheet_text_size
from facedis_core.report.html import WEB, embed, render_template
from facedis_core.report.page import Report, check_html
from facedis_core.report.sections import Chart

MOST_DOUBTFUL: Final = 8  # of the doubtful ones are drawn
MOST_NAMED: Final = 5  # missing faces
NONE: Final = "–"

# Columns of the table: title, key of the report, format.
_COLUMNS: Final = (
    ("unit", "unit", ""),
    ("scan to face", "scan_residual_mm", ".3f"),
    ("face to scan", "residual_mm", ".3f"),
    ("mouth", "mouth_mm", ".3f"),
    ("coverage", "coverage", ".2f"),
    ("margin", "margin_mm", ".3f"),
    ("prior distance", "prior_distance", ".2f"),
    ("start", "start", ""),
    ("landmarks", "landmark_mm", ".2f"),
    ("seconds", "seconds", ".1f"),
    ("doubt", "problem", ""),
)
_RESIDUALS: Final = {
    "scan_residual_mm": ("scan-to-face", "Scan to face, at most 4 mm a point, by scan"),
    "residual_mm": ("face-to-scan", "Face to scan, by scan"),
}
BAR_TITLES: Final = ("distance to the scan, mm", "distance, mm", "mm")
_NUMBERS: Final = ("scan_residual_mm", "residual_mm", "coverage", "prior_distance", "seconds")
_TEXTS: Final = ("name", "unit", "start", "problem")


@dataclass(frozen=True)
class RegistrationReportOptions:
    """What fd-register wrote, and the look of the page.

    Attributes:
        faces: its output: a folder, a pattern or a file.
        registrations: its report, a line of JSON a scan.
        failures: its list of failures; None = none.
        title: of the page; None = the name of the report.
        figures: size of the faces, and number of worst, average and best ones.
        output: name of the page.

    Raises:
        UsageError: an output that is not named as HTML.
    """

    faces: str
    registrations: str
    failures: str | None = None
    title: str | None = None
    figures: FigureOptions = field(default_factory=FigureOptions)
    output: str = "-"

    def __post_init__(self) -> None:
        check_html(self.output)


class TableCell(NamedTuple):
    """A value of a table as text."""

    text: str
    is_text: bool


class TableRow(NamedTuple):
    """A scan of the table."""

    name: str
    problem: str
    cells: list[TableCell]


def build_registration_report(
    options: RegistrationReportOptions, progress: Progress = no_progress
) -> Report:
    """The page; the same input gives the same bytes.

    Raises:
        InputError: the report or the list is unreadable, or a face is.
        UsageError: SciPy is not installed, with which scans are drawn.
    """
    try:
        import scipy  # noqa: F401 - checked before the work begins
    except ModuleNotFoundError:
        raise missing_extra("drawing scans", "register") from None
    found = sorted(
        read_registrations(options.registrations),
        key=lambda said: (not said["problem"], -said["scan_residual_mm"]),
    )
    refused = [] if options.failures is None else read_failures(options.failures)
    figures, notes = _figures(options, found, progress)
    charts = []
    for key, (name, title) in _RESIDUALS.items() if found else ():
        series = [Series("scans", np.array([said[key] for said in found]))]
        charts.append(Chart(f"histogram-{name}", title, histogram(series, title)))
    html = render_template(
        "registrations.html",
        [WEB / "registrations.js"],
        title=options.title or f"Registrations of {Path(options.registrations).name}",
        facts=_facts(found, refused, options.failures is not None),
        figures=list(map(embed, figures)),
        notes=notes,
        refused=refused,
        histograms=charts,
        legend=[(color_class(0), "scans")],
        columns=[("scan", "text"), *((c[0], "number" if c[2] else "text") for c in _COLUMNS)],
        rows=list(map(_table_row, found)),
    )
    files = {f"chart-{c.key}.svg": svg_file(c.svg, c.caption, ["scans"]) for c in charts}
    return Report(html, figures, files)


def read_registrations(source: str) -> list[dict[str, Any]]:
    """The lines of the report of fd-register; the `problem` of a doubtful mouth says so.

    Raises:
        InputError: unreadable, or a line is none.
    """
    found = []
    for number, said in _json_lines(source):
        landmarks = said.get("landmark_mm", {})  # earlier reports have none
        if not isinstance(landmarks, dict):
            raise _no_registration(source, number)
        numbers = [*(said.get(key) for key in _NUMBERS), *landmarks.values()]
        texts = [said.get(key) for key in _TEXTS]
        if not all(isinstance(v, float | int) and not isinstance(v, bool) for v in numbers):
            raise _no_registration(source, number)
        if not all(isinstance(value, str) for value in texts):
            raise _no_registration(source, number)
        if not said["problem"] and said.get("mouth_is_doubtful"):  # earlier reports have none
            said["problem"] = "the mouth may be wrong"
        found.append(said)
    return found


def read_failures(source: str) -> list[Failure]:
    """The lines of `--failures`.

    Raises:
        InputError: unreadable, or a line is none.
    """
    found = []
    for number, said in _json_lines(source):
        values = [said.get(key) for key in Failure._fields]
        if not all(isinstance(value, str) for value in values):
            raise InputError(
                f"{shown(source)}, line {number} is no failure; expected the file of --failures",
                ErrorCode.WRONG_KIND,
            )
        found.append(Failure(*map(str, values)))
    return found


def _json_lines(source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_input(source) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                said = json.loads(line)
            except (ValueError, RecursionError):
                said = None
            if not isinstance(said, dict):
                raise InputError(
                    f"{shown(source)}, line {number} is no JSON object; expected JSON lines of "
                    "fd-register",
                    ErrorCode.WRONG_KIND,
                )
            yield number, said


def _no_registration(source: str, number: int) -> InputError:
    return InputError(
        f"{shown(source)}, line {number} is no registration; expected the file of fd-register "
        "--report",
        ErrorCode.WRONG_KIND,
    )


def _facts(
    found: Sequence[dict[str, Any]], refused: Sequence[Failure], refused_known: bool
) -> dict[str, str]:
    facts = {
        "registered": f"{len(found):,}",
        "doubtful": f"{sum(bool(said['problem']) for said in found):,}",
        "refused": f"{len(refused):,}" if refused_known else "unknown (no --failures)",
    }
    if found:
        residuals = np.array([said["scan_residual_mm"] for said in found])
        facts |= {
            "scan to face": f"median {np.median(residuals):.2f}, at most {residuals.max():.2f} mm",
            "units": ", ".join(f"{u} {n}" for u, n in _counted(found, "unit")),
            "started from": ", ".join(f"{u} {n}" for u, n in _counted(found, "start")),
            "seconds a scan": f"{np.mean([said['seconds'] for said in found]):.1f}",
        }
    return facts


def _counted(found: Sequence[dict[str, Any]], key: str) -> list[tuple[str, int]]:
    return Counter(said[key] for said in found).most_common(5)


def _table_row(said: dict[str, Any]) -> TableRow:
    cells = []
    for _, key, form in _COLUMNS:
        value = said.get(key)
        if key == "landmark_mm":  # of each landmark
            value = np.mean(list(value.values())) if value else None
        text = NONE if value in (None, "") else format(value, form)
        cells.append(TableCell(text, not form))
    return TableRow(said["name"], said["problem"], cells)


@dataclass(frozen=True, eq=False)
class DrawnScan:
    """A registered face and its scan.

    Attributes:
        name: of both.
        face: mm.
        distances: (V,) mm of the face's vertices to the scan; NaN where not compared.
        scan: in the frame of the face; None where the file of the scan is not there.
        colors: of the vertices of the scan, linear RGB; None = unknown.
        warnings: lines about its texture.
    """

    name: str
    face: Mesh
    distances: NDArray[Any]
    scan: Mesh | None
    colors: NDArray[np.float32] | None = None
    warnings: Sequence[str] = ()


def _figures(
    options: RegistrationReportOptions, found: Sequence[dict[str, Any]], progress: Progress
) -> tuple[list[Figure], list[str]]:
    """A figure for each group of scans, and what is missing in them."""
    groups = _groups(found, options.figures.faces)
    figures, notes = [], []
    doubtful = sum(bool(said["problem"]) for said in found)
    if doubtful > MOST_DOUBTFUL:
        notes.append(f"Of {doubtful} doubtful registrations {MOST_DOUBTFUL} are drawn.")
    missing: list[str] = []
    with progress("drawing", sum(map(len, groups.values()))) as advance:
        for title, group in groups.items():
            drawn = []
            for said in group:
                path = Path(OutputPaths(options.faces).of(said["name"]))
                if not is_file(path):
                    missing.append(said["name"])
                    continue
                drawn.append(_read_drawn(said, path))
                notes += drawn[-1].warnings
                advance(1)
            if drawn:
                figures.append(_figure(title, drawn, options.figures))
    if missing:
        names = first_of(missing, MOST_NAMED)
        notes.append(f"There is no face of {names} in {shown(options.faces)}.")
    return figures, notes


def _groups(found: Sequence[dict[str, Any]], count: int) -> dict[str, list[dict[str, Any]]]:
    """Scans to draw by the titles of their figures; each is in one of them."""
    sure = [said for said in found if not said["problem"]]  # the worst first
    worst, rest = sure[:count], sure[count:]
    best, rest = rest[-count:][::-1], rest[:-count]
    middle = max(0, (len(rest) - count) // 2)
    groups = {
        "Doubtful": [said for said in found if said["problem"]][:MOST_DOUBTFUL],
        "Worst": worst,
        "Average": rest[middle : middle + count],
        "Best": best,
    }
    return {title: group for title, group in groups.items() if group}


def _read_drawn(said: dict[str, Any], path: Path) -> DrawnScan:
    from facedis_core.geometry.surface import fill_between
    from facedis_core.render.scan_surface import scan_surface

    face = read_mesh(path)
    distances = None
    if path.suffix.lower() in ("", ".ply"):
        with open_input(str(path)) as stream:
            distances = ply.read_vertex_numbers(stream, "distance")
    if distances is None:
        distances = np.full(len(face.vertices), np.nan, np.float32)
    scan = _read_source(said)
    if scan is None:
        return DrawnScan(said["name"], face, fill_between(distances, face.triangles), None)
    to_scan = RigidTransform(
        np.array(said["rotation"], np.float64), np.array(said["translation"]), said["scale"]
    )
    colors, warnings = _colors(said["source"], scan)
    found = scan_surface(scan, to_scan, face, distances, colors)
    mesh = Mesh(found.vertices, found.triangles, scan.name, 1.0) if len(found.triangles) else None
    return DrawnScan(
        said["name"],
        face,
        found.face_distances.astype(np.float64),
        mesh,
        found.colors,
        warnings,
    )


def _colors(source: str, scan: Mesh) -> tuple[NDArray[np.float32] | None, Sequence[str]]:
    """The colors of the vertices of a scan, of its texture or its own, and lines about them."""
    look = read_appearance(source, read_all(source), scan)
    try:
        with naming(source):
            return vertex_colors(look, len(scan.vertices)), look.warnings
    except InputError as error:  # a broken image; the shape is what matters
        return None, (*look.warnings, str(error))


def _read_source(said: dict[str, Any]) -> Mesh | None:
    """The scan that a line of the report is about, if it is where fd-register found it."""
    source = said.get("source")
    if not isinstance(source, str) or not is_file(source):
        return None
    if Path(source).suffix.lower() in SCAN_FORMATS:
        return read_scan(source)
    first = None
    for mesh in read_file_meshes(source):
        if mesh.name == said["name"]:
            return mesh
        first = first or mesh
    return first


def _figure(title: str, drawn: Sequence[DrawnScan], options: FigureOptions) -> Figure:
    known = [one.distances[np.isfinite(one.distances)] for one in drawn]
    known = [values for values in known if len(values)]
    scale = options.scale or (ColorScale.covering(known) if known else ColorScale(0.0, 1.0))
    camera = Camera.framing(list(map(face_window, drawn)), options.size)
    rows = zip(*(draw_scan(one, camera, scale) for one in drawn), strict=True)
    captions = [""] * (2 * len(drawn))
    for one in drawn:
        compared = one.distances[np.isfinite(one.distances)]
        captions.append(error_summary(compared) if len(compared) else "not known")
    sheet = ContactSheet(
        len(drawn),
        captions,
        ["scan", "face", "distance"],
        [one.name for one in drawn],
        bar=replace(ColorBar.of(scale, known), titles=BAR_TITLES),
        text_size=sheet_text_size(camera, len(drawn)),
    )
    caption = "Each scan, the face found in it, and that face by its distance to the scan."
    return Figure(
        title.lower(), title, caption, sheet.compose([picture for row in rows for picture in row])
    )


def draw_scan(one: DrawnScan, camera: Camera, scale: ColorScale) -> list[Picture]:
    """The scan, the face, and the face colored by its distance to the scan."""
    plain, colored = FaceRenderer(camera, BACKGROUND), FaceRenderer(camera, BACKGROUND, scale)
    return [
        _scan_picture(one, camera, plain),
        plain(FaceToDraw(one.face, (FRONT,))),
        colored(FaceToDraw(one.face, (FRONT,), one.distances)),
    ]


def face_window(one: DrawnScan) -> NDArray[Any]:
    """The part of the face that is compared, and its mirror image: the face without the head."""
    shown = one.face.vertices[np.isfinite(one.distances)]
    shown = shown if len(shown) else one.face.vertices
    return np.concatenate([shown, shown * np.array([-1, 1, 1])])


def _scan_picture(one: DrawnScan, camera: Camera, renderer: FaceRenderer) -> Picture:
    """The scan as far as the camera sees it; empty where there is none."""
    blank = np.broadcast_to(to_srgb(np.array(BACKGROUND)), (camera.height, camera.width, 3))
    if one.scan is None:
        return blank.copy()
    right = camera.left + camera.width * camera.pixel
    bottom = camera.top - camera.height * camera.pixel
    x, y = one.scan.vertices[:, 0], one.scan.vertices[:, 1]
    inside = (x > camera.left) & (x < right) & (y > bottom) & (y < camera.top)
    kept = one.scan.triangles[inside[one.scan.triangles].all(axis=1)]
    if not len(kept):
        return blank.copy()
    mesh = Mesh(one.scan.vertices, kept, one.name, 1.0)
    texture = None if one.colors is None else colored_vertices(one.colors, kept)
    return renderer(FaceToDraw(mesh, (FRONT,), lined=False, texture=texture))
