"""What can go wrong, by whose fault; the command line turns these into exit codes.

A message is one line and says what was found, what was expected and what to do next.
"""


class FacedisError(Exception):
    """Base of every error that facedis raises on purpose."""


class UsageError(FacedisError):
    """The request itself is wrong: an option, a combination, an output that exists."""


class MissingExtra(UsageError):
    """An optional dependency is not installed.

    `extra` is the name in pyproject.toml, so the message can give the command that installs it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the '{extra}' extra, which is not installed; "
            f"run: pip install 'facedis[{extra}]'"
        )


class InputError(FacedisError):
    """The input is unusable: missing, truncated, not finite, of the wrong kind or topology."""


class OutputError(FacedisError):
    """The output could not be written."""


class ReaderLeft(OutputError):
    """The process that reads our pipe has closed it; there is nobody to tell."""


class CheckFailed(FacedisError):
    """The work is done and the answer is no: a check did not hold, or items were skipped."""


class Stopped(FacedisError):
    """The user interrupted; what was worth keeping has been saved, and the message says where."""
