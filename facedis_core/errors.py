"""Error classes, one per exit code, and the codes that tell the kinds of errors apart.

A message is one line: what was found, what was expected, what to do next.
"""

import errno
import sys


class ErrorCode:
    """Machine-readable kind of an error, as in the lists of `--failures`.

    The comment of a code is its explanation in docs/pipelines-and-ci.md. Not an enum: every command
    would make its members when it starts.
    """

    # Files and streams
    FILE_MISSING = "file-missing"  # The file or folder does not exist.
    FILE_UNREADABLE = "file-unreadable"  # The system refuses to open or read the file or folder.
    NOT_A_FILE = "not-a-file"  # A folder was given where a file is expected.
    NOT_A_FOLDER = "not-a-folder"  # A file was given where a folder is expected.
    EMPTY = "empty"  # The file, folder or stream holds no data.
    STREAM_CLOSED = "stream-closed"  # Standard input is closed.
    TERMINAL = "terminal"  # Data would be read from a terminal, or binary data written to one.
    SAME_FILE = "same-file"  # One file, stream or model is given twice.
    TOO_LARGE = "too-large"  # The input exceeds a size limit.
    MEMORY = "memory"  # The data do not fit into memory.

    # Content of one file
    WRONG_KIND = "wrong-kind"  # The file holds another kind of data than expected.
    UNSUPPORTED = "unsupported"  # This format or feature can be neither read nor written.
    FORMAT_VERSION = "format-version"  # The file has a format version that facedis does not know.
    TRUNCATED = "truncated"  # The data end too early.
    DAMAGED = "damaged"  # The content of the file contradicts itself.
    ID_MISMATCH = "id-mismatch"  # The content of the file does not match its id.
    MESH_SYNTAX = "mesh-syntax"  # The mesh file breaks the rules of its format.
    VERTEX_INDEX = "vertex-index"  # A vertex index lies outside of the vertices.
    NOT_FINITE = "not-finite"  # A number is infinite or not a number.
    ARRAY_SHAPE = "array-shape"  # An array has an unexpected shape or type.
    TENSOR = "tensor"  # A tensor is missing, unknown, or has an unexpected shape, type or value.
    METADATA = "metadata"  # The metadata lack a field, or a field has an unexpected value.
    HISTORY_MISSING = "history-missing"  # The file has no history.
    CSV_SYNTAX = "csv-syntax"  # The CSV file is malformed.
    CSV_COLUMNS = "csv-columns"  # The CSV file lacks a column.
    CSV_VALUE = "csv-value"  # A field of the CSV file is empty or has an unexpected value.
    RECIPE_SYNTAX = "recipe-syntax"  # The recipe is malformed.

    # Meshes that do not fit
    VERTEX_COUNT = "vertex-count"  # The mesh has another number of vertices than expected.
    TOPOLOGY = "topology"  # The mesh has other triangles than expected.
    NO_TRIANGLES = "no-triangles"  # The mesh has no triangles.
    UNIT = "unit"  # The unit of the mesh cannot be told from its size, or is another than --units.
    OUTLIER = "outlier"  # The mesh differs in size or position from the others of its data set.
    FAR_FACE = "far-face"  # The mesh is farther from the mean face than the model allows.
    NO_FACE = "no-face"  # No face is found in the scan.
    POSE_AMBIGUOUS = "pose-ambiguous"  # Two poses of a face fit the scan alike.
    NOT_SIMPLIFIED = "not-simplified"  # The mesh cannot be simplified without a fold.

    # Latents and models that do not fit
    WRONG_MODEL = "wrong-model"  # The latents were encoded with another model.
    LATENT_SIZE = "latent-size"  # The latents have another size than the model.
    PART_MISSING = "part-missing"  # The model, or the latents, lack the identity or the expression.
    LATENT_SPLIT = "latent-split"  # A plain array does not say where the expression begins.
    ROW_COUNT = "row-count"  # Two inputs have numbers of rows that cannot be paired.
    NETWORK_BROKEN = "network-broken"  # A network of another package cannot be loaded.
    MODEL_MISSING = "model-missing"  # No file and no bundled model has this name.

    # Names, labels and splits
    NAME_INVALID = "name-invalid"  # The name cannot be the name of a file.
    NAME_DUPLICATE = "name-duplicate"  # Two items have one name.
    NAME_UNKNOWN = "name-unknown"  # No item has this name or number.
    PATTERN_MISMATCH = "pattern-mismatch"  # The name does not match the pattern.
    LAYOUT = "layout"  # The folder is not laid out like the data set.
    LABEL_MISSING = "label-missing"  # An item has no label.
    LABEL_CONFLICT = "label-conflict"  # An item has two labels.
    PARTNER_MISSING = "partner-missing"  # A mesh has no mesh of the same name to compare with.
    NEUTRAL_MISSING = "neutral-missing"  # There is no neutral face where one is needed.
    SPLIT_EMPTY = "split-empty"  # The split has no faces.
    SPLIT_OVERLAP = "split-overlap"  # A subject is in two splits.
    TOO_FEW_FACES = "too-few-faces"  # There are too few faces or subjects.
    FACES_ALIKE = "faces-alike"  # All faces are the same, so that there is nothing to fit.
    GALLERY = "gallery"  # Gallery and probes leave nothing to recognize.
    METRIC_MISSING = "metric-missing"  # The report lacks a metric.
    NOT_COMPARABLE = "not-comparable"  # The reports are not on the same faces.
    SHARDS = "shards"  # A shard is missing, there twice, or of other work.

    # Options
    ARGUMENTS = "arguments"  # The command line cannot be parsed.
    ARGUMENT_TYPE = "argument-type"  # An argument of a Python function has an unexpected type.
    OPTION_VALUE = "option-value"  # An option has an unexpected value.
    OPTION_MISSING = "option-missing"  # A required option is missing.
    OPTION_CONFLICT = "option-conflict"  # Options do not go together, or not with the input.
    EXTRA_MISSING = "extra-missing"  # An optional dependency is not installed.
    CLUSTER = "cluster"  # The scheduler or the workers of a cluster cannot be used.
    DEVICE = "device"  # The computing device is not available or has too little memory.

    # Outputs
    OUTPUT_EXISTS = "output-exists"  # The output exists, and --force is not given.
    OUTPUT_COLLISION = "output-collision"  # Two outputs would have one path.
    OUTPUT_PATTERN = "output-pattern"  # The output pattern does not fit what is written.
    OUTPUT_SUFFIX = "output-suffix"  # The suffix of the output does not fit its kind.
    OUTPUT_UNWRITABLE = "output-unwritable"  # The output cannot be written.
    DISK_FULL = "disk-full"  # The disk is full or read-only.
    READER_LEFT = "reader-left"  # The process that reads the output has ended.

    # Training
    RECIPE_MISMATCH = "recipe-mismatch"  # The file was trained with another recipe or network.
    CHECKPOINT_MISSING = "checkpoint-missing"  # There is no checkpoint to resume from.
    RESUME_MISMATCH = "resume-mismatch"  # The checkpoint belongs to a run with other options.
    DIVERGED = "diverged"  # The training diverged.
    PROCESS_COUNT = "process-count"  # The faces cannot be divided among the processes.
    PROCESSES_DIFFER = "processes-differ"  # The processes have different files or options.

    # The viewer
    REQUEST = "request"  # A request to the viewer is malformed.

    # The end of a command
    CHECK_FAILED = "check-failed"  # A check of a metric failed.
    ITEMS_SKIPPED = "items-skipped"  # Items were skipped with --keep-going.
    STOPPED = "stopped"  # The command was stopped.


class FacedisError(Exception):
    """Base class of the errors that facedis raises on purpose.

    Attributes:
        code: the kind of the error.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, code)  # with both arguments an error of a worker is unpickled
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class FacedisWarning(UserWarning):
    """A doubtful input that is used all the same."""


class UsageError(FacedisError):
    """Wrong options, a wrong combination of them, or an output that exists."""


class InputError(FacedisError):
    """Unusable input: missing, truncated, not finite, of the wrong kind or topology."""


class OutputError(FacedisError):
    """The output could not be written."""


class ReaderLeft(OutputError):
    """The process that reads our pipe has closed it."""


class CheckFailed(FacedisError):
    """A check did not hold, or items were skipped; all the rest is done."""


class Stopped(FacedisError):
    """The user stopped the command; the message says what was saved."""


def check_argument(value: object, kinds: type | tuple[type, ...], what: str, expected: str) -> None:
    """Check the type of an argument of a Python function.

    Args:
        value: the argument.
        kinds: the types that fit.
        what: the function and the argument, such as `read_mesh: source`.
        expected: description of `kinds`.

    Raises:
        UsageError: it has another type.
    """
    if not isinstance(value, kinds):
        raise UsageError(
            f"{what} is {type(value).__name__}, expected {expected}", ErrorCode.ARGUMENT_TYPE
        )


def missing_extra(feature: str, extra: str) -> UsageError:
    """The error where an optional dependency is not installed.

    The command in its message names what the extra consists of, which pip finds wherever facedis
    itself came from, and the Python that runs.

    Args:
        feature: the feature that needs it.
        extra: its name in pyproject.toml.
    """
    import shlex

    packages = " ".join(map(shlex.quote, _requirements(extra)))
    return UsageError(
        f"{feature} needs the '{extra}' extra, which is not installed; "
        f"run: {shlex.quote(sys.executable)} -m pip install {packages}",
        ErrorCode.EXTRA_MISSING,
    )


def _requirements(extra: str) -> list[str]:
    """The packages of an extra of the installed facedis."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = [line.replace("'", '"').partition(";") for line in requires("facedis") or ()]
    except PackageNotFoundError:  # run from its sources
        lines = []
    found: list[str] = []
    for package, _, marker in lines:
        if f'extra == "{extra}"' in marker:
            name, bracket, others = package.strip().removesuffix("]").partition("[")
            own = name == "facedis" and bracket
            parts = [_requirements(each.strip()) for each in others.split(",")] if own else []
            found += [each for part in parts for each in part] if own else [package.strip()]
    return found or [f".[{extra}]"]


def is_disk_full(error: BaseException) -> bool:
    """Whether an operation failed because the disk is full, over quota or read-only."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    return isinstance(error, OSError) and error.errno in full


def output_error(message: str, cause: BaseException) -> OutputError:
    """The error of a failed write."""
    code = ErrorCode.DISK_FULL if is_disk_full(cause) else ErrorCode.OUTPUT_UNWRITABLE
    return OutputError(message, code)
