"""facedis: split registered 3D faces into identity and expression.

The names of the Python API. Each is imported on first use, so that `import facedis_core` imports
only the standard library.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "FacedisError": "errors",
    "FaceSet": "data.face_set",
    "Latents": "data.latents",
    "Mesh": "mesh.mesh",
    "Model": "model.model",
    "load_face_set": "data.face_set",
    "load_model": "model.model",
    "read_latents": "data.latents",
    "read_mesh": "mesh.mesh",
    "write_mesh": "mesh.mesh",
}

__all__ = [*sorted(_MODULES), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
