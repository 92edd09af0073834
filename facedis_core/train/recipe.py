"""Training recipes: network, schedule and loss weights, from TOML files and `--set`."""

import reprlib
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from facedis_core.errors import ErrorCode, FacedisError, InputError, UsageError
from facedis_core.io.paths import is_file
from facedis_core.io.streams import naming
from facedis_core.io.text import check_text, with_newlines
from facedis_core.model.config import LARGEST, DiscriminatorConfig, ModelConfig, used_points
from facedis_core.model.networks import has_network, network_named, network_names

_Part = Literal["with_neutrals", "without_neutrals"]  # tables of a recipe file

_FOLDER = Path(__file__).parent / "recipes"
_RENAMED = {"registered": "linear", "ict": "pointnet"}

_MAX_BYTES = 1 << 16  # of a recipe file
_MAX_LINE = 1000  # the time of the parser grows with the square of the parts of a key

# Zero leaves nothing to train, or is divided by.
_POSITIVE = (
    *(
        "identity",
        "expression",
        "points",
        "components",
        "bilinear",
        "scale",
        "batch",
        "minimum_batch",
    ),
    "trust",
    *("learning_rate_every", "kl_decay", "discriminator_every", "log_variance_limit"),
    *("epochs", "pretrain_epochs", "pretrain_steps", "pretrain_batch"),
    *("expression_power", "decoder_components", "output_learning_rate"),
)
# Lowest and highest values; batch norm needs two rows.
_BETWEEN = {
    "label_smoothing": (0, 1),
    "pretrain_batch": (2, LARGEST),
    "expression_power": (0, 2),
    "pose_degrees": (0, 90),
    "pose_mm": (0, 1000),
    "warmup": (0, 100),
    "weight_average": (0, 100),
    "momentum": (0, 1),
}
# Lengths of joint training and pre-training in epochs, and the keys in steps that replace them.
_LENGTHS = {"epochs": "steps", "pretrain_epochs": "pretrain_steps"}
# Keys that are adapted to small sets, and the values of other keys by which they are not.
_NOT_ADAPTED: dict[str, dict[str, Any]] = {
    "epochs": {"minimum_steps": 0},
    "steps": {"minimum_steps": 0},
    "pretrain_epochs": {"pretrain_minimum_steps": 0},
    "pretrain_steps": {"pretrain_minimum_steps": 0},
    "batch": {"minimum_batch": None},
}

_POINTNET, _LINEAR = ("pointnet",), ("linear",)
_PAPERS = (*_POINTNET, *_LINEAR)  # trained by the losses of the paper
_VARIATIONAL = (*_PAPERS, "di-mesh-encoder", "jiang")
_MESHES = ("conv-mesh-ae", "kacem", "di-mesh-encoder", "jiang")
# Keys that only some of our networks make use of; what those of other packages do is not known.
_USED_BY: dict[str, tuple[str, ...]] = {
    "target": ("conv-mesh-ae",),
    "latent_relu": ("conv-mesh-ae",),
    "deformation": ("jiang",),
    "person": ("kacem",),
    **dict.fromkeys(("components", "bilinear", "linear_fit", "trust"), _LINEAR),
    **dict.fromkeys(("decoder_init", "decoder_components", "linear_start"), _POINTNET),
    **dict.fromkeys(("encoder_offsets", "output_learning_rate"), _POINTNET),
    **dict.fromkeys(("points", "half_decoders", "kl_decay", "laplacian", "swap"), _PAPERS),
    **dict.fromkeys(("partner_latent", "expression_norm", "expression_power"), _PAPERS),
    **dict.fromkeys(("kl_identity", "kl_expression", "log_variance_limit"), _VARIATIONAL),
    "neutral_expression": _VARIATIONAL,
    "neutral_latent": (*_PAPERS, "kacem"),
    **dict.fromkeys(
        ("discriminator", "discriminator_learning_rate"), (*_PAPERS, "kacem", "di-mesh-encoder")
    ),
    **dict.fromkeys(("discriminator_batch_norm", "discriminator_every"), _PAPERS),
    **dict.fromkeys(("label_smoothing", "instance_noise"), _PAPERS),
    **dict.fromkeys(("optimizer", "momentum"), _MESHES),
}
# Keys that another key makes use of, if it has this value.
_USED_WITH = {
    "momentum": ("optimizer", "sgd"),
    "learning_rate_factor": ("schedule", "step"),
    "learning_rate_every": ("schedule", "step"),
}
# Keys of the steps of a training, without which they do nothing.
_OF_STEPS = (
    *("minimum_steps", "batch", "minimum_batch", "optimizer", "momentum", "learning_rate"),
    *("output_learning_rate", "warmup", "schedule", "learning_rate_factor"),
    *("learning_rate_every", "weight_decay", "gradient_clip", "log_variance_limit"),
    *("weight_average", "reconstruction", "kl_identity", "kl_expression", "kl_decay", "neutral"),
    *("neutral_expression", "neutral_latent", "discriminator", "person", "laplacian", "swap"),
    *("partner_latent", "expression_norm", "expression_power"),
)


@dataclass(frozen=True)
class Recipe:
    """Network, schedule and loss weights of a training.

    Loss weights multiply the terms of `facedis_core.nn.losses`, on normalised coordinates.
    """

    network: str = "pointnet"  # a name in the table of networks
    identity: int = 64  # latent size
    expression: int = 64  # latent size
    # what conv-mesh-ae makes of a face: itself, from `expression` latents, or its person's neutral,
    # from `identity` latents
    target: Literal["self", "neutral"] = "self"
    deformation: bool = False  # features of jiang: a deformation representation, not coordinates
    latent_relu: bool = True  # whether latents of conv-mesh-ae pass a ReLU, as in CoMA's program
    components: int = 400  # principal components of the linear network, at most
    # expression directions of the linear network whose X_exp depends on the identity; None = none
    bilinear: int | None = None
    points: int | None = None  # vertices that encoder and discriminator see; None = all
    half_decoders: bool = False  # float16 in the file: decoders of a PointNet, basis of linear
    decoder_init: Literal["zero", "default"] = "zero"  # last layers of PointNet decoders
    # decoders of a PointNet learn coefficients of so many principal components of the training
    # faces, and are stored as the paper's; None = they learn coordinates of vertices
    decoder_components: int | None = None
    # what stands for the neutral of a person where fd-train is not given --neutrals; auto = medoid
    # or centre, by the faces of all people
    pseudo_neutral: Literal["auto", "medoid", "centre", "none"] = "none"
    # closed form of the linear network: ours, or FLAME's linear model (without trust and poses)
    linear_fit: Literal["split", "flame"] = "split"
    trust: float = 1.0  # in neutrals, of the closed-form start of the linear network
    # a PointNet starts as a linear model of the training faces in closed form, not at random
    linear_start: bool = False
    encoder_offsets: bool = False  # a PointNet sees mean face and offsets instead of positions
    # mm per unit; None = the largest distance of a training vertex from the mean face's centroid
    scale: float | None = None

    epochs: int = 280
    steps: int | None = None  # optimiser steps in place of `epochs`; 0 = the initial weights
    minimum_steps: int = 0  # on small sets, which get more epochs
    batch: int = 32
    minimum_batch: int | None = None  # small sets halve the batch down to this; None = never
    optimizer: Literal["adam", "sgd"] = "adam"  # of networks with losses of their own
    momentum: float = 0.9  # of sgd
    learning_rate: float = 1e-4
    output_learning_rate: float = 1.0  # times `learning_rate`, of the decoders' last layers
    warmup: float = 0.0  # per cent of the steps in which the learning rate rises from 0
    # falls by `learning_rate_factor` every `learning_rate_every`, or as half a cosine to 0
    schedule: Literal["step", "cosine"] = "step"
    learning_rate_factor: float = 0.7
    learning_rate_every: float = 100 * 50 / 280  # per cent of the steps
    weight_decay: float = 1e-4  # of the auto-encoder
    gradient_clip: float = 1.0  # largest norm of the auto-encoder's gradient; 0 = none
    log_variance_limit: float = 10.0  # log-variances are clamped to +- this
    # per cent of the steps over which the weights that are evaluated and stored are averaged
    weight_average: float = 0.0

    reconstruction: float = 5000.0
    kl_identity: float = 3e-5
    kl_expression: float = 3e-5
    kl_decay: float | None = None  # per cent of the epochs in which the KL weights fall to 0
    neutral: float = 0.0  # times `reconstruction`
    neutral_expression: float = 0.0  # times `reconstruction`
    neutral_latent: float = 1e-2
    discriminator: float = 5e-4
    person: float = 0.0  # of kacem
    laplacian: float = 0.0
    swap: float = 0.0  # times `reconstruction`
    partner_latent: float = 0.0
    expression_norm: float = 0.0
    expression_power: float = 1.0  # exponent of each vertex's norm in `expression_norm`
    pose_degrees: float = 0.0  # standard deviation of the random rotation of each training face
    pose_mm: float = 0.0  # standard deviation of each coordinate of its random translation

    discriminator_batch_norm: bool = False
    discriminator_learning_rate: float = 1e-4
    discriminator_every: int = 1  # steps of the auto-encoder per step of the discriminator
    label_smoothing: float = 0.0  # of the discriminator's cross-entropy
    instance_noise: float = 0.0  # standard deviation of noise on the discriminator's input

    pretrain_epochs: int = 100
    pretrain_steps: int | None = None  # in place of `pretrain_epochs`
    pretrain_minimum_steps: int = 0
    pretrain_batch: int = 32
    pretrain_learning_rate: float = 1e-4

    def model_config(self, vertices: int) -> ModelConfig:
        """The network this recipe trains on faces of V vertices."""
        return network_named(self.network).config.from_recipe(vertices, asdict(self))

    def discriminator_config(self, vertices: int) -> DiscriminatorConfig:
        """The discriminator of pre-training and joint training."""
        points = used_points(vertices, self.points)
        return DiscriminatorConfig(vertices, self.discriminator_batch_norm, points)

    @property
    def has_partners(self) -> bool:
        """Whether every step needs another face of each subject, discriminator or not."""
        return self.swap > 0 or self.partner_latent > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        return asdict(self)


def recipe_names() -> list[str]:
    """Names of the recipes in `recipes/`."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_recipe(name: str, *, neutrals: bool, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by name or from a TOML file, for training with or without neutrals.

    A file holds keys of `Recipe`, and tables `[with_neutrals]` and `[without_neutrals]` whose keys
    override them; a key `base` names the recipe, or the file beside it, that it changes. `changes`
    are `key=value` strings (`--set`), applied last. A length or batch size that overrides another
    is not adapted to the size of the set, unless what adapts it is given with it. Estimates that
    stand for neutrals (`pseudo_neutral`) are trained with as neutrals are.

    Raises:
        UsageError: unknown recipe, or a change that has no such key or value, or no effect.
        InputError: the file is not TOML, or has an unknown key or value.
    """
    recipe = _loaded(name, "with_neutrals" if neutrals else "without_neutrals", changes)
    if not neutrals and recipe.pseudo_neutral != "none":
        estimated = _loaded(name, "with_neutrals", changes)
        recipe = replace(estimated, pseudo_neutral=recipe.pseudo_neutral)
    for change in changes:
        _check_use(_parse_change(change)[0], recipe)
    return recipe


def _loaded(name: str, part: _Part, changes: Sequence[str]) -> Recipe:
    """The recipe with one of the two tables."""
    in_file = partial(InputError, code=ErrorCode.RECIPE_SYNTAX)
    in_option = partial(UsageError, code=ErrorCode.OPTION_VALUE)
    recipe = Recipe()
    for path, table in _with_bases(name):
        parts = {key: table.pop(key, {}) for key in get_args(_Part)}
        common = _change(recipe, table, str(path), in_file)
        recipes = {}
        for key, values in parts.items():  # both are checked, though one is used
            if not isinstance(values, dict):
                raise in_file(f"{path}: {key} is {reprlib.repr(values)}, expected a table [{key}]")
            recipes[key] = _change(common, values, f"{path} [{key}]", in_file)
        recipe = recipes[part]
    for change in changes:
        recipe = _change(recipe, dict([_parse_change(change)]), "--set", in_option)
    return recipe


def recipe_content(name: str) -> bytes:
    """The content of a user's recipe file and of the files it is based on; b"" for a name.

    Raises:
        UsageError, InputError: errors of `load_recipe`.
    """
    paths = [path for path, _ in _with_bases(name) if path.parent != _FOLDER]
    return b"".join(path.read_bytes() for path in paths)


def _with_bases(name: str) -> list[tuple[Path, dict[str, Any]]]:
    """The file of a recipe and its table, after those it is based on."""
    path = _recipe_path(name, Path())
    found: list[tuple[Path, dict[str, Any]]] = []
    while True:
        table = _read_toml(path)
        base = table.pop("base", None)
        found.insert(0, (path, table))
        if base is None:
            return found
        if not isinstance(base, str):
            raise InputError(
                f"{path}: base is {reprlib.repr(base)}, expected the name or file of a recipe",
                ErrorCode.RECIPE_SYNTAX,
            )
        try:
            path = _recipe_path(base, path.parent)
        except UsageError as error:
            raise InputError(f"{path}: base: {error}", ErrorCode.RECIPE_SYNTAX) from None
        if any(path == other for other, _ in found):
            raise InputError(f"{path} is based on itself", ErrorCode.RECIPE_SYNTAX)


def _recipe_path(name: str, folder: Path) -> Path:
    """The file of a bundled recipe, or a .toml file, relative to a folder."""
    if name in recipe_names():
        return _FOLDER / f"{name}.toml"
    path = folder / name
    if path.suffix == ".toml" and is_file(path):
        return path
    near = get_close_matches(name, recipe_names(), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if name in _RENAMED:
        hint = f"it is called {_RENAMED[name]!r} now; "
    raise UsageError(
        f"there is no recipe {name!r}; {hint}choose {', '.join(recipe_names())} or give a "
        ".toml file",
        ErrorCode.OPTION_VALUE,
    )


def _read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file; InputError if it cannot be read, is too large or is not TOML."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{path} could not be read: {error.strerror}", ErrorCode.FILE_UNREADABLE
        ) from None
    if len(content) > _MAX_BYTES:
        raise InputError(
            f"{path} has more than {_MAX_BYTES >> 10} kB; expected a recipe in TOML",
            ErrorCode.TOO_LARGE,
        )
    try:
        with naming(path):
            check_text(content)
        text = with_newlines(content).decode("utf-8-sig")
        if any(len(line) > _MAX_LINE for line in text.split("\n")):
            raise ValueError(f"it has a line of more than {_MAX_LINE} characters")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also invalid UTF-8 and numbers too long
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not TOML: {reason}", ErrorCode.RECIPE_SYNTAX) from None


def _check_use(key: str, recipe: Recipe) -> None:
    """Raise UsageError if a key that was given makes no difference to a training."""
    users = _USED_BY.get(key)
    if users and recipe.network in {*_PAPERS, *_MESHES} and recipe.network not in users:
        raise UsageError(
            f"{key} is of {' and '.join(users)}, and the network is {recipe.network}; leave it out",
            ErrorCode.OPTION_CONFLICT,
        )
    other, value = _USED_WITH.get(key, (key, getattr(recipe, key)))
    if getattr(recipe, other) != value:
        raise UsageError(
            f"{key} is of {other}={value}, and {other} is {getattr(recipe, other)}; set it too, or "
            f"leave out {key}",
            ErrorCode.OPTION_CONFLICT,
        )
    if recipe.steps == 0 and key in _OF_STEPS:
        raise UsageError(
            f"{key} is of the steps of a training, and the recipe has none; give a length with "
            "--epochs or --steps, or leave it out",
            ErrorCode.OPTION_CONFLICT,
        )


def _parse_change(change: str) -> tuple[str, Any]:
    key, equals, text = change.partition("=")
    if not equals:
        raise UsageError(f"--set {change!r} is not key=value", ErrorCode.OPTION_VALUE)
    key, text = key.strip(), text.strip()
    words = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return key, words[text.lower()]
    # TOML first, for whole numbers and quotes; it has no `.5`
    for parse in (lambda t: tomllib.loads(f"value = {t}")["value"], float):
        try:
            return key, parse(text)
        except (ValueError, RecursionError):
            continue
    return key, text


def _change(
    recipe: Recipe, values: Mapping[str, Any], origin: str, fault: Callable[[str], FacedisError]
) -> Recipe:
    """A copy with some values replaced, each checked against the type of its field.

    Args:
        recipe: the recipe to copy.
        values: new values by key.
        origin: where they come from, for messages.
        fault: error of a message about an unknown key or a wrong value.
    """
    types = {f.name: f.type for f in fields(recipe)}
    checked: dict[str, Any] = {}
    for epochs, steps in _LENGTHS.items():
        if epochs in values and values.get(steps) is not None:
            raise fault(f"{origin}: {epochs} and {steps} are both given, expected one of them")
        if epochs in values:
            checked[steps] = None
    for key in set(values) & set(_NOT_ADAPTED):
        checked |= _NOT_ADAPTED[key]
    for key, value in values.items():
        if key not in types:
            near = get_close_matches(key, types, 1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(types))}"
            )
            raise fault(f"{origin}: a recipe has no {reprlib.repr(key)}{hint}")
        if value is None and "none" in get_args(types[key]):  # as --set has read it
            value = "none"
        if problem := _problem(key, value, types[key]):
            raise fault(f"{origin}: {key} is {reprlib.repr(value)}, expected {problem}")
        kinds = getattr(types[key], "__args__", ())
        checked[key] = (
            float(value) if float in (types[key], *kinds) and value is not None else value
        )
    return replace(recipe, **checked)


def _problem(key: str, value: Any, annotation: Any) -> str:
    """Description of the expected value, or empty if the value fits."""
    if key == "network":
        names = ", ".join(network_names())
        return "" if has_network(value) else f"{names} or a network whose package is installed"
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return "" if value in choices else " or ".join(choices)
    kinds = getattr(annotation, "__args__", (annotation,))
    if value is None and type(None) in kinds:
        return ""
    if bool in kinds:
        return "" if isinstance(value, bool) else "true or false"
    whole = float not in kinds
    expected = "a whole number" if whole else "a finite number"
    expected += " above 0" if key in _POSITIVE else " that is not negative"
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    fits = fits and 0 <= value <= (LARGEST if whole else sys.float_info.max)
    fits = fits and (value > 0 or key not in _POSITIVE)
    if key in _BETWEEN:
        lowest, highest = _BETWEEN[key]
        expected = f"a number from {lowest} to {highest}" + (", not 0" if key in _POSITIVE else "")
        fits = fits and lowest <= value <= highest
    return "" if fits else expected
