"""facedis: split registered 3D faces into identity and expression.

The names of the Python API. Each is imported on first use, so that `import facedis_core` imports
only the standard library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facedis_core.data.face_set import FaceSet, load_face_set
    from facedis_core.data.latents import Latents, read_latents, write_latents
    from facedis_core.data.topology_map import TopologyMap, read_map, write_map
    from facedis_core.errors import FacedisError, FacedisWarning
    from facedis_core.evaluate.evaluation import evaluate
    from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
    from facedis_core.model.model import Model
    from facedis_core.model.model_file import load_model, write_model
    from facedis_core.pipeline.combine import interpolate, transfer
    from facedis_core.registration.mapping import make_map
    from facedis_core.registration.registration import Registration, register
    from facedis_core.train.training import train

__version__ = "0.1.0"

__all__ = [
    "FaceSet",
    "FacedisError",
    "FacedisWarning",
    "Latents",
    "Mesh",
    "Model",
    "Registration",
    "TopologyMap",
    "__version__",
    "evaluate",
    "interpolate",
    "load_face_set",
    "load_model",
    "make_map",
    "read_latents",
    "read_map",
    "read_mesh",
    "register",
    "train",
    "transfer",
    "write_latents",
    "write_map",
    "write_mesh",
    "write_model",
]

_MODULES = {
    "FaceSet": "data.face_set",
    "FacedisError": "errors",
    "FacedisWarning": "errors",
    "Latents": "data.latents",
    "Mesh": "mesh.mesh",
    "Model": "model.model",
    "Registration": "registration.registration",
    "TopologyMap": "data.topology_map",
    "interpolate": "pipeline.combine",
    "load_face_set": "data.face_set",
    "load_model": "model.model_file",
    "make_map": "registration.mapping",
    "read_latents": "data.latents",
    "read_map": "data.topology_map",
    "read_mesh": "mesh.mesh",
    "register": "registration.registration",
    "transfer": "pipeline.combine",
    "write_latents": "data.latents",
    "write_map": "data.topology_map",
    "write_mesh": "mesh.mesh",
    "write_model": "model.model_file",
}


# A submodule is an attribute of its package, so these two are packages that can be called.
_CALLABLE_PACKAGES = ("evaluate", "train")


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
