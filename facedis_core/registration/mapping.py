"""Maps between topologies, made of one head at rest in both: a rig's and a model's."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.history import history_step
from facedis_core.data.topology_map import MapQuality, TopologyMap
from facedis_core.data.units import UNITS_MM, Units, extent_of, unit_by_size
from facedis_core.errors import ErrorCode, InputError, check_argument
from facedis_core.geometry.alignment import RigidTransform
from facedis_core.geometry.extension import head_extension
from facedis_core.geometry.face_regions import nose_tip
from facedis_core.geometry.rims import find_rims
from facedis_core.geometry.sparse import SparseRows
from facedis_core.geometry.surface import connected_parts, unique_edges, vertex_normals
from facedis_core.mesh.mesh import Mesh, topology_id
from facedis_core.mesh.vertex_checks import check_finite
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.registration.registration import register
from facedis_core.registration.search import as_pose, require_scipy

if TYPE_CHECKING:
    from facedis_core.registration.correspondence import Counterparts, Skin

Points = NDArray[np.float64]

MOTION_MM: Final = 10.0  # largest displacement of the expressions that measure the round trip
BEHIND_TIP_MM: Final = 90.0  # of the nose lie neither eye sockets nor mouth
EXPRESSIONS: Final = 20  # of the model that are looked at
STABLE: Final = 0.3  # part of the vertices above the tip of the nose
LEAST_COVERAGE: Final = 0.4  # of the visible skin of the model
ALIGNED_MM: Final = 3.0  # median distance of a registered face, of which the ears may be far off
SMOOTHED: Final = 6  # rounds in which hidden vertices move more like their neighbours
WELDED_MM: Final = 1e-3  # vertices of open edges this near are one
# an expression that moves the face more is none at rest: strangers at rest 4 to 6, open jaws 28
RESTLESS_MM: Final = 8.0
TORN_MM: Final = 1.0  # more than an expression of MOTION_MM moves a vertex from its neighbours
UNTORN: Final = 2  # rounds in which vertices that go astray follow their neighbours instead
POINTS_MM: Final = 3.0  # about the distance of the vertices of a head
# Median distance of two surfaces of one head, over the face: 0.4 to 0.5 for four heads of MakeHuman
# and what is registered of them, 1.3 to 4.0 for ten pairs of different heads.
SAME_MM: Final = 0.9
FACE_MM: Final = 70.0  # from the tip of the nose


def make_map(
    rig: Mesh,
    face: Mesh | None = None,
    *,
    model: Model | None = None,
    pose: RigidTransform | NDArray[Any] | None = None,
    units: Units = "auto",
    force: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> TopologyMap:
    """Make the map between the topology of a rig and that of a model.

    Args:
        rig: the rig's head at rest, its mouth closed, in any pose and unit.
        face: the same head in the model's topology, as of `register`; None = it is registered.
        model: whose topology the face has; None = the default model.
        pose: takes the face to the rig, as `to_scan` of a registration or (4, 4); None = found.
        units: unit of a rig that does not declare one; `auto` = by its size.
        force: make a map of a doubtful registration, or of a face that is not the rig's.
        seed: of random samples of the registration.
        progress: called with the name of each step that begins.

    Raises:
        InputError: errors of `register`; the face does not lie on the rig, or is of another head.
        UsageError: an argument of another type, or SciPy is not installed.

    Example:
        >>> model = load_model("ict-pointnet")  # the narrow face, 4,601 vertices
        >>> neutral = read_mesh("weights/examples/alice_neutral.ply")
        >>> smile = read_mesh("weights/examples/alice_smile.ply")
        >>> face = Mesh(model.prepare(neutral), model.triangles, "face", 1.0)
        >>> triangles = neutral.triangles[(neutral.triangles < 6706).all(axis=1)]
        >>> rig = Mesh(neutral.vertices[:6706], triangles, "rig", 1.0)  # as if of another program
        >>> made = make_map(rig, face, model=model, pose=np.eye(4))
        >>> made
        TopologyMap(6706 <-> 4601 vertices, coverage ...)
        >>> smiling = made.to_face(Mesh(smile.vertices[:6706], triangles, "smile", 1.0))
        >>> bool(abs(smiling.vertices - model.prepare(smile)).mean() < 0.1)
        True
    """
    check_argument(rig, Mesh, "make_map: rig", "a Mesh of read_mesh")
    require_scipy()
    check_finite(rig.vertices)
    model = load_model() if model is None else model
    registered = face is None  # and judged by `register`
    if face is None:
        found = register(
            rig, model, units=units, force=force, seed=seed, pose=pose, progress=progress
        )
        face, placed = found.mesh, found.to_scan
    else:
        check_argument(face, Mesh, "make_map: face", "a Mesh of read_mesh")
        check_finite(face.vertices)
        placed = _placed(rig, face, pose, units, seed)
    progress("correspondence")
    made = _map_of(rig, face, placed, model, check=not (registered or force))
    step = history_step(
        "fd-map",
        {"rig": made.rig_topology, "model": model.id},
        {"units": None if units == "auto" else units, "seed": seed},
    )
    return replace(made, history=[step])


def _placed(
    rig: Mesh,
    face: Mesh,
    pose: RigidTransform | NDArray[Any] | None,
    units: Units,
    seed: int,
) -> RigidTransform:
    """The pose that takes a registered face to its rig."""
    from facedis_core.registration.outside import seen_from_outside
    from facedis_core.registration.pose import pose_of_registered
    from facedis_core.registration.scan import RawScan

    if pose is not None:
        return as_pose(pose)
    unit_mm = rig.unit_mm
    if unit_mm is None:
        name = unit_by_size(extent_of(rig.vertices), rig.name) if units == "auto" else units
        unit_mm = UNITS_MM[name]
    points = face.vertices.astype(np.float64)
    normals = vertex_normals(points, face.triangles)
    seen = seen_from_outside(points, normals, points, POINTS_MM)
    rotation, translation, away = pose_of_registered(
        points[seen], normals[seen], RawScan(rig, unit_mm, seed), seed
    )
    if away > ALIGNED_MM:
        raise _apart(rig, face)
    return RigidTransform(rotation, translation / unit_mm, 1 / unit_mm)


def _map_of(
    rig: Mesh, face: Mesh, pose: RigidTransform, model: Model, *, check: bool
) -> TopologyMap:
    """The map of a rig and a face that the pose takes to it; `check` that it is the same head."""
    from facedis_core.registration.correspondence import (
        GAP_MM,
        CounterpartSearch,
        conformed,
        outer_skin,
    )

    every = rig.vertices.astype(np.float64)
    every = (every - pose.translation) @ pose.rotation / pose.scale
    given = face.vertices.astype(np.float64)
    first, place = _welded(every, rig.triangles)
    own, triangles = every[first], place[rig.triangles]
    if _is_inside_out(own, triangles, given, face.triangles):
        triangles = triangles[:, ::-1]
    outer = outer_skin(own, triangles, given)
    inner = outer_skin(given, face.triangles, own)
    if not outer.seen.any() or not inner.seen.any():
        raise _apart(rig, face)
    if check:
        _check_same(rig, face, inner, outer)
    fitted = inner.moved(conformed(inner, outer))
    there = CounterpartSearch(outer, outer.points)(fitted.vertices, fitted.normals)
    covered = there.within(GAP_MM) & fitted.seen
    if covered.sum() < LEAST_COVERAGE * fitted.seen.sum():
        raise _apart(rig, face)
    # what is covered lies on the rig; what is not follows it from where it was fitted to
    extension = head_extension(fitted.vertices, face.triangles, np.flatnonzero(covered))
    onto = (there.points.of(own) - fitted.vertices)[covered]
    placed = fitted.moved(fitted.vertices + extension.apply(onto))
    back = CounterpartSearch(placed, placed.points)(own, outer.normals)
    rig_covered = back.within(GAP_MM) & outer.seen & covered[back.points.corners].all(axis=1)
    if not rig_covered.any():
        raise _apart(rig, face)
    to_model = _carried(placed, there, covered, outer, rig_covered)
    to_rig = _carried(outer, back, rig_covered, placed, covered)
    quality = MapQuality(
        coverage=float(covered[inner.seen].mean()),
        rig_coverage=float(rig_covered[outer.seen].mean()),
        round_trip_mm=0.0,
        expression_mm=_expression_of(face, model),
    )
    rig_covered = rig_covered[place]
    made = TopologyMap(
        rig=every.astype(np.float32),
        rig_triangles=np.ascontiguousarray(rig.triangles, np.int32),
        face=placed.vertices.astype(np.float32),
        triangles=np.ascontiguousarray(face.triangles, np.int32),
        to_model=SparseRows.of(to_model @ _selection(first, len(every))),
        to_rig=SparseRows.of(_selection(place, len(first)) @ to_rig),
        rig_covered=rig_covered,
        covered=covered,
        stable=rig_covered,
        pose=pose,
        quality=quality,
    )
    on_face = _expressions(made, model)
    on_rig = np.stack([made.to_rig.apply(moved) for moved in on_face]) if len(on_face) else on_face
    for _ in range(UNTORN):
        torn = covered & _torn(made, on_face, on_rig)
        if not torn.any():
            break
        covered = covered & ~torn
        to_model = _carried(placed, there, covered, outer, rig_covered[first])
        rows = SparseRows.of(to_model @ _selection(first, len(every)))
        made = replace(made, to_model=rows, covered=covered)
    quality = replace(quality, round_trip_mm=_round_trip(made, on_rig))
    return replace(made, quality=quality, stable=_stable(made, on_rig))


def _check_same(rig: Mesh, face: Mesh, inner: "Skin", outer: "Skin") -> None:
    """Raise InputError where the face is not that of the rig; any two heads have ears and a nose.

    Away from the face a registration guesses what a scan does not show.
    """
    from facedis_core.registration.correspondence import CounterpartSearch

    points, normals = inner.vertices[inner.seen], inner.normals[inner.seen]
    tip = nose_tip(points)
    if tip is not None:
        near = np.linalg.norm(points - tip, axis=1) < FACE_MM
        points, normals = points[near], normals[near]
    found = CounterpartSearch(outer, outer.points)(points, normals)
    away = float(np.median(np.linalg.norm(found.gap, axis=1)))
    if away > SAME_MM:
        raise InputError(
            f"{face.name or 'the face'} lies {away:.1f} mm from the face of "
            f"{rig.name or 'the rig'}, the same head at most {SAME_MM} mm; give the face that "
            "fd-register makes of this rig, or pass --force-register",
            ErrorCode.NO_FACE,
        )


def _welded(
    vertices: Points, triangles: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One vertex (W,) of each place, and the number (V,) of its place for each vertex.

    Only vertices of open edges are joined: formats with one texture coordinate a vertex split the
    surface along seams. Lips that touch are no open edges.
    """
    place = np.arange(len(vertices))
    rim = np.unique(find_rims(triangles, len(vertices)).edges)
    if len(rim):
        rounded = np.round(vertices[rim] / WELDED_MM).astype(np.int64)
        _, one, joined = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
        place[rim] = rim[one][joined.ravel()]
    first, place = np.unique(place, return_inverse=True)
    return first, place


def _selection(chosen: NDArray[np.intp], columns: int) -> Any:
    """The matrix (n, columns) that takes the chosen rows (n,)."""
    from scipy.sparse import coo_array

    count = np.arange(len(chosen))
    return coo_array((np.ones(len(chosen)), (count, chosen)), shape=(len(chosen), columns)).tocsr()


def _is_inside_out(
    vertices: Points,
    triangles: NDArray[np.integer[Any]],
    face: Points,
    face_triangles: NDArray[np.integer[Any]],
) -> bool:
    """Whether the triangles of a surface look away from those of a face that lies on it."""
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(vertices).query(face)
    normals, others = vertex_normals(vertices, triangles), vertex_normals(face, face_triangles)
    return bool(np.median((normals[nearest] * others).sum(axis=1)) < 0)


def _carried(
    skin: "Skin",
    found: "Counterparts",
    covered: NDArray[np.bool_],
    other: "Skin",
    other_covered: NDArray[np.bool_],
) -> Any:
    """The matrix (V, W) that takes displacements of another head to all vertices of this one."""
    from scipy.sparse import diags_array

    from facedis_core.registration.correspondence import inner_counterparts
    from facedis_core.registration.loose_parts import following_parts

    columns = len(other.vertices)
    rows = diags_array(covered.astype(np.float64)) @ found.points.matrix(columns)
    inside, inner = inner_counterparts(skin, other)
    if inner is not None:
        given = diags_array(inside.astype(np.float64)) @ inner.points.matrix(columns)
        mean = _neighbour_means(skin.triangles, covered | inside)
        free, held = diags_array(inside.astype(np.float64)), rows
        rows = rows + given
        for _ in range(SMOOTHED):
            rows = held + free @ (0.5 * (given + mean @ rows))
    known = covered | inside
    extension = head_extension(skin.vertices, skin.triangles, np.flatnonzero(known))
    parts = following_parts(
        skin.vertices, skin.triangles, covered, other.vertices, other.triangles, other_covered
    )
    return _with_parts(extension.matrix() @ rows.tocsr()[known], parts)


def _neighbour_means(triangles: NDArray[np.integer[Any]], known: NDArray[np.bool_]) -> Any:
    """The matrix (V, V) of means over those neighbours of a vertex that are known."""
    from scipy.sparse import coo_array, diags_array

    i, j = unique_edges(triangles).T
    ends = np.concatenate([i, j]), np.concatenate([j, i])
    use = known[ends[1]]
    graph = coo_array((np.ones(use.sum()), (ends[0][use], ends[1][use])), shape=(len(known),) * 2)
    return diags_array(1 / np.maximum(graph.sum(axis=1), 1)) @ graph.tocsr()


def _with_parts(matrix: Any, parts: Any) -> Any:
    """A matrix with those rows of another one that are not empty."""
    from scipy.sparse import diags_array

    parts = parts.tocsr()
    keep = (np.diff(parts.indptr) == 0).astype(np.float64)
    return diags_array(keep) @ matrix + parts


def _expressions(made: TopologyMap, model: Model) -> Points:
    """How the face moves (E, V, 3) mm with expressions of a model, a vertex by MOTION_MM.

    Empty where the model has another topology.
    """
    if model.topology != made.topology:
        return np.empty((0, len(made.face), 3))
    size = model.config.expression
    count = min(size, EXPRESSIONS)
    identity = np.zeros((count, model.config.identity), np.float32)
    unit = np.eye(count, size, dtype=np.float32)
    directions = model.decode_vectors(identity, unit, "expression", offsets=True)
    largest = np.linalg.norm(directions[:, made.covered], axis=2).max(axis=1)
    scaled: Points = MOTION_MM * directions / np.maximum(largest, 1e-9)[:, None, None]
    return scaled


def _torn(made: TopologyMap, on_face: Points, on_rig: Points) -> NDArray[np.bool_]:
    """Vertices (V,) of the face that go astray from their neighbours on the way over the rig.

    Beside the corners of closed lips and lids the nearest point may be of the other one.

    Args:
        made: the map.
        on_face: (E, V, 3) mm, expressions.
        on_rig: (E, R, 3) mm, the same on the rig.
    """
    mean = _neighbour_means(made.triangles, np.ones(len(made.face), np.bool_))
    torn = np.zeros(len(made.face), np.bool_)
    for true, moved in zip(on_face, on_rig, strict=True):
        found = made.to_model.apply(moved)
        apart, wanted = (np.linalg.norm(x - mean @ x, axis=1) for x in (found, true))
        torn |= apart > wanted + TORN_MM
    return torn


def _expression_of(face: Mesh, model: Model) -> float:
    """How far the expression of a face moves it, mm (95th percentile); 0 in another topology."""
    if model.topology != topology_id(face.triangles):
        return 0.0
    found = model.encode_prepared(face.vertices[None])
    (offsets,) = model.decode_vectors(found.identity, found.expression, "expression", offsets=True)
    return float(np.quantile(np.linalg.norm(offsets, axis=1), 0.95))


def _round_trip(made: TopologyMap, expressions: Points) -> float:
    """Mean error, mm, of rig -> model -> rig over the covered vertices of the rig."""
    errors = [0.0]
    for moved in expressions:
        back = made.to_rig.apply(made.to_model.apply(moved))
        errors.append(np.linalg.norm((back - moved)[made.rig_covered], axis=1).mean())
    return float(np.sum(errors) / max(len(expressions), 1))


def _stable(made: TopologyMap, expressions: Points) -> NDArray[np.bool_]:
    """Vertices (R,) of skin above the nose that move least, most of them of the skull."""
    part = connected_parts(made.rig_triangles, len(made.rig))
    candidates = made.rig_covered.copy()
    tip = nose_tip(made.face[made.covered])
    if tip is not None:
        # of what is not covered, lids and lips from within move as well, and the skull does not
        behind = np.isin(part, part[made.rig_covered]) & (made.rig[:, 2] < tip[2] - BEHIND_TIP_MM)
        candidates = (candidates | behind) & (made.rig[:, 1] > tip[1])
    if not candidates.any():  # no nose, or nothing above it
        return made.rig_covered
    if len(expressions):
        motion = (expressions**2).sum(axis=2).mean(axis=0)
        candidates &= motion <= np.quantile(motion[candidates], STABLE)
    return candidates


def _apart(rig: Mesh, face: Mesh) -> InputError:
    return InputError(
        f"{face.name or 'the face'} does not lie on {rig.name or 'the rig'}; give the face that "
        "fd-register makes of this rig, its pose with --pose (a line of --report), or neither",
        ErrorCode.NO_FACE,
    )
