"""Whose face at rest is which."""

from dataclasses import replace

import numpy as np
import synthetic

from facedis_core.data.face_set import neutral_faces


def test_the_first_face_of_level_0_else_the_neutral_mesh_else_nobody():
    faces = synthetic.face_set()
    level = faces.labels.level.copy()
    level[[1, 2]] = 0  # person 0 has three of them
    level[[4, 8]] = 0.5  # persons 1 and 2 have none
    neutrals = faces.neutrals_eval.copy()
    neutrals[2] = np.nan
    changed = replace(faces, labels=replace(faces.labels, level=level), neutrals_eval=neutrals)
    found = list(neutral_faces(changed, [0, 1, 2, 3]))
    assert [(each.subject, each.row) for each in found] == [(0, 0), (1, -1), (3, 12)]
    np.testing.assert_array_equal(found[0].vertices, faces.vertices[0])
    np.testing.assert_array_equal(found[1].vertices, neutrals[1])
