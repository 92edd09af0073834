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
    """What a key means, the values that it takes, beyond its type, and what makes use of it.

    Attributes:
        meaning: in the words of the table in docs/training.md.
        positive: not zero, which leaves nothing to train or is divided by.
        between: lowest and highest value.
        of: those of our networks that make use of it; None = all. What networks of other packages
            do is not known.
        of_steps: it does nothing without steps of a training.
        used_with: another key and the value of it that makes use of this one.
        half: whose latents make use of it.
    """

    meaning: str
    positive: bool = False
    between: tuple[float, float] | None = None
    of: tuple[str, ...] | None = None
    of_steps: bool = False
    used_with: tuple[str, Any] | None = None
    half: Literal["identity", "expression"] | None = None


def _key(default: Any, meaning: str, **properties: Any) -> Any:
    """A field of `Recipe` with the properties of `_Key`."""
    return field(default=default, metadata={_Key: _Key(meaning, **properties)})


@dataclass(frozen=True)
class Recipe:
    """Network, schedule and loss weights of a training.

    Loss weights multiply the terms of `facedis_core.nn.losses`, on normalised coordinates.
    """

    network: str = _key(
        "pointnet", "`pointnet`, `linear`, `conv-mesh-ae`, `kacem`, `di-mesh-encoder` or `jiang`"
    )
    identity: int = _key(64, "size of the identity latent", positive=True, half="identity")
    expression: int = _key(64, "size of the expression latent", positive=True, half="expression")
    target: Literal["self", "neutral"] = _key(
        "self",
        "what `conv-mesh-ae` makes of a face: `self`, from `expression` latents, or "
        "`neutral`, from `identity` latents",
        of=("conv-mesh-ae",),
    )
    deformation: bool = _key(
        False,
        "whether `jiang` works on a deformation representation, as published, not on coordinates",
        of=("jiang",),
    )
    latent_relu: bool = _key(
        True,
        "whether latents of `conv-mesh-ae` pass a ReLU, as in CoMA's program",
        of=("conv-mesh-ae",),
    )
    components: int = _key(
        400,
        "principal components of `linear`, at most",
        positive=True,
        of=_LINEAR,
        used_with=("linear_fit", "split"),
    )
    bilinear: int | None = _key(
        None,
        "leading expression directions of `linear` whose X_exp depends on the identity "
        "latent as well; - = none",
        positive=True,
        of=_LINEAR,
    )
    points: int | None = _key(
        None,
        "vertices that encoder and discriminator see, spread over the region of the set; - = all",
        positive=True,
        of=_PAPERS,
    )
    half_decoders: bool = _key(
        False, "store decoders or principal components as float16", of=_PAPERS
    )
    decoder_init: Literal["zero", "default"] = _key(
        "zero", "last layers of PointNet decoders: `zero`, or `default` of PyTorch", of=_POINTNET
    )
    decoder_components: int | None = _key(
        None,
        "PointNet decoders learn coefficients of so many principal components of the "
        "training faces; stored as the paper's; - = coordinates of vertices",
        positive=True,
        of=_POINTNET,
    )
    pseudo_neutral: Literal["auto", "medoid", "centre", "none"] = _key(
        "none",
        "stands for a person's neutral without `--neutrals`: `medoid`, `centre`, `auto` "
        "(one of them, chosen for the whole set) or `none`",
        half="identity",
    )
    linear_fit: Literal["split", "flame"] = _key(
        "split",
        "closed form of `linear`: `split`, ours, or `flame`, FLAME's linear model (without "
        "`trust`, `bilinear`, `points` and poses)",
        of=_LINEAR,
    )
    trust: float = _key(
        1.0,
        "weight of the neutrals in the closed form: small ones reconstruct better, large "
        "ones keep X_id of a person together",
        positive=True,
        of=_LINEAR,
        used_with=("linear_fit", "split"),
    )
    linear_start: bool = _key(
        False,
        "PointNets start as a linear model of the training faces in closed form, not at "
        "random, and keep the statistics of batch norm",
        of=_POINTNET,
    )
    encoder_offsets: bool = _key(
        False,
        "a PointNet encoder sees each vertex's mean position and offset from it, not its position",
        of=_POINTNET,
    )
    scale: float | None = _key(
        None,
        "mm per unit of the network's coordinates; - = the largest distance of a training vertex "
        "from the mean face's centroid",
        positive=True,
    )

    epochs: int = _key(280, "length in epochs", positive=True)
    steps: int | None = _key(
        None, "length in optimiser steps, in place of `epochs`; 0 = the closed form alone"
    )
    minimum_steps: int = _key(0, "fewest steps; small sets get more epochs", of_steps=True)
    batch: int = _key(32, "faces per step", positive=True, of_steps=True)
    minimum_batch: int | None = _key(
        None, "small sets halve the batch down to this; - = never", positive=True, of_steps=True
    )
    optimizer: Literal["adam", "sgd"] = _key(
        "adam",
        "of networks on meshes: `adam` or `sgd`; Adam for all others",
        of=_MESHES,
        of_steps=True,
    )
    momentum: float = _key(
        0.9, "of `sgd`", between=(0, 1), of=_MESHES, of_steps=True, used_with=("optimizer", "sgd")
    )
    learning_rate: float = _key(1e-4, "of the auto-encoder", of_steps=True)
    output_learning_rate: float = _key(
        1.0,
        "learning rate of the last layers of PointNet decoders, times `learning_rate`",
        positive=True,
        of=_POINTNET,
        of_steps=True,
    )
    warmup: float = _key(
        0.0,
        "part of the run in which all learning rates rise from 0, in per cent",
        between=(0, 100),
        of_steps=True,
    )
    schedule: Literal["step", "cosine"] = _key(
        "step", "of all learning rates: `step`, or `cosine` (half a cosine to 0)", of_steps=True
    )
    learning_rate_factor: float = _key(
        0.7,
        "factor on all learning rates of `step` ...",
        of_steps=True,
        used_with=("schedule", "step"),
    )
    learning_rate_every: float = _key(
        100 * 50 / 280,
        "... every so many per cent of the run",
        positive=True,
        of_steps=True,
        used_with=("schedule", "step"),
    )
    weight_decay: float = _key(
        1e-4,
        "of the auto-encoder; of `conv-mesh-ae`, `kacem` and `di-mesh-encoder`, and of what is "
        "trained beside them, for dense layers alone",
        of_steps=True,
    )
    gradient_clip: float = _key(
        1.0,
        "largest norm of the auto-encoder's gradient, of `kacem` and `di-mesh-encoder` also of the "
        "gradients of what is trained beside them; 0 = none",
        of_steps=True,
    )
    log_variance_limit: float = _key(
        10.0, "log-variances are clamped to +- this", positive=True, of=_VARIATIONAL, of_steps=True
    )
    weight_average: float = _key(
        0.0,
        "part of the run over which the weights evaluated and stored are averaged, in per cent",
        between=(0, 100),
        of_steps=True,
    )

    reconstruction: float = _key(5000.0, "weight: reconstruction to input", of_steps=True)
    kl_identity: float = _key(
        3e-5, "weight: KL divergence of the identity latent", of=_VARIATIONAL, of_steps=True
    )
    kl_expression: float = _key(
        3e-5, "weight: KL divergence of the expression latent", of=_VARIATIONAL, of_steps=True
    )
    kl_decay: float | None = _key(
        None,
        "part of the run in which the KL weights fall linearly to 0, in per cent",
        positive=True,
        of=_PAPERS,
        of_steps=True,
    )
    neutral: float = _key(
        0.0,
        "weight (times `reconstruction`): identity face to the true neutral",
        of_steps=True,
        half="identity",
    )
    neutral_expression: float = _key(
        0.0,
        "weight (times `reconstruction`): expression to face minus neutral",
        of=_VARIATIONAL,
        of_steps=True,
    )
    neutral_latent: float = _key(
        1e-2,
        "weight: identity latent of the identity face to that of the face; of `kacem` to "
        "that of the neutral",
        of=_WITH_NEUTRAL_LATENTS,
        of_steps=True,
    )
    discriminator: float = _key(
        5e-4,
        "weight: generator loss, identity faces against the discriminator",
        of=_WITH_DISCRIMINATOR,
        of_steps=True,
    )
    person: float = _key(
        0.0,
        "weight: cross-entropy of the training person, by the identity latent (`kacem`)",
        of=("kacem",),
        of_steps=True,
    )
    laplacian: float = _key(
        0.0, "weight: roughness of the identity face", of=_PAPERS, of_steps=True
    )
    swap: float = _key(
        0.0,
        "weight (times `reconstruction`): swapped identities of a person's faces",
        of=_PAPERS,
        of_steps=True,
    )
    partner_latent: float = _key(
        0.0,
        "weight: distance to the identity latent of another face of the person",
        of=_PAPERS,
        of_steps=True,
    )
    expression_norm: float = _key(0.0, "weight: size of the expression", of=_PAPERS, of_steps=True)
    expression_power: float = _key(
        1.0,
        "exponent of each vertex's length in `expression_norm`",
        positive=True,
        between=(0, 2),
        of=_PAPERS,
        of_steps=True,
    )
    pose_degrees: float = _key(
        0.0, "standard deviation of random rotations of the training faces", between=(0, 90)
    )
    pose_mm: float = _key(
        0.0, "standard deviation of random translations, per coordinate", between=(0, 1000)
    )

    discriminator_batch_norm: bool = _key(
        False, "whether the discriminator has batch norm", of=_PAPERS
    )
    discriminator_learning_rate: float = _key(1e-4, "of the discriminator", of=_WITH_DISCRIMINATOR)
    discriminator_every: int = _key(
        1, "steps of the auto-encoder per step of the discriminator", positive=True, of=_PAPERS
    )
    label_smoothing: float = _key(
        0.0, "of the discriminator's cross-entropy", between=(0, 1), of=_PAPERS
    )
    instance_noise: float = _key(
        0.0, "standard deviation of noise on the discriminator's input", of=_PAPERS
    )

    pretrain_epochs: int = _key(100, "length of fd-pretrain-disc in epochs", positive=True)
    pretrain_steps: int | None = _key(
        None, "length of fd-pretrain-disc in steps, in place of `pretrain_epochs`", positive=True
    )
    pretrain_minimum_steps: int = _key(0, "fewest steps of fd-pretrain-disc")
    pretrain_batch: int = _key(
        32, "pairs per step of fd-pretrain-disc", positive=True, between=(2, LARGEST)
    )
    pretrain_learning_rate: float = _key(1e-4, "of Adam in fd-pretrain-disc")

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


_PROPERTIES: Mapping[str, _Key] = {each.name: each.metadata[_Key] for each in fields(Recipe)}


def key_meanings() -> dict[str, str]:
    """What each key means, in Markdown."""
    return {name: key.meaning for name, key in _PROPERTIES.items()}


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
    if neutrals and (lacking := _lacking_latents(recipe, "identity")):
        raise UsageError(
            f"{lacking} and no use for neutrals; leave out --neutrals", ErrorCode.OPTION_CONFLICT
        )
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


def _lacking_latents(recipe: Recipe, half: str) -> str:
    """That a network of ours has no latents of a half; empty if it has."""
    if recipe.network not in _MESHES or getattr(recipe.model_config(vertices=4), half):
        return ""
    target = f" with target={recipe.target}" if recipe.network == "conv-mesh-ae" else ""
    return f"{recipe.network}{target} has no {half} latents"


def _without_use(key: str, recipe: Recipe) -> str:
    """Why nothing in a recipe makes use of a key; empty if something does."""
    properties = _PROPERTIES[key]
    users = properties.of
    if users and recipe.network in {*_PAPERS, *_MESHES} and recipe.network not in users:
        return (
            f"{key} is of {' and '.join(users)}, and the network is {recipe.network}; leave it out"
        )
    half = properties.half
    if half and getattr(recipe, key) != "none" and (lacking := _lacking_latents(recipe, half)):
        return f"{lacking}; leave out {key}"
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
