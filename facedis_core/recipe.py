"""How a network is trained: recipes, as TOML data and changes to it."""

import reprlib
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from facedis_core.config import LARGEST, DiscriminatorConfig, ModelConfig, used_points
from facedis_core.errors import FacedisError, InputError, UsageError
from facedis_core.network_table import network_named, network_names
from facedis_core.paths import is_file
from facedis_core.recipe_file import read_recipe_file

# Of these, zero leaves nothing to train or is divided by.
_POSITIVE = (
    *("identity", "expression", "points", "components", "scale", "batch", "pretrain_batch"),
    *("learning_rate_epochs", "kl_decay_epochs", "discriminator_every", "log_variance_limit"),
    *("epochs", "pretrain_epochs", "expression_power"),
)
# Shares of a whole, and batches over which a norm takes the mean of single rows.
_BETWEEN = {
    "label_smoothing": (0, 1),
    "pretrain_batch": (2, LARGEST),
    "expression_power": (0, 2),
    "pose_degrees": (0, 90),
    "pose_mm": (0, 1000),
}


@dataclass(frozen=True)
class Recipe:
    """How to train: sizes, schedule and the weights of the losses (eq. 7 and 8).

    Weights multiply losses reduced as in `facedis_core.losses`, on normalised coordinates.
    """

    network: str = "pointnet"  # a name in the table of networks
    identity: int = 64
    expression: int = 64
    components: int = 400  # of the registered network
    points: int | None = None  # of a PointNet
    half_decoders: bool = False  # of the registered network its basis, which decodes too
    decoder_init: Literal["zero", "default"] = "zero"  # of PointNet decoders
    scale: float | None = (
        None  # mm a unit; None = the largest distance from the mean face's centroid
    )

    epochs: int = 280
    batch: int = 32
    learning_rate: float = 1e-4
    learning_rate_factor: float = 0.7
    learning_rate_epochs: int = 50
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    log_variance_limit: float = 10.0

    reconstruction: float = 5000.0
    kl_identity: float = 3e-5
    kl_expression: float = 3e-5
    kl_decay_epochs: int | None = None  # KL times (this - epoch) / this
    neutral: float = 0.0  # times `reconstruction`
    neutral_expression: float = 0.0  # times `reconstruction`
    neutral_latent: float = 1e-2
    discriminator: float = 5e-4
    laplacian: float = 0.0
    swap: float = 0.0  # times `reconstruction`
    partner_latent: float = 0.0
    expression_norm: float = 0.0
    expression_power: float = 1.0  # of the norm of each vertex
    pose_degrees: float = 0.0  # standard deviation of the angle that each face is turned by
    pose_mm: float = 0.0  # and of each coordinate of the way it is then moved

    discriminator_batch_norm: bool = False
    discriminator_learning_rate: float = 1e-4
    discriminator_every: int = 1
    label_smoothing: float = 0.0
    instance_noise: float = 0.0  # standard deviation, normalised coordinates

    pretrain_epochs: int = 100
    pretrain_batch: int = 32
    pretrain_learning_rate: float = 1e-4

    def model_config(self, vertices: int) -> ModelConfig:
        """The network this recipe trains on faces of V vertices."""
        return network_named(self.network).config.from_recipe(vertices, asdict(self))

    def discriminator_config(self, vertices: int) -> DiscriminatorConfig:
        """The discriminator of both phases; the same one in pre-training and joint training."""
        points = used_points(vertices, self.points)
        return DiscriminatorConfig(vertices, self.discriminator_batch_norm, points)

    @property
    def has_partners(self) -> bool:
        """Whether every step looks at another face of each person, discriminator or not."""
        return self.swap > 0 or self.partner_latent > 0

    @property
    def has_poses(self) -> bool:
        """Whether faces are turned and moved."""
        return self.pose_degrees > 0 or self.pose_mm > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for metadata and logs."""
        return asdict(self)


def recipe_names() -> list[str]:
    """The recipes that come with facedis."""
    return sorted(path.stem for path in (Path(__file__).parent / "recipes").glob("*.toml"))


def load_recipe(name: str, *, neutrals: bool, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by name or from a TOML file, for training with or without neutrals.

    A file holds keys of `Recipe`, and tables `[with_neutrals]` and `[without_neutrals]` whose keys
    replace them. `changes` are `key=value` strings (`--set`) applied last.

    Raises:
        UsageError: unknown recipe, or a change that has no such key or value.
        InputError: the file is not TOML, or has an unknown key or value.
    """
    path = Path(__file__).parent / "recipes" / f"{name}.toml"
    if name not in recipe_names():
        path = Path(name)
    if path.suffix != ".toml" or not is_file(path):
        near = get_close_matches(name, recipe_names(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"there is no recipe {name!r}; {hint}choose {', '.join(recipe_names())} or give a "
            ".toml file"
        )
    table = read_recipe_file(path)
    parts = {key: table.pop(key, {}) for key in ("with_neutrals", "without_neutrals")}
    common = _change(Recipe(), table, str(path), InputError)
    recipes = {}
    for key, part in parts.items():  # both are checked, whichever is used
        if not isinstance(part, dict):
            raise InputError(f"{path}: {key} is {reprlib.repr(part)}, expected a table [{key}]")
        recipes[key] = _change(common, part, f"{path} [{key}]", InputError)
    recipe = recipes["with_neutrals" if neutrals else "without_neutrals"]
    for change in changes:
        recipe = _change(recipe, dict([_parse_change(change)]), "--set", UsageError)
    return recipe


def _parse_change(change: str) -> tuple[str, Any]:
    key, equals, text = change.partition("=")
    if not equals:
        raise UsageError(f"--set {change!r} is not key=value")
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
    recipe: Recipe, values: Mapping[str, Any], origin: str, fault: type[FacedisError]
) -> Recipe:
    """A copy with some values replaced, each checked against the type of its field.

    What is wrong is a `fault`: of the request, or of a file.
    """
    types = {f.name: f.type for f in fields(recipe)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            near = get_close_matches(key, types, 1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(types))}"
            )
            raise fault(f"{origin}: a recipe has no {reprlib.repr(key)}{hint}")
        if problem := _problem(key, value, types[key]):
            raise fault(f"{origin}: {key} is {reprlib.repr(value)}, expected {problem}")
        kinds = getattr(types[key], "__args__", ())
        checked[key] = (
            float(value) if float in (types[key], *kinds) and value is not None else value
        )
    return replace(recipe, **checked)


def _problem(key: str, value: Any, annotation: Any) -> str:
    """What was expected of a value that does not fit; empty where it does."""
    choices = network_names() if key == "network" else []
    if get_origin(annotation) is Literal:
        choices = [*get_args(annotation)]
    if choices:
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


def recipe_for(source: str) -> str:
    """The recipe to use for a face set of this source when none is named.

    Sets without a recipe of their own take the one whose frame fits any size of face.
    """
    return source if source in recipe_names() else "ict"
