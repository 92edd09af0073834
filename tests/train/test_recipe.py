"""Recipes against the method's table, and what a user may change of them."""

from dataclasses import asdict, replace
from importlib.resources import files

import pytest
from raising import raises

from facedis_core.model.config import (
    POINTNET_CHANNELS,
    DiscriminatorConfig,
    LinearConfig,
    PointNetConfig,
)
from facedis_core.train.recipe import Recipe, load_recipe, recipe_content, recipe_names

# The paper's values: (value with neutrals, value without), or one value for both.
PAPER = {
    "coma": {
        "identity": 4,
        "expression": 4,
        "scale": 260.0,
        "pretrain_epochs": 50,
        "pretrain_batch": 32,
        "epochs": 300,
        "batch": 32,
        "reconstruction": 5000.0,
        "kl_identity": (3e-3, 5e-7),
        "kl_expression": (3e-3, 5e-7),
        "kl_decay": 100 * 350 / 300,
        "discriminator": 5e-4,
        "neutral": (5.0, 0.0),
        "neutral_expression": 0.0,
        "neutral_latent": (7e-3, 5e-3),
        "laplacian": (0.0, 1e-2),
        "discriminator_batch_norm": (True, False),
    },
    "bu3dfe": {
        "identity": 40,
        "expression": 40,
        "scale": 156.0,
        "pretrain_epochs": 100,
        "pretrain_batch": 32,
        "epochs": 280,
        "batch": 8,
        "reconstruction": 250.0,
        "kl_identity": 3e-5,
        "kl_expression": 3e-5,
        "kl_decay": None,
        "discriminator": 1e-3,
        "neutral": (0.5, 0.0),
        "neutral_expression": (0.5, 0.0),
        "neutral_latent": 5e-2,
        "laplacian": 10.0,
        "discriminator_batch_norm": False,
    },
    "facescape": {
        "identity": 64,
        "expression": 64,
        "scale": 573.0,
        "pretrain_epochs": 100,
        "pretrain_batch": 32,
        "epochs": 280,
        "batch": 32,
        "reconstruction": 5000.0,
        "kl_identity": 3e-5,
        "kl_expression": 3e-5,
        "kl_decay": None,
        "discriminator": 5e-4,
        "neutral": (1.0, 0.0),
        "neutral_expression": 0.0,
        "neutral_latent": 1e-2,
        "laplacian": (0.0, 1e-2),
        "discriminator_batch_norm": False,
    },
}
# The comparison systems; of CoMA and Jiang et al. what is published, of the others what is ours.
COMPARED = {
    "conv-mesh-ae": {
        **{"identity": 8, "expression": 8, "target": ("neutral", "self"), "latent_relu": True},
        **{"epochs": 300, "batch": 16, "optimizer": "sgd", "momentum": 0.9},
        **{"learning_rate": 8e-3, "schedule": "step", "learning_rate_factor": 0.99},
        **{"learning_rate_every": 100 / 300, "weight_decay": 5e-4, "gradient_clip": 0.0},
        **{"reconstruction": 1.0, "neutral": 1.0, "pseudo_neutral": "none"},
    },
    "jiang": {
        **{"identity": 50, "expression": 25, "deformation": False, "epochs": 4 * 20},
        **{"reconstruction": 1.0, "neutral": 1.0, "neutral_expression": 1.0},
        **{"kl_identity": 2 * 5e-6, "kl_expression": 2 * 5e-6, "weight_decay": 0.0},
        **{"batch": 16, "optimizer": "adam", "learning_rate": 5e-4, "pseudo_neutral": "auto"},
    },
    "di-mesh-encoder": {
        **{"identity": 64, "expression": 64, "epochs": 300, "batch": 16, "optimizer": "adam"},
        **{"learning_rate": 1e-3, "discriminator_learning_rate": 1e-4, "schedule": "cosine"},
        **{"reconstruction": 1.0, "neutral": 1.0, "neutral_expression": 1.0},
        **{"kl_identity": 1e-4, "kl_expression": 1e-4, "discriminator": 1e-2},
        **{"weight_decay": 0.0, "pseudo_neutral": "auto"},
    },
    "kacem": {
        **{"identity": 64, "epochs": 300, "batch": 16, "optimizer": "adam"},
        **{"learning_rate": 1e-3, "discriminator_learning_rate": 1e-4, "schedule": "cosine"},
        **{"reconstruction": 1.0, "neutral": 1.0, "neutral_latent": 1.0, "discriminator": 0.1},
        **{"person": 0.1, "weight_decay": 0.0, "pseudo_neutral": "auto"},
    },
    "flame-like": {
        **{"network": "linear", "linear_fit": "flame", "steps": 0, "pseudo_neutral": "auto"},
        **{"identity": 64, "expression": 64, "pose_degrees": 0.0, "pose_mm": 0.0},
    },
}
EVERYWHERE = {
    "learning_rate": 1e-4,
    "learning_rate_factor": 0.7,
    "schedule": "step",
    "warmup": 0.0,
    "minimum_steps": 0,
    "minimum_batch": None,
    "pretrain_minimum_steps": 0,
    "weight_decay": 1e-4,
    "pretrain_learning_rate": 1e-4,
    "decoder_init": "zero",
    "decoder_components": None,
    "linear_start": False,
    "encoder_offsets": False,
    "output_learning_rate": 1.0,
    "weight_average": 0.0,
}


@pytest.mark.parametrize("neutrals", [True, False], ids=["neutrals", "no neutrals"])
@pytest.mark.parametrize("name", PAPER)
def test_recipes_are_the_papers(name, neutrals):
    recipe = load_recipe(name, neutrals=neutrals).as_dict()
    for key, value in (PAPER[name] | EVERYWHERE).items():
        expected = value[0 if neutrals else 1] if isinstance(value, tuple) else value
        assert recipe[key] == expected, key
    assert recipe["epochs"] * recipe["learning_rate_every"] / 100 == 50


@pytest.mark.parametrize("neutrals", [True, False], ids=["neutrals", "no neutrals"])
@pytest.mark.parametrize("name", COMPARED)
def test_recipes_of_the_comparison_systems(name, neutrals):
    recipe = load_recipe(name, neutrals=neutrals).as_dict()
    for key, value in ({"network": name} | COMPARED[name]).items():
        expected = value[0 if neutrals else 1] if isinstance(value, tuple) else value
        assert recipe[key] == expected, key


@pytest.mark.parametrize("change", ["trust=0.3", "components=10"])
def test_flames_closed_form_refuses_keys_of_the_other(change):
    key = change.split("=")[0]
    with raises("option-conflict", f"{key} is of linear_fit=split"):
        load_recipe("flame-like", neutrals=True, changes=[change])


@pytest.mark.parametrize("change", ["neutral=3", "pseudo_neutral=medoid"])
def test_a_face_to_itself_has_no_use_for_neutrals(change):
    with raises("option-conflict", "target=self"):
        load_recipe("conv-mesh-ae", neutrals=False, changes=["target=self", change])
    with raises("option-conflict", "leave out --neutrals"):
        load_recipe("conv-mesh-ae", neutrals=True, changes=["target=self"])


# trained by losses of their own
OWN_LOSSES = ["conv-mesh-ae", "di-mesh-encoder", "jiang", "kacem"]


@pytest.mark.parametrize("name", [n for n in recipe_names() if n not in OWN_LOSSES])
def test_neutrals_are_used_only_where_they_are_asked_for(name):
    assert load_recipe(name, neutrals=True).neutral > 0
    without = load_recipe(name, neutrals=False, changes=["pseudo_neutral=none"])
    assert without.neutral == without.neutral_expression == 0
    assert without.laplacian > 0 or without.expression_norm > 0  # what stands in for them


@pytest.mark.parametrize("name", recipe_names())
def test_estimates_of_neutrals_are_trained_with_as_neutrals_are(name):
    """With the losses for no neutrals, nothing would ever see the estimates."""
    estimated = load_recipe(name, neutrals=False, changes=["pseudo_neutral=centre"])
    known = load_recipe(name, neutrals=True, changes=["pseudo_neutral=centre"])
    assert estimated == known
    assert estimated.neutral > 0
    changes = ["pseudo_neutral=centre", "neutral=0.5", "epochs=1"]
    assert load_recipe(name, neutrals=False, changes=changes).neutral == 0.5


@pytest.mark.parametrize("name", OWN_LOSSES)
def test_a_network_with_losses_of_its_own_has_no_weight_of_the_papers(name):
    for neutrals in (True, False):
        recipe = load_recipe(name, neutrals=neutrals)
        assert recipe.swap == recipe.partner_latent == recipe.expression_norm == 0
        assert recipe.laplacian == recipe.instance_noise == recipe.label_smoothing == 0
        assert recipe.neutral or not neutrals


def test_every_source_has_a_recipe():
    assert recipe_names() == [
        "bilinear",
        "bu3dfe",
        "coma",
        "conv-mesh-ae",
        "di-mesh-encoder",
        "facescape",
        "flame-like",
        "jiang",
        "kacem",
        "linear",
        "pointnet",
        "pointnet-linear",
    ]


def test_the_network_of_a_recipe():
    recipe = load_recipe("coma", neutrals=True, changes=["points=100"])
    assert recipe.model_config(5023) == PointNetConfig(5023, 4, 4, POINTNET_CHANNELS, points=100)
    assert recipe.discriminator_config(5023) == DiscriminatorConfig(5023, True, 100)
    assert recipe.model_config(100) == PointNetConfig(100, 4, 4)


def test_a_linear_network_and_its_discriminator_see_all_vertices_or_some():
    changes = ["components=30", "half_decoders=false"]
    recipe = load_recipe("linear", neutrals=False, changes=changes)
    assert recipe.model_config(5023) == LinearConfig(5023, 64, 64, 30)
    recipe = load_recipe("linear", neutrals=False, changes=[*changes, "points=100"])
    expected = LinearConfig(5023, 64, 64, 30, points=100, encoder_components=30)
    assert recipe.model_config(5023) == expected
    assert recipe.discriminator_config(5023) == DiscriminatorConfig(5023, False, 100)


class TestSet:
    def changed(self, *changes):
        return load_recipe("pointnet", neutrals=True, changes=changes)

    @pytest.mark.parametrize(
        ("change", "value"),
        [
            ("batch=8", 8),
            ("points=1_000", 1000),
            ("learning_rate=1e-3", 1e-3),
            ("neutral=.5", 0.5),
            (" neutral = 0 ", 0.0),
            ("scale=none", None),
            ("half_decoders=False", False),
            ("decoder_init=default", "default"),
            ("decoder_init='default'", "default"),
        ],
    )
    def test_values_have_the_type_of_their_field(self, change, value):
        found = getattr(self.changed(change), change.partition("=")[0].strip())
        assert found == value
        assert type(found) is type(value)

    def test_a_length_replaces_the_other_and_has_no_least(self):
        assert self.changed("steps=900", "epochs=5").steps is None
        recipe = self.changed("minimum_steps=500", "steps=900")
        assert (recipe.steps, recipe.minimum_steps) == (900, 0)
        assert self.changed("steps=900", "minimum_steps=500").minimum_steps == 500
        recipe = self.changed("pretrain_minimum_steps=500", "pretrain_epochs=3")
        assert (recipe.pretrain_epochs, recipe.pretrain_minimum_steps) == (3, 0)

    def test_a_batch_size_given_alone_is_not_halved(self):
        assert self.changed("minimum_batch=4", "batch=8").minimum_batch is None

    def test_the_last_one_counts_and_the_others_stay(self):
        recipe = self.changed("batch=8", "batch=4")
        assert recipe.batch == 4
        assert recipe == self.changed("batch=4")
        assert asdict(recipe) | {"batch": 16} == self.changed().as_dict()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("batch", "not key=value"),
            ("bach=8", "no 'bach'; did you mean 'batch'"),
            ("xyzzy=8", "no 'xyzzy'; known: batch, "),
            ("batch=1.5", "batch is 1.5, expected a whole number above 0"),
            ("batch=true", "batch is True"),
            ("batch=0", "above 0"),
            ("pretrain_batch=1", "pretrain_batch is 1, expected a number from 2 to"),
            ("label_smoothing=2", "label_smoothing is 2, expected a number from 0 to 1"),
            ("batch=none", "batch is None"),
            ("batch=[8]", r"batch is \[8\]"),
            ("batch=99999999999999999999", "whole number"),
            ("scale=0", "finite number above 0"),
            ("learning_rate=-1e-3", "not negative"),
            ("learning_rate=nan", "learning_rate is nan, expected a finite number"),
            ("learning_rate=infinity", "finite"),
            ("neutral=false", "neutral is False"),
            ("neutral=1" + 5000 * "0", "finite"),
            ("half_decoders=1", "half_decoders is 1, expected true or false"),
            ("decoder_init=one", "decoder_init is 'one', expected zero or default"),
            ("neutral=" + 5000 * "[", "neutral is"),
        ],
    )
    def test_wrong_ones_are_refused_in_one_line(self, change, message):
        with raises("option-value", message) as caught:
            self.changed(change)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "changes", "message"),
        [
            ("pointnet", ["trust=3"], "trust is of linear, and the network is pointnet; leave"),
            ("jiang", ["points=100"], "points is of pointnet and linear, and the network is jiang"),
            ("linear", ["batch=7"], "batch is of the steps .* give a length with --epochs"),
            ("pointnet", ["learning_rate_every=20"], "of schedule=step, and schedule is cosine"),
            ("kacem", ["momentum=0.5"], "momentum is of optimizer=sgd, and optimizer is adam"),
            ("kacem", ["expression=3"], "kacem has no expression latents; leave out expression"),
            (
                "conv-mesh-ae",
                ["target=self", "identity=3"],
                "target=self has no identity latents",
            ),
            ("conv-mesh-ae", ["target=neutral", "expression=3"], "has no expression latents"),
        ],
    )
    def test_what_would_change_nothing_is_refused(self, name, changes, message):
        with raises("option-conflict", message):
            load_recipe(name, neutrals=True, changes=changes)

    def test_what_another_change_makes_use_of_is_taken(self):
        found = load_recipe("linear", neutrals=True, changes=["batch=7", "epochs=3"])
        assert (found.batch, found.epochs, found.steps) == (7, 3, None)
        assert self.changed("learning_rate_every=20", "schedule=step").learning_rate_every == 20


class TestFiles:
    @pytest.fixture
    def load(self, tmp_path):
        def load_text(text, *, neutrals=True, **options):
            path = tmp_path / "mine.toml"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            return load_recipe(str(path), neutrals=neutrals, **options)

        return load_text

    def test_an_empty_file_is_the_default(self, load):
        assert load("") == Recipe()

    @pytest.mark.parametrize(("neutrals", "weight"), [(True, 2.0), (False, 3.0)])
    def test_tables_replace_what_is_above_them(self, load, neutrals, weight):
        text = "laplacian = 1\n[with_neutrals]\nlaplacian = 2\n[without_neutrals]\nlaplacian = 3"
        assert load(text, neutrals=neutrals).laplacian == weight
        assert load(text, neutrals=neutrals, changes=["laplacian=4"]).laplacian == 4

    def test_every_value_can_be_written_and_read(self, load):
        recipe = load_recipe("coma", neutrals=True)
        lines = (
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
            for key, value in recipe.as_dict().items()
            if value is not None
        )
        assert load("\n".join(lines)) == recipe

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("batch = ", "mine.toml is not TOML"),
            (b"batch = 8 # \xff", "not TOML"),
            ("batch = " + 5000 * "1", "not TOML"),
            ("batch = " + 5000 * "[", "not TOML"),
            ("bacth = 8", "mine.toml.* did you mean 'batch'"),
            ("batch = 'x'", "batch is 'x'"),
            ("[other]\nbatch = 8", "no 'other'"),
            ("epochs = 3\nsteps = 8", "epochs and steps are both given"),
            ("with_neutrals = 5", r"expected a table \[with_neutrals\]"),
            ("[without_neutrals]\nbatch = -1", "without_neutrals.*batch is -1"),
            ("a." * 600 + "a = 1", "a line of more than 1000"),
            ("epochs" + ".a" * 490 + " = 1", "epochs is {'a': {'a'.*a whole number"),
            ("x" * 990 + " = 1", "a recipe has no 'xxx"),
        ],
        ids=str,
    )
    def test_broken_files_are_refused_in_one_line(self, load, text, message):
        with raises("recipe-syntax", message) as caught:
            load(text)
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1200

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('base = "kacem"\nexpression = 3', "toml: kacem has no expression latents; leave"),
            ('base = "jiang"\nlaplacian = 3', "toml: laplacian is of pointnet and linear, and the"),
            ('base = "jiang"\n[without_neutrals]\npoints = 9', r"\[without_neutrals\]: points is"),
            ('base = "pointnet"\nlearning_rate_every = 9', "every is of schedule=step, and sched"),
        ],
    )
    def test_a_key_that_nothing_makes_use_of_is_refused(self, load, text, message):
        with raises("recipe-syntax", message):
            load(text)

    @pytest.mark.parametrize(
        "text",
        [
            'base = "jiang"\nlaplacian = 0',
            'base = "pointnet"\nlearning_rate_every = 9\n[with_neutrals]\nschedule = "step"',
            'base = "linear"\nbatch = 9',  # for those who give it a length
        ],
    )
    def test_zero_and_what_is_of_some_use_are_taken(self, load, text):
        load(text)

    @pytest.mark.parametrize("name", recipe_names())
    @pytest.mark.parametrize("neutrals", [True, False])
    def test_a_copy_of_a_recipe_is_the_recipe(self, load, name, neutrals):
        text = (files("facedis_core") / f"train/recipes/{name}.toml").read_text()
        assert load(text, neutrals=neutrals) == load_recipe(name, neutrals=neutrals)

    def test_a_file_that_is_no_recipe(self, load):
        with raises("too-large"):
            load("#\n" * 40_000)

    @pytest.mark.parametrize("name", ["comma", "no.toml", "", "x" * 300 + ".toml"])
    def test_an_unknown_recipe_names_the_known_ones(self, name):
        with raises("option-value", "bilinear, bu3dfe, coma, conv-mesh-ae, di-mesh-encoder"):
            load_recipe(name, neutrals=False)


class TestBase:
    def test_a_file_changes_the_recipe_it_names(self, tmp_path):
        mine = tmp_path / "mine.toml"
        mine.write_text(
            'base = "pointnet"\nidentity = 20\nneutral = 2.0\n[without_neutrals]\nswap = 3'
        )
        for neutrals, swap in ((True, 0.0), (False, 3.0)):
            given = load_recipe("pointnet", neutrals=neutrals)
            found = load_recipe(str(mine), neutrals=neutrals)
            assert found == replace(given, identity=20, neutral=2.0, swap=swap)

    def test_files_may_build_on_files_beside_them(self, tmp_path):
        (tmp_path / "a.toml").write_text('base = "pointnet"\nbatch = 4')
        (tmp_path / "b.toml").write_text('base = "a.toml"\nepochs = 7')
        found = load_recipe(str(tmp_path / "b.toml"), neutrals=True)
        # a length given without a least number of steps is the length
        given = replace(load_recipe("pointnet", neutrals=True), minimum_steps=0)
        assert found == replace(given, batch=4, epochs=7)
        assert recipe_content(str(tmp_path / "b.toml")) == (
            b'base = "pointnet"\nbatch = 4base = "a.toml"\nepochs = 7'
        )
        assert recipe_content("linear") == b""

    @pytest.mark.parametrize(
        ("base", "message"),
        [
            ('"liner"', "did you mean 'linear'"),
            ('"mine.toml"', "is based on itself"),
            ("3", "base is 3, expected the name or file of a recipe"),
            ('"nosuch.toml"', "there is no recipe 'nosuch.toml'"),
        ],
    )
    def test_what_cannot_be_a_base(self, tmp_path, base, message):
        mine = tmp_path / "mine.toml"
        mine.write_text(f"base = {base}")
        with raises("recipe-syntax", message):
            load_recipe(str(mine), neutrals=True)
