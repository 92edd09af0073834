"""Training recipes: network, schedule and loss weights, from TOML files and `--set`."""

import reprlib
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
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

_MAX_BYTES = 1 << 16  # of a recipe file
_MAX_LINE = 1000  # the time of the parser grows with the square of the parts of a key

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
_WITH_NEUTRAL_LATENTS = (*_PAPERS, "kacem")
_WITH_DISCRIMINATOR = (*_PAPERS, "kacem", "di-mesh-encoder")


@dataclass(frozen=True)
class _Key:
    """Values that a key takes, beyond its type, and what makes use of it.

    Attributes:
        positive: not zero, which leaves nothing to train or is divided by.
        between: lowest and highest value.
        of: those of our networks that make use of it; None = all. What networks of other packages
            do is not known.
        of_steps: it does nothing without steps of a training.
        used_with: another key and the value of it that makes use of this one.
    """

    positive: bool = False
    between: tuple[float, float] | None = None
    of: tuple[str, ...] | None = None
    of_steps: bool = False
    used_with: tuple[str, Any] | None = None


def _key(default: Any, **properties: Any) -> Any:
    """A field of `Recipe` with the properties of `_Key`."""
    return field(default=default, metadata={_Key: _Key(**properties)})


@dataclass(frozen=True)
class Recipe:
    """Network, schedule and loss weights of a training.

    Loss weights multiply the terms of `facedis_core.nn.losses`, on normalised coordinates.
    """

    network: str = "pointnet"  # a name in the table of networks
    identity: int = _key(64, positive=True)  # latent size
    expression: int = _key(64, positive=True)  # latent size
    # what conv-mesh-ae makes of a face: itself, from `expression` latents, or its person's neutral,
    # from `identity` latents
    target: Literal["self", "neutral"] = _key("self", of=("conv-mesh-ae",))
    # features of jiang: a deformation representation, not coordinates
    deformation: bool = _key(False, of=("jiang",))
    # whether latents of conv-mesh-ae pass a ReLU, as in CoMA's program
    latent_relu: bool = _key(True, of=("conv-mesh-ae",))
    # principal components of the linear network, at most
    components: int = _key(400, positive=True, of=_LINEAR)
    # expression directions of the linear network whose X_exp depends on the identity; None = none
    bilinear: int | None = _key(None, positive=True, of=_LINEAR)
    # vertices that encoder and discriminator see; None = all
    points: int | None = _key(None, positive=True, of=_PAPERS)
    # float16 in the file: decoders of a PointNet, basis of linear
    half_decoders: bool = _key(False, of=_PAPERS)
    # last layers of PointNet decoders
    decoder_init: Literal["zero", "default"] = _key("zero", of=_POINTNET)
    # decoders of a PointNet learn coefficients of so many principal components of the training
    # faces, and are stored as the paper's; None = they learn coordinates of vertices
    decoder_components: int | None = _key(None, positive=True, of=_POINTNET)
    # what stands for the neutral of a person where fd-train is not given --neutrals; auto = medoid
    # or centre, by the faces of all people
    pseudo_neutral: Literal["auto", "medoid", "centre", "none"] = "none"
    # closed form of the linear network: ours, or FLAME's linear model (without trust and poses)
    linear_fit: Literal["split", "flame"] = _key("split", of=_LINEAR)
    # in neutrals, of the closed-form start of the linear network
    trust: float = _key(1.0, positive=True, of=_LINEAR)
    # a PointNet starts as a linear model of the training faces in closed form, not at random
    linear_start: bool = _key(False, of=_POINTNET)
    # a PointNet sees mean face and offsets instead of positions
    encoder_offsets: bool = _key(False, of=_POINTNET)
    # mm per unit; None = the largest distance of a training vertex from the mean face's centroid
    scale: float | None = _key(None, positive=True)

    epochs: int = _key(280, positive=True)
    steps: int | None = None  # optimiser steps in place of `epochs`; 0 = the initial weights
    minimum_steps: int = _key(0, of_steps=True)  # on small sets, which get more epochs
    batch: int = _key(32, positive=True, of_steps=True)
    # small sets halve the batch down to this; None = never
    minimum_batch: int | None = _key(None, positive=True, of_steps=True)
    # of networks with losses of their own
    optimizer: Literal["adam", "sgd"] = _key("adam", of=_MESHES, of_steps=True)
    momentum: float = _key(
        0.9, between=(0, 1), of=_MESHES, of_steps=True, used_with=("optimizer", "sgd")
    )
    learning_rate: float = _key(1e-4, of_steps=True)
    # times `learning_rate`, of the decoders' last layers
    output_learning_rate: float = _key(1.0, positive=True, of=_POINTNET, of_steps=True)
    # per cent of the steps in which the learning rate rises from 0
    warmup: float = _key(0.0, between=(0, 100), of_steps=True)
    # falls by `learning_rate_factor` every `learning_rate_every`, or as half a cosine to 0
    schedule: Literal["step", "cosine"] = _key("step", of_steps=True)
    learning_rate_factor: float = _key(0.7, of_steps=True, used_with=("schedule", "step"))
    # per cent of the steps
    learning_rate_every: float = _key(
        100 * 50 / 280, positive=True, of_steps=True, used_with=("schedule", "step")
    )
    weight_decay: float = _key(1e-4, of_steps=True)  # of the auto-encoder
    # largest norm of the auto-encoder's gradient; 0 = none
    gradient_clip: float = _key(1.0, of_steps=True)
    # log-variances are clamped to +- this
    log_variance_limit: float = _key(10.0, positive=True, of=_VARIATIONAL, of_steps=True)
    # per cent of the steps over which the weights that are evaluated and stored are averaged
    weight_average: float = _key(0.0, between=(0, 100), of_steps=True)

    reconstruction: float = _key(5000.0, of_steps=True)
    kl_identity: float = _key(3e-5, of=_VARIATIONAL, of_steps=True)
    kl_expression: float = _key(3e-5, of=_VARIATIONAL, of_steps=True)
    # per cent of the epochs in which the KL weights fall to 0
    kl_decay: float | None = _key(None, positive=True, of=_PAPERS, of_steps=True)
    neutral: float = _key(0.0, of_steps=True)  # times `reconstruction`
    neutral_expression: float = _key(0.0, of=_VARIATIONAL, of_steps=True)  # times `reconstruction`
    neutral_latent: float = _key(1e-2, of=_WITH_NEUTRAL_LATENTS, of_steps=True)
    discriminator: float = _key(5e-4, of=_WITH_DISCRIMINATOR, of_steps=True)
    person: float = _key(0.0, of=("kacem",), of_steps=True)  # of kacem
    laplacian: float = _key(0.0, of=_PAPERS, of_steps=True)
    swap: float = _key(0.0, of=_PAPERS, of_steps=True)  # times `reconstruction`
    partner_latent: float = _key(0.0, of=_PAPERS, of_steps=True)
    expression_norm: float = _key(0.0, of=_PAPERS, of_steps=True)
    # exponent of each vertex's norm in `expression_norm`
    expression_power: float = _key(1.0, positive=True, between=(0, 2), of=_PAPERS, of_steps=True)
    # standard deviation of the random rotation of each training face
    pose_degrees: float = _key(0.0, between=(0, 90))
    # standard deviation of each coordinate of its random translation
    pose_mm: float = _key(0.0, between=(0, 1000))

    discriminator_batch_norm: bool = _key(False, of=_PAPERS)
    discriminator_learning_rate: float = _key(1e-4, of=_WITH_DISCRIMINATOR)
    # steps of the auto-encoder per step of the discriminator
    discriminator_every: int = _key(1, positive=True, of=_PAPERS)
    # of the discriminator's cross-entropy
    label_smoothing: float = _key(0.0, between=(0, 1), of=_PAPERS)
    # standard deviation of noise on the discriminator's input
    instance_noise: float = _key(0.0, of=_PAPERS)

    pretrain_epochs: int = _key(100, positive=True)
    pretrain_steps: int | None = _key(None, positive=True)  # in place of `pretrain_epochs`
    pretrain_minimum_steps: int = 0
    pretrain_batch: int = _key(32, positive=True, between=(2, LARGEST))
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


_PROPERTIES = {each.name: each.metadata.get(_Key, _Key()) for each in fields(Recipe)}


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
        InputError: the file is not TOML, or has an unknown key or value, or a key without effect.
    """
    tables = _tables(_with_bases(name))
    wrong = partial(UsageError, code=ErrorCode.OPTION_VALUE)
    for change in changes:
        values = dict([_parse_change(change)])
        tables = {key: _change(table, values, "--set", wrong) for key, table in tables.items()}
    recipe = tables["with_neutrals" if neutrals else "without_neutrals"]
    if not neutrals and recipe.pseudo_neutral != "none":
        recipe = replace(tables["with_neutrals"], pseudo_neutral=recipe.pseudo_neutral)
    for change in changes:
        _check_use(_parse_change(change)[0], recipe)
    return recipe


def _tables(files: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, Recipe]:
    """The recipe of some files, each a change of those before it, with either of its tables."""
    wrong = partial(InputError, code=ErrorCode.RECIPE_SYNTAX)
    recipes = dict.fromkeys(get_args(_Part), Recipe())
    changed: dict[str, str] = {}  # where a file of the user changes a key
    for path, content in files:
        common = {key: value for key, value in content.items() if key not in recipes}
        for part, before in recipes.items():
            values = content.get(part, {})
            if not isinstance(values, dict):
                raise wrong(f"{path}: {part} is {reprlib.repr(values)}, expected a table [{part}]")
            recipe = _change(before, common, str(path), wrong)
            recipes[part] = _change(recipe, values, f"{path} [{part}]", wrong)
            if path.parent != _FOLDER:
                given = dict.fromkeys(common, str(path)) | dict.fromkeys(values, f"{path} [{part}]")
                changed |= {
                    key: where
                    for key, where in given.items()
                    # a weight of zero says that it has no use
                    if getattr(recipes[part], key) not in (0, getattr(before, key))
                }
    for key, where in changed.items():
        problems = [_without_use(key, recipe) for recipe in recipes.values()]
        if all(problems):
            raise wrong(f"{where}: {problems[0]}")
    return recipes


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


def _without_use(key: str, recipe: Recipe) -> str:
    """Why nothing in a recipe makes use of a key; empty if something does."""
    properties = _PROPERTIES[key]
    users = properties.of
    if users and recipe.network in {*_PAPERS, *_MESHES} and recipe.network not in users:
        return (
            f"{key} is of {' and '.join(users)}, and the network is {recipe.network}; leave it out"
        )
    is_size = key in {"identity", "expression"} and recipe.network in _MESHES
    if is_size and not getattr(recipe.model_config(vertices=4), key):
        target = f" with target={recipe.target}" if recipe.network == "conv-mesh-ae" else ""
        return f"{recipe.network}{target} has no {key} latents; leave out {key}"
    other, value = properties.used_with or (key, getattr(recipe, key))
    if getattr(recipe, other) != value:
        return (
            f"{key} is of {other}={value}, and {other} is {getattr(recipe, other)}; set it too, or "
            f"leave out {key}"
        )
    return ""


def _check_use(key: str, recipe: Recipe) -> None:
    """Raise UsageError if a key that was given makes no difference to a training."""
    problem = _without_use(key, recipe)
    if not problem and recipe.steps == 0 and _PROPERTIES[key].of_steps:
        problem = (
            f"{key} is of the steps of a training, and the recipe has none; give a length with "
            "--epochs or --steps, or leave it out"
        )
    if problem:
        raise UsageError(problem, ErrorCode.OPTION_CONFLICT)


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
    types = {each.name: each.type for each in fields(recipe)}
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
    properties = _PROPERTIES[key]
    expected = "a whole number" if whole else "a finite number"
    expected += " above 0" if properties.positive else " that is not negative"
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    fits = fits and 0 <= value <= (LARGEST if whole else sys.float_info.max)
    fits = fits and (value > 0 or not properties.positive)
    if properties.between is not None:
        lowest, highest = properties.between
        expected = f"a number from {lowest} to {highest}" + (
            ", not 0" if properties.positive else ""
        )
        fits = fits and lowest <= value <= highest
    return "" if fits else expected
