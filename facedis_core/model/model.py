"""Model: a trained auto-encoder in NumPy; prepare, encode, decode."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.history import HistoryStep
from facedis_core.data.latents import Latents
from facedis_core.data.preparation import Align, Preparation
from facedis_core.data.units import Units
from facedis_core.errors import (
    ErrorCode,
    FacedisWarning,
    InputError,
    UsageError,
    check_argument,
    missing_extra,
)
from facedis_core.geometry.distances import vertex_distance
from facedis_core.geometry.vertex_order import describe_order
from facedis_core.io.streams import naming
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.vertex_checks import check_finite
from facedis_core.model.config import ModelConfig
from facedis_core.model.networks import network_of
from facedis_core.model.numpy_forward import Forward
from facedis_core.model.reach import REFUSED_REACH, describe_reach

if TYPE_CHECKING:
    import torch

    from facedis_core.nn.inference import ArrayForward, TrainedNetwork

Part = Literal["full", "identity", "expression"]
LatentPart = Literal["identity", "expression"]

_NO_TRIANGLES: Final = np.empty((0, 3), np.int32)


class PreparedFace(NamedTuple):
    """Vertices in the model's topology, float32 (V, 3) mm, and a warning about them or ""."""

    vertices: NDArray[np.float32]
    warning: str


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained auto-encoder: X = X_id + X_exp (eq. 1 of the paper).

    Example:
        >>> model = load_model("ict-linear")
        >>> model
        Model(ict-linear, id ..., linear, 26719 vertices, latents 92 + 44)
        >>> latents = model.encode(read_mesh("weights/examples/bob_smile.ply"))
        >>> latents.identity.shape, latents.expression.shape
        ((1, 92), (1, 44))
        >>> model.decode(latents, part="identity").shape  # the neutral face, mm
        (1, 26719, 3)

    Attributes:
        config: configuration of the network.
        weights: every learned tensor by its name in the file.
        mean_face: float32 (V, 3) mm.
        origin: float32 (3,) mm; normalised coordinates are (X - origin) / scale.
        scale: mm per unit of normalised coordinates.
        preparation: topology, and how raw meshes become faces of the model.
        reach_mm: largest distance of a training face to the mean face.
        recipe, metrics: of its training.
        history: commands that made it.
        id: first 12 hex digits of SHA-256 over tensors and config.
        source: path, for messages.
        device: `cpu` computes in NumPy, face by face; any other is a device of torch, which
            computes in batches, equal to 1e-3 mm on every vertex.
    """

    config: ModelConfig
    weights: dict[str, np.ndarray]
    mean_face: np.ndarray
    origin: np.ndarray
    scale: float
    preparation: Preparation
    reach_mm: float
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[HistoryStep] = field(default_factory=list)
    id: str = ""
    source: str = ""
    device: str = "cpu"

    @property
    def triangles(self) -> np.ndarray:
        """int32 (F, 3)."""
        return self.preparation.triangles

    @property
    def topology(self) -> str:
        """Topology id of the model's faces."""
        return self.preparation.topology

    def __repr__(self) -> str:
        label = Path(self.source).stem or "in memory"
        config = self.config
        return (
            f"Model({label}, id {self.id or 'unknown'}, {network_of(config).name}, "
            f"{config.vertices} vertices, latents {config.identity} + {config.expression})"
        )

    def prepare(
        self,
        mesh: Mesh | np.ndarray,
        *,
        units: Units = "auto",
        align: Align = "auto",
        trust_order: bool = False,
        force_encode: bool = False,
    ) -> NDArray[np.float32]:
        """The vertices of a mesh as the encoder expects them, with the checks of fd-encode.

        A raw mesh of the model's data set is reduced to its vertices, converted to mm and aligned
        as the training faces were. The arguments are the options of fd-encode.

        Args:
            mesh: a mesh, or vertices (V, 3) of the model's topology or of raw meshes.
            units: unit of meshes that do not declare one; `auto` decides by size.
            align: alignment to the mean face; `auto` repeats that of the training faces.
            trust_order: accept a different triangulation; the vertex order must match.
            force_encode: accept a face more than REFUSED_REACH times farther from the mean face
                than any training face.

        Returns:
            float32 (V, 3) mm.

        Raises:
            InputError: another topology, not finite, in another unit than `units`, or too far from
                the mean face.
            UsageError: an argument of another type.

        Warns:
            FacedisWarning: the face is farther from the mean face than any training face.

        Example:
            >>> mesh = read_mesh("weights/examples/bob_smile.ply")
            >>> load_model("ict-linear").prepare(mesh).shape
            (26719, 3)
        """
        mesh = _as_mesh(mesh, "prepare: mesh")
        face = self.prepared(
            mesh, units=units, align=align, trust_order=trust_order, force_encode=force_encode
        )
        _warn(*mesh.warnings, face.warning)
        return face.vertices

    def prepared(
        self,
        mesh: Mesh,
        *,
        units: Units = "auto",
        align: Align = "auto",
        trust_order: bool = False,
        force_encode: bool = False,
    ) -> PreparedFace:
        """The same as `prepare`, with the warning as text; warnings of the mesh are left out."""
        for name, value, choices in (("units", units, Units), ("align", align, Align)):
            if value not in get_args(choices):
                raise UsageError(
                    f"{name} is {value!r}, expected one of {', '.join(get_args(choices))}",
                    ErrorCode.OPTION_VALUE,
                )
        with naming(mesh.name or "mesh"):
            check_finite(mesh.vertices)
        vertices = self.preparation.apply(
            mesh, self.mean_face, units=units, align=align, trust_order=trust_order
        )
        with naming(mesh.name or "mesh"):
            check_finite(vertices)  # in a larger unit
        distance = float(self.distance_to_mean(vertices[None])[0])
        warning = describe_reach(mesh.name or "mesh", distance, self.reach_mm)
        if not warning:
            return PreparedFace(vertices, "")
        order = describe_order(mesh.name, vertices, self.triangles)
        if distance > REFUSED_REACH * self.reach_mm and not force_encode:
            advice = order or "check --units and --align, or pass --force-encode"
            raise InputError(f"{warning}; {advice}", ErrorCode.FAR_FACE)
        return PreparedFace(vertices, f"{warning}; {order or 'its latents are doubtful'}")

    def encode(
        self,
        faces: Mesh | np.ndarray | Sequence[Mesh | np.ndarray],
        *,
        names: Sequence[str] | None = None,
        units: Units = "auto",
        align: Align = "auto",
        trust_order: bool = False,
        force_encode: bool = False,
    ) -> Latents:
        """Latents of faces: the means of identity and expression (no sampling).

        Every face is prepared as by `prepare`, with its errors and warnings.

        Args:
            faces: a mesh, vertices (V, 3) or (B, V, 3), or a list of meshes or vertices.
            names: one name a face; None = the names of the meshes, row0000, row0001, ... for
                arrays.
            units: as for `prepare`.
            align: as for `prepare`.
            trust_order: as for `prepare`.
            force_encode: as for `prepare`.

        Returns:
            the latents of B faces.

        Example:
            >>> paths = ["weights/examples/bob_neutral.ply", "weights/examples/bob_smile.ply"]
            >>> load_model("ict-linear").encode([read_mesh(path) for path in paths])
            Latents(2 faces, identity (2, 92), expression (2, 44), model ...)
        """
        meshes = _as_meshes(faces)
        if names is None:
            names = [mesh.name or f"row{row:04d}" for row, mesh in enumerate(meshes)]
        if len(names) != len(meshes):
            raise UsageError(
                f"{len(names)} names for {len(meshes)} faces, expected one a face",
                ErrorCode.ROW_COUNT,
            )
        vertices = np.empty((len(meshes), *self.mean_face.shape), np.float32)
        for row, mesh in enumerate(meshes):
            face = self.prepared(
                replace(mesh, name=names[row]),
                units=units,
                align=align,
                trust_order=trust_order,
                force_encode=force_encode,
            )
            _warn(*mesh.warnings, face.warning)
            vertices[row] = face.vertices
        return self.encode_prepared(vertices, names)

    def encode_prepared(self, vertices: np.ndarray, names: Sequence[str] | None = None) -> Latents:
        """Latent means of prepared faces, whose unit and distance to the mean are not checked.

        Args:
            vertices: prepared faces (B, V, 3) mm.
            names: names of the faces; None = row numbers.

        Raises:
            InputError: another shape, or not finite.
        """
        expected = (self.config.vertices, 3)
        if vertices.ndim != 3 or vertices.shape[1:] != expected:
            raise InputError(
                f"faces of shape {vertices.shape}, expected (B, {expected[0]}, 3) for model "
                f"{self.source or self.id}; prepare them with fd-prep first",
                ErrorCode.ARRAY_SHAPE,
            )
        if not np.isfinite(vertices).all():
            raise InputError(
                "a face has vertices that are not finite; repair the mesh first",
                ErrorCode.NOT_FINITE,
            )
        if self.device == "cpu":
            identity = np.empty((len(vertices), self.config.identity), np.float32)
            expression = np.empty((len(vertices), self.config.expression), np.float32)
            # Face by face, here and in `decode_vectors`: a product of several rows rounds
            # differently, and a result must not depend on the other faces of a batch.
            for row, face in enumerate(vertices):
                identity[row], expression[row] = self._forward.encode(self._normalised(face))
        else:
            identity, expression = self._torch_forward.encode(vertices)
        names = list(names) if names is not None else [str(row) for row in range(len(vertices))]
        return Latents(names, [self.id] * len(names), identity, expression)

    def check_part(self, part: LatentPart) -> None:
        """Raise InputError where the model has no such latents."""
        if not getattr(self.config, part):
            raise InputError(
                f"model {self.source or self.id} ({network_of(self.config).name}) has no {part} "
                f"latents, {self.config.identity} + {self.config.expression}; use a model of "
                "identity and expression",
                ErrorCode.PART_MISSING,
            )

    def latent_covariance(self, part: LatentPart) -> np.ndarray | None:
        """Covariance (D, D) of a latent over the training faces; None if the weights lack it."""
        return self._forward.latent_covariance(part)

    def decode(
        self, latents: Latents, part: Part = "full", *, offsets: bool = False
    ) -> NDArray[np.float32]:
        """Faces from latents (eq. 1), in the model's topology.

        Args:
            latents: B rows, encoded with this model.
            part: `full`: X_id + X_exp, `identity`: X_id, `expression`: the mean face plus X_exp.
            offsets: give offsets without the mean face.

        Returns:
            float32 (B, V, 3) mm.

        Raises:
            InputError: latents of another model or size, not finite or too large.
            UsageError: an unknown part, or no latents.

        Example:
            >>> model = load_model("ict-linear")
            >>> latents = model.encode(read_mesh("weights/examples/bob_smile.ply"))
            >>> model.decode(latents).shape
            (1, 26719, 3)
        """
        made = "Latents; of arrays Latents(names, models, identity, expression) makes them"
        check_argument(latents, Latents, "decode: latents", made)
        latents.check_model(self.id, f"{self.source or 'the decoder'}")
        return self.decode_vectors(latents.identity, latents.expression, part, offsets=offsets)

    def decode_vectors(
        self,
        identity: np.ndarray,
        expression: np.ndarray,
        part: Part = "full",
        *,
        offsets: bool = False,
    ) -> np.ndarray:
        """Faces from latent vectors, whose model is not checked.

        Args:
            identity: (B, D_id).
            expression: (B, D_exp).
            part: `full`: X_id + X_exp, `identity`: X_id, `expression`: the mean face plus X_exp.
            offsets: give offsets without the mean face.

        Returns:
            float32 (B, V, 3) mm.

        Raises:
            InputError: latents of another size, not finite or too large, or different numbers of
                identities and expressions; or a part that the model lacks.
            UsageError: an unknown part.
        """
        if part not in get_args(Part):
            raise UsageError(
                f"part {part!r}, expected one of {', '.join(get_args(Part))}",
                ErrorCode.OPTION_VALUE,
            )
        if part != "full":
            self.check_part(part)
        for name, z, size in (
            ("identity", identity, self.config.identity),
            ("expression", expression, self.config.expression),
        ):
            if z.ndim != 2 or z.shape[1] != size:
                raise InputError(
                    f"{name} latents of shape {z.shape}, expected (B, {size})",
                    ErrorCode.LATENT_SIZE,
                )
            if not np.isfinite(z).all():
                raise InputError(
                    f"{name} latents are not finite; encode the faces again", ErrorCode.NOT_FINITE
                )
        if len(identity) != len(expression):
            raise InputError(
                f"{len(identity)} identities and {len(expression)} expressions; "
                "expected as many of both, pair them with fd-transfer",
                ErrorCode.ARRAY_SHAPE,
            )
        with np.errstate(over="ignore", invalid="ignore"):  # checked below
            z_id = identity.astype(np.float32, order="C")
            z_exp = expression.astype(np.float32, order="C")
            if self.device == "cpu":
                faces = np.empty((len(identity), self.mean_face.size), np.float32)
                for row, face in enumerate(faces):
                    face[:] = self._forward.offsets(z_id[row], z_exp[row], part)
                faces *= np.float32(self.scale)
            else:
                faces = self._torch_forward.offsets(z_id, z_exp, part)
        if not np.isfinite(faces).all():
            raise InputError(
                "latents too large for a face of them to be finite; encode it again",
                ErrorCode.NOT_FINITE,
            )
        offset = faces.reshape(-1, *self.mean_face.shape)
        return offset if offsets else offset + self.mean_face

    def to_torch(self, device: "torch.device | str" = "cpu") -> "TrainedNetwork":
        """The model as a torch module on a device, in evaluation mode.

        Its forward takes faces (B, V, 3) mm and gives (reconstruction, identity, expression,
        posteriors): X = X_id + X_exp in mm, and the distributions of both latents. It agrees with
        `encode` and `decode` to 1e-3 mm on every vertex, and can be differentiated.

        Args:
            device: of torch.

        Raises:
            UsageError: torch is not installed, or has no such device here.

        Example:
            >>> import torch
            >>> model = load_model("ict-linear")
            >>> faces = torch.tensor(model.mean_face[None])  # (B, V, 3) mm
            >>> model.to_torch()(faces).identity.shape  # X_id, mm
            torch.Size([1, 26719, 3])
        """
        return _torch_inference().trained_network(self, device)

    def distance_to_mean(self, vertices: np.ndarray) -> np.ndarray:
        """Mean vertex distance (B,) mm of faces (B, V, 3) mm to the mean face."""
        return vertex_distance(vertices, self.mean_face)

    @cached_property
    def _forward(self) -> Forward:
        forward: type[Forward] = network_of(self.config).load_numpy_forward()
        return forward(self.config, self.weights, self._normalised(self.mean_face))

    @cached_property
    def _torch_forward(self) -> "ArrayForward":
        return _torch_inference().ArrayForward(self, self.device)

    def _normalised(self, vertices: np.ndarray) -> np.ndarray:
        """Normalised coordinates of vertices in mm."""
        return (vertices - self.origin) / np.float32(self.scale)


def _warn(*lines: str) -> None:
    """Warn, at the call of a method of `Model`, of every line that is not empty."""
    for line in filter(None, lines):
        warnings.warn(line, FacedisWarning, stacklevel=3)


def _as_mesh(face: object, what: str) -> Mesh:
    """A mesh, or vertices (V, 3) as a mesh without triangles and unit."""
    if isinstance(face, Mesh):
        return face
    if isinstance(face, str | bytes | Path) or not hasattr(face, "__array__"):
        raise UsageError(
            f"{what} is {type(face).__name__}, expected a Mesh or an array of vertices, such "
            "as read_mesh(path) or face_set[:]",
            ErrorCode.ARGUMENT_TYPE,
        )
    try:
        vertices = np.asarray(face)
    except (RuntimeError, TypeError) as error:  # a tensor on a GPU, or with a gradient
        raise UsageError(
            f"{what} cannot be read as an array: {error}", ErrorCode.ARGUMENT_TYPE
        ) from error
    return Mesh(vertices, _NO_TRIANGLES)


def _as_meshes(faces: Any) -> list[Mesh]:
    """The meshes of the argument of `Model.encode`."""
    if isinstance(faces, list | tuple) or getattr(faces, "ndim", 0) == 3:
        return [_as_mesh(face, f"encode: face {number}") for number, face in enumerate(faces)]
    return [_as_mesh(faces, "encode: faces")]


def _torch_inference() -> Any:
    """The module `nn.inference`; importing it imports torch."""
    try:
        return import_module("facedis_core.nn.inference")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_extra("a torch module", "train") from None
