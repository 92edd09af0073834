"""Whole heads from narrow faces."""

import numpy as np
import pytest

from facedis_core.mesh.mesh import read_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.registration.completion import complete_head
from facedis_core.registration.prior import prior_of, vertices_of


@pytest.mark.parametrize("name", ["alice_mouth_stretch", "bob_neutral"])
def test_the_rest_of_a_head_is_near_the_true_one(name):
    model = load_model("ict-linear")
    known = vertices_of(model.preparation, prior_of(model.preparation), partly=True) >= 0
    assert np.count_nonzero(known) == 4601
    truth = read_mesh(weights_folder() / "examples" / f"{name}.ply").vertices.astype(np.float64)
    head = complete_head(model, known, truth)
    assert np.array_equal(head[known], truth[known])
    error = np.linalg.norm(head - truth, axis=1)
    skin = ~known
    skin[6706:] = False  # other vertices of the narrow face, among the known ones
    assert error[skin].mean() < 0.2 and error[~known].mean() < 1.5
    mean_head = np.linalg.norm(model.mean_face - truth, axis=1)
    assert error[~known].mean() < mean_head[~known].mean() / 3
