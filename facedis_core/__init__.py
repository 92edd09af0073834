"""facedis: split registered 3D faces into identity and expression.

The documented Python API; everything is imported when first asked for, so that
`import facedis_core` costs nothing but the standard library.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "FacedisError": "errors",
    "FaceSet": "faceset",
    "Latents": "latents",
    "Mesh": "mesh",
    "Model": "inference",
    "load_face_set": "faceset",
    "load_model": "inference",
    "read_latents": "latents",
    "read_mesh": "mesh",
    "write_mesh": "mesh",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
