"""Too little memory: told before NumPy is loaded under `ulimit -v`, and from our bugs afterwards.

Standard library only, but for the NumPy that is loaded under a limit.
"""

import errno
import os
import re
import sys
from typing import Final

from facedis_core.errors import ErrorCode, InputError

# Address space that they need once loaded, with one thread, and that each further thread needs.
_NUMPY_MB: Final = 160
_TORCH_MB: Final = 900
_THREAD_MB: Final = 40
_LONGEST_REASON: Final = 200

# How libraries say it in errors that are no MemoryError.
_WORDS: Final = re.compile(
    r"(cannot|can't|unable to|failed to) (allocate|map segment|start new thread)|out of memory|"
    r"not enough memory|bad_alloc",
    re.IGNORECASE,
)


def check_memory_limit(*, training: bool) -> None:
    """Raise InputError where the limit of the process is too small for NumPy, or torch.

    OpenBLAS ends a process that has too little, with exit code 1. So its buffer is taken here.
    """
    limit = _address_space_limit()
    if limit is None or "numpy" in sys.modules:
        return
    library, needed = ("PyTorch", _TORCH_MB) if training else ("NumPy", _NUMPY_MB)
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    count = int(threads) if threads.isdecimal() else os.cpu_count() or 1
    needed += _THREAD_MB * max(count - 1, 0)
    if limit < needed << 20:
        raise InputError(
            f"out of memory: this process may have {limit >> 20} MB, {library} with {count} "
            f"threads needs {needed} MB; raise the limit (ulimit -v), or lower OMP_NUM_THREADS",
            ErrorCode.MEMORY,
        )
    import numpy as np

    square = np.ones((256, 256))
    square @ square


def memory_error(error: BaseException) -> InputError | None:
    """The error of ours for one that comes from too little memory; None for others."""
    cause: BaseException | None = error
    while cause is not None:
        if _is_memory(cause):
            reason = " ".join(str(cause).split())[:_LONGEST_REASON] or "no details"
            advice = "give it less at a time, or raise the limit if there is one (ulimit -v)"
            if "CUDA" in reason:  # torch.OutOfMemoryError
                advice = "train with smaller batches (--set batch=N), or use --device cpu"
            return InputError(f"out of memory: {reason}; {advice}", ErrorCode.MEMORY)
        cause = cause.__cause__ or cause.__context__
    return None


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, SystemError):  # C code that failed without a reason
        return _address_space_limit() is not None
    return isinstance(error, RuntimeError | ImportError) and bool(_WORDS.search(str(error)))


def _address_space_limit() -> int | None:
    """The largest address space of this process in bytes; None where it is not limited."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit
