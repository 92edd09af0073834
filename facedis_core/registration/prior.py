"""Registration prior: principal components of training faces, mean faces of expressions, limits."""

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import FaceSet
from facedis_core.data.history import HistoryStep, history_step
from facedis_core.data.preparation import Preparation
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.pca import BLOCK_FACES, face_blocks, fit_pca
from facedis_core.geometry.rims import find_rims
from facedis_core.geometry.surface import farthest_points, unique_edges, vertex_normals
from facedis_core.io.safetensors_file import (
    SafetensorsFile,
    content_id,
    not_finite,
    parse_record,
    read_safetensors,
    write_safetensors,
)
from facedis_core.io.streams import naming
from facedis_core.io.text import shown
from facedis_core.model.bundled import model_files, weights_folder
from facedis_core.model.config import LinearConfig
from facedis_core.model.model import Model

COMPONENTS: Final = 200
FRAME_MM: Final = 10.0  # mean faces of one population and frame are nearer
CONTACT_MM: Final = 1.5
NEAR_LIPS_MM: Final = 10.0


@dataclass(frozen=True)
class Limits:
    """Limits of what counts as a face; beyond them a registration is refused.

    Attributes:
        prior_distance: root mean square of the coefficients in standard deviations.
        residual_mm: mean distance to the scan of the vertices that it shows, but for what the
            roughness of the scan explains.
        scan_residual_mm: likewise of the scan near the face to the fit, each at most 4 mm.
        coverage: smallest part of the visible vertices that the scan shows.
        margin_mm: smallest difference between the residuals of the best and the next pose.
        likely_distance: prior distance below which a face may leave `likely_mm` more of both
            residuals: people who are in no span leave as much as some things that are no face, of
            which the fit is an unlikely face.
        likely_mm: see `likely_distance`.
        hidden_mm: limit of the residual of the scan near a likely face that it shows well: what
            lies before such a face, as hair does, is told but not refused.
        well_covered: coverage of a face that is shown well.
    """

    prior_distance: float = 1.7
    residual_mm: float = 0.45
    scan_residual_mm: float = 0.65
    coverage: float = 0.55
    margin_mm: float = 0.05
    likely_distance: float = 1.6
    likely_mm: float = 0.08
    hidden_mm: float = 1.6
    well_covered: float = 0.75


@dataclass(frozen=True, eq=False)
class RegistrationPrior:
    """Distribution of the faces of a topology: mean + sum of c_k basis_k, c about N(0, 1).

    Attributes:
        preparation: topology of the faces, and their place in raw meshes of the data set.
        mean: (V, 3) mm.
        basis: float32 (3, V, K) mm per standard deviation.
        starts: (E, K) mean coefficients of each expression, the neutral first.
        expressions: names (E,).
        limits: what is refused.
        history: commands that made it.
        id: first 12 hex digits of SHA-256 over tensors and config.
        source: path, for messages.
    """

    preparation: Preparation
    mean: NDArray[np.float64]
    basis: NDArray[np.float32]
    starts: NDArray[np.float64]
    expressions: tuple[str, ...]
    limits: Limits = Limits()
    history: list[HistoryStep] = field(default_factory=list)
    id: str = ""
    source: str = ""

    @property
    def triangles(self) -> NDArray[np.int32]:
        """int32 (F, 3)."""
        return self.preparation.triangles

    def face(self, coefficients: NDArray[Any]) -> NDArray[np.float64]:
        """The face (V, 3) mm of coefficients (k,) of the first k components."""
        basis = self.basis[:, :, : len(coefficients)]
        return self.mean + (basis @ coefficients.astype(np.float32)).T

    def normals(self, face: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit vertex normals (V, 3) of a face (V, 3)."""
        return vertex_normals(face, self.triangles)

    @cached_property
    def spread(self) -> NDArray[np.int32]:
        """1000 evenly spread vertices."""
        return farthest_points(self.mean, min(1000, len(self.mean)))

    @cached_property
    def coarse(self) -> "RegistrationPrior":
        """The prior on its evenly spread vertices alone, for fits that need not be exact.

        Its triangles join the neighbourhoods of these vertices. It is of no topology.
        """
        from scipy.spatial import cKDTree

        _, nearest = cKDTree(self.mean[self.spread]).query(self.mean)
        joined = np.sort(nearest[self.triangles], axis=1)
        proper = (joined[:, 0] < joined[:, 1]) & (joined[:, 1] < joined[:, 2])
        _, first = np.unique(joined[proper], axis=0, return_index=True)
        triangles = nearest[self.triangles][proper][first].astype(np.int32)
        found = replace(
            self,
            preparation=replace(self.preparation, triangles=triangles),
            mean=self.mean[self.spread],
            basis=np.ascontiguousarray(self.basis[:, self.spread]),
        )
        found.__dict__["rim"] = self.rim[self.spread]  # as the vertices know it
        return found

    @cached_property
    def contacts(self) -> NDArray[np.intp]:
        """Pairs of vertices (n, 2) where the lips of the neutral face touch, each vertex once.

        Vertices nearer than CONTACT_MM whose normals oppose each other, and that are not near each
        other on the surface. None where the faces have no such place. Lids touch in their corners,
        but are not beside the others.
        """
        from scipy.sparse import coo_matrix, csr_matrix
        from scipy.sparse.csgraph import connected_components
        from scipy.spatial import cKDTree

        neutral = self.face(self.starts[0])
        normals = self.normals(neutral)
        edges = unique_edges(self.triangles)
        size = len(self.mean)
        steps = csr_matrix((np.ones(len(edges), np.int8), edges.T), (size, size))
        steps = steps + steps.T + csr_matrix((np.ones(size, np.int8), [range(size)] * 2))
        near = (steps @ steps @ steps) > 0
        pairs = cKDTree(neutral).query_pairs(CONTACT_MM, output_type="ndarray")
        opposed = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(axis=1) < -0.3
        pairs = pairs[opposed]
        pairs = pairs[~np.asarray(near[pairs[:, 0], pairs[:, 1]], np.bool_).ravel()]
        gap = np.linalg.norm(neutral[pairs[:, 0]] - neutral[pairs[:, 1]], axis=1)
        used: set[int] = set()
        kept = []
        for a, b in pairs[np.argsort(gap, kind="stable")].tolist():
            if not {a, b} & used:
                used |= {a, b}
                kept.append((a, b))
        found = np.array(kept, np.intp).reshape(-1, 2)
        if not len(found):
            return found
        beside = cKDTree(neutral[found].mean(axis=1)).query_pairs(
            NEAR_LIPS_MM, output_type="ndarray"
        )
        joined = coo_matrix((np.ones(len(beside)), beside.T), (len(found),) * 2)
        part = connected_components(joined, directed=False)[1]
        return found[part == np.bincount(part).argmax()]

    @cached_property
    def lips(self) -> NDArray[np.intp]:
        """Vertices within NEAR_LIPS_MM of where the lips of the neutral face touch."""
        from scipy.spatial import cKDTree

        neutral = self.face(self.starts[0])
        if not len(self.contacts):
            return np.empty(0, np.intp)
        distance, _ = cKDTree(neutral[self.contacts].mean(axis=1)).query(neutral)
        return np.flatnonzero(distance < NEAR_LIPS_MM)

    @cached_property
    def rim(self) -> NDArray[np.bool_]:
        """(V,) whether a vertex is within two edges of a boundary: outer rim, lids, nostrils."""
        near = np.zeros(len(self.mean), np.bool_)
        near[find_rims(self.triangles, len(near)).edges] = True
        for _ in range(2):
            near[self.triangles[near[self.triangles].any(axis=1)]] = True
        return near


def fit_prior(faces: FaceSet, components: int = COMPONENTS, seed: int = 0) -> RegistrationPrior:
    """The prior of the training faces of a set, on the vertices of its region where it has one.

    Raises:
        InputError: too few training faces.
    """
    rows = faces.rows("train")
    vertices, preparation = faces.vertices, faces.preparation
    if faces.region is not None:
        chosen = np.flatnonzero(faces.region)
        inside = preparation.triangles[faces.region[preparation.triangles].all(axis=1)]
        preparation = replace(
            preparation,
            vertex_index=preparation.vertex_index[chosen],
            triangles=np.searchsorted(chosen, inside).astype(np.int32),
            stable_vertices=(),
        )
        vertices = np.ascontiguousarray(vertices[:, chosen])
    pca = fit_pca(vertices, rows, components, seed)
    if not len(pca.variance):
        raise InputError(
            f"{faces.id} has {len(rows)} training faces that are all alike; a prior needs faces of "
            "different people and expressions",
            ErrorCode.FACES_ALIKE,
        )
    deviation = np.sqrt(pca.variance)
    labels = faces.labels
    total = np.zeros((len(labels.expressions), len(deviation)))
    for start, block in zip(
        range(0, len(rows), BLOCK_FACES), face_blocks(vertices, rows), strict=True
    ):
        of_block = labels.expression[rows[start : start + BLOCK_FACES]]
        np.add.at(total, of_block, pca.encode(block) / deviation)
    count = np.bincount(labels.expression[rows], minlength=len(total))
    # the neutral first, which registration prefers where starts end alike
    level = np.bincount(labels.expression[rows], labels.level[rows], minlength=len(total))
    shown = [int(k) for k in np.argsort(level > 0, kind="stable") if count[k]]
    basis = (pca.basis * deviation[:, None]).reshape(len(deviation), -1, 3)
    return RegistrationPrior(
        preparation=preparation,
        mean=pca.mean.reshape(-1, 3),
        basis=np.ascontiguousarray(basis.transpose(2, 1, 0), np.float32),
        starts=total[shown] / count[shown, None],
        expressions=tuple(labels.expressions[k] for k in shown),
        history=[
            *faces.history,
            history_step(
                "fd-register", {"set": faces.id}, {"components": components, "seed": seed}
            ),
        ],
    )


@dataclass(frozen=True)
class _Config:
    """The config of a prior file."""

    expressions: list[str]
    limits: Limits


@dataclass(frozen=True)
class _Metadata:
    """The metadata of a prior file, except the preparation."""

    config: _Config
    history: list[HistoryStep]
    id: str


def write_prior(stream: BinaryIO, prior: RegistrationPrior) -> str:
    """Write a prior; returns its id."""
    tensors = {
        **prior.preparation.tensors(),
        "mean": prior.mean.astype(np.float32),
        "basis": prior.basis.astype(np.float16),
        "starts": prior.starts.astype(np.float32),
    }
    config = {"expressions": list(prior.expressions), "limits": asdict(prior.limits)}
    prior_id = content_id(tensors, config)
    metadata = {
        **prior.preparation.metadata(),
        "config": config,
        "id": prior_id,
        "history": [step.as_json() for step in prior.history],
    }
    write_safetensors(stream, "prior", tensors, metadata)
    return prior_id


def read_prior(path: str | Path) -> RegistrationPrior:
    """Read a prior.

    Raises:
        InputError: not a prior, or a tensor is missing or of another shape.
    """
    file = read_safetensors(path, "prior")
    with naming(path):
        return parse_prior(file, shown(path))


def parse_prior(file: SafetensorsFile, source: str) -> RegistrationPrior:
    """The prior in a safetensors file; errors do not name the file."""
    preparation = Preparation.from_file(file)
    metadata = parse_record(_Metadata, file.metadata)
    vertices = len(preparation.vertex_index)
    components = file.tensors["basis"].shape[-1] if "basis" in file.tensors else 0
    expected = {
        "mean": ((vertices, 3), "float32"),
        "basis": ((3, vertices, components), "float16"),
        "starts": ((len(metadata.config.expressions), components), "float32"),
    }
    for name, (shape, dtype) in expected.items():
        array = file.tensors.get(name)
        if array is None or array.shape != shape or array.dtype != dtype or not array.size:
            raise InputError(
                f"has no tensor {name!r} of shape {shape} of {dtype}; make it again with "
                "fd-register --make-prior",
                ErrorCode.TENSOR,
            )
    for name in not_finite(file.tensors):
        raise InputError(f"tensor {name!r} is not finite; make it again", ErrorCode.NOT_FINITE)
    return RegistrationPrior(
        preparation=preparation,
        mean=file.tensors["mean"].astype(np.float64),
        basis=file.tensors["basis"].astype(np.float32),
        starts=file.tensors["starts"].astype(np.float64),
        expressions=tuple(metadata.config.expressions),
        limits=metadata.config.limits,
        history=metadata.history,
        id=metadata.id,
        source=source,
    )


def prior_of(preparation: Preparation) -> RegistrationPrior:
    """The bundled prior for prepared faces.

    Raises:
        InputError: there is none.
    """
    for path in model_files(str(weights_folder() / "registration")):
        prior = read_prior(path)
        if prior.preparation.raw_topology == preparation.raw_topology:
            return prior
    raise InputError(
        f"there is no bundled registration prior for topology {preparation.topology}; make one of "
        "its face set with fd-register --make-prior SET, and give it with --prior",
        ErrorCode.TOPOLOGY,
    )


def match_prior(model: Model, prior: RegistrationPrior) -> NDArray[np.intp]:
    """Which vertex of the prior each vertex of a model is; -1 = none, where the model completes it.

    Raises:
        InputError: errors of `vertices_of`, or the prior's faces lie elsewhere than the model's.
    """
    # a linear model has the components to complete what the prior lacks
    chosen = vertices_of(model.preparation, prior, partly=isinstance(model.config, LinearConfig))
    known = chosen >= 0
    offset = prior.mean[chosen[known]] - model.mean_face[known]
    distance = float(np.linalg.norm(offset, axis=1).mean())
    if distance > FRAME_MM:
        raise InputError(
            f"the mean face of the registration prior {prior.source} lies {distance:.3g} mm from "
            f"that of the model {model.source}, expected at most {FRAME_MM:g}; make a prior of the "
            "model's face set with fd-register --make-prior SET",
            ErrorCode.FAR_FACE,
        )
    return chosen


def vertices_of(
    own: Preparation, prior: RegistrationPrior, *, partly: bool = False
) -> NDArray[np.intp]:
    """Which vertex of the prior each vertex of prepared faces is; -1 = none, if `partly`.

    Raises:
        InputError: the prior is of another topology, or lacks vertices (all, if `partly`).
    """
    known = prior.preparation
    if own.raw_topology != known.raw_topology:
        raise InputError(
            f"the registration prior {prior.source} is for raw meshes of topology "
            f"{known.raw_topology}, the model for {own.raw_topology}; give the prior of its face "
            "set with --prior",
            ErrorCode.TOPOLOGY,
        )
    order = np.argsort(known.vertex_index)
    place = np.searchsorted(known.vertex_index, own.vertex_index, sorter=order)
    found = order[np.minimum(place, len(order) - 1)]
    is_missing = known.vertex_index[found] != own.vertex_index
    if is_missing.all() or (is_missing.any() and not partly):
        raise InputError(
            f"the model has {is_missing.sum()} vertices that the registration prior "
            f"{prior.source} lacks; make one of its face set with fd-register --make-prior SET",
            ErrorCode.TOPOLOGY,
        )
    return np.where(is_missing, -1, found)
