"""Progress callbacks: how long computations report their steps."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

# Opened with a description and the number of steps, if known; yields a function to call with the
# number of steps just done.
Advance = Callable[[int], None]
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]


def no_progress(description: str, total: int | None) -> AbstractContextManager[Advance]:
    """A progress context that shows nothing."""
    return nullcontext(lambda steps: None)
