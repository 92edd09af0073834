"""Blender without a window, for tests of what it opens: the PyPI package bpy, where it is at hand.

Its Python may be another one, which FACEDIS_BLENDER_PYTHON names.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PYTHON = os.environ.get("FACEDIS_BLENDER_PYTHON", sys.executable)


def in_blender(script: str, *arguments: Any, env: dict[str, str] | None = None) -> Any:
    """What a script prints last, as JSON; `bpy` is imported, the scene is empty.

    Skips the test where there is no bpy.
    """
    if subprocess.run([PYTHON, "-c", "import bpy"], capture_output=True).returncode:
        pytest.skip("needs Blender: pip install bpy, or FACEDIS_BLENDER_PYTHON")
    program = (
        "import bpy, json, sys\n"
        "import numpy as np\n"
        "bpy.ops.wm.read_factory_settings(use_empty=True)\n" + script
    )
    words = [PYTHON, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith(("{", "["))]
    return json.loads(lines[-1])
