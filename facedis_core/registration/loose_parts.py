"""Loose parts of a head, eyeballs and teeth, that go with those of another topology."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

from facedis_core.geometry.extension import Ball, ball_of, is_in_mouth
from facedis_core.geometry.face_regions import nose_tip
from facedis_core.geometry.surface import connected_parts, farthest_points

Points = NDArray[np.float64]
Triangles = NDArray[np.integer[Any]]

LEADERS: Final = 12  # vertices of the other head that a rigid part goes with
APART_MM: Final = 10.0  # of the middles of two eyeballs, and in height of teeth, at most
ALIKE: Final = 1.5  # greatest ratio of the radii of two eyeballs
ONE_JAW_MM: Final = 32.0  # greatest height of a part that belongs to one jaw
ROW_MM: Final = 4.0  # teeth whose middles differ less in height are of one row
NEAREST: Final = 4

Part = NDArray[np.intp]  # its vertices


def following_parts(
    vertices: Points,
    triangles: Triangles,
    skin: NDArray[np.bool_],
    other: Points,
    other_triangles: Triangles,
    other_skin: NDArray[np.bool_],
) -> Any:
    """Rows of a sparse matrix (V, W): loose parts of a head go with like parts of another one.

    An eyeball has the affine motion of LEADERS vertices of the other one, so it turns about its own
    middle; teeth and tongues likewise that of the row of teeth at their height, so they go with
    the jaw rigidly. Gums of both jaws in one part go with such gums, else with the teeth beside
    them.

    Args:
        vertices: (V, 3) mm, of the head that follows; y is up.
        triangles: (F, 3).
        skin: (V,) vertices of known skin; parts connected with it are not loose.
        other: (W, 3) mm, of the head that leads, in the same frame.
        other_triangles: (F', 3).
        other_skin: (W,).
    """
    rows: list[Any] = []
    columns: list[Any] = []
    values: list[Any] = []
    tip = nose_tip(vertices[skin])
    loose, leading = _loose(vertices, triangles, skin), _loose(other, other_triangles, other_skin)
    balls = [(ball_of(other[part]), part) for part in leading]
    inner = [p for p in leading if tip is not None and is_in_mouth(other[p].mean(axis=0) - tip)]
    teeth = [part for part in inner if _height(other[part]) < ONE_JAW_MM]
    like_gums = [part for part in inner if _height(other[part]) >= ONE_JAW_MM]
    own_teeth: list[Part] = []
    gums: list[Part] = []
    for part in loose:
        points = vertices[part]
        if (ball := ball_of(points)) is not None:
            chosen, places = _like_ball(ball, balls, other)
        elif inner and is_in_mouth(points.mean(axis=0) - tip):
            if _height(points) >= ONE_JAW_MM:
                gums.append(part)
                continue
            chosen = _like_teeth(points, teeth, other)
            places = other[chosen]
            if len(chosen):
                own_teeth.append(part)
        else:
            continue
        if not len(chosen):
            continue
        rows.append(np.repeat(part, len(chosen)))
        columns.append(np.tile(chosen, len(part)))
        values.append(_affine_weights(points, places).ravel())
    rigid = _matrix(rows, columns, values, (len(vertices), len(other)))
    if gums and like_gums:
        every = np.concatenate(gums)
        near, shares = _nearest(vertices[every], np.concatenate(like_gums), other)
        beside = [np.repeat(every, near.shape[1])], [near.ravel()], [shares.ravel()]
        return rigid + _matrix(*beside, (len(vertices), len(other)))
    if not own_teeth or not gums:
        return rigid
    # of a jaw is what lies at its height; nearer teeth may be of the other one
    heights = np.array([vertices[part][:, 1].mean() for part in own_teeth])
    middle = (heights.min() + heights.max()) / 2
    every = np.concatenate(gums)
    found: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for side in (1, -1):
        jaw = [part for part, y in zip(own_teeth, heights, strict=True) if side * (y - middle) >= 0]
        of_jaw = every[side * (vertices[every, 1] - middle) > 0]
        near, shares = _nearest(vertices[of_jaw], np.concatenate(jaw), vertices)
        for entry, more in zip(
            found, (np.repeat(of_jaw, near.shape[1]), near.ravel(), shares.ravel()), strict=True
        ):
            entry.append(more)
    return rigid + _matrix(*found, (len(vertices),) * 2) @ rigid


def _matrix(rows: list[Any], columns: list[Any], values: list[Any], shape: tuple[int, int]) -> Any:
    if not rows:
        return csr_array(shape)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return coo_array(entries, shape=shape).tocsr()


def _height(points: Points) -> float:
    return float(np.ptp(points[:, 1]))


def _like_ball(
    ball: Ball, balls: list[tuple[Ball | None, Part]], other: Points
) -> tuple[Part, Points]:
    """Vertices of the nearest ball of like size, and their places about the own middle."""
    best, found = APART_MM, (np.empty(0, np.intp), np.empty((0, 3)))
    for like, part in balls:
        if like is not None and 1 / ALIKE < like.radius / ball.radius < ALIKE:
            away = float(np.linalg.norm(like.centre - ball.centre))
            if away < best:
                chosen = _spread(part, other)
                best, found = away, (chosen, other[chosen] + ball.centre - like.centre)
    return found


def _like_teeth(points: Points, teeth: list[Part], other: Points) -> Part:
    """Vertices of the row of teeth at the height of a part; none where there is no such row."""
    if not teeth:
        return np.empty(0, np.intp)
    away = [abs(np.mean(other[part][:, 1]) - points[:, 1].mean()) for part in teeth]
    if min(away) > APART_MM:
        return np.empty(0, np.intp)
    row = [part for part, height in zip(teeth, away, strict=True) if height < min(away) + ROW_MM]
    return _spread(np.concatenate(row), other)


def _spread(part: Part, points: Points) -> Part:
    chosen: Part = part[farthest_points(points[part], min(LEADERS, len(part)))]
    return chosen


def _nearest(points: Points, candidates: Part, other: Points) -> tuple[Part, Points]:
    """The nearest of some vertices to points (n, 3), and their shares, by distance: (n, k)."""
    count = min(NEAREST, len(candidates))
    distance, near = cKDTree(other[candidates]).query(points, np.arange(1, count + 1))
    shares = 1 / np.maximum(distance, 1e-3) ** 2
    return candidates[near], shares / shares.sum(axis=1, keepdims=True)


def _loose(vertices: Points, triangles: Triangles, skin: NDArray[np.bool_]) -> list[Part]:
    """The vertices of each part that is not connected with the skin."""
    part = connected_parts(triangles, len(vertices))
    numbers, first = np.unique(part, return_index=True)
    used = np.bincount(triangles.ravel(), minlength=len(vertices)) > 0
    loose = np.isin(numbers, part[skin], invert=True) & used[first]
    return [np.flatnonzero(part == number) for number in numbers[loose]]


def _affine_weights(points: Points, leaders: Points) -> Points:
    """Least weights (n, m) that give points (n, 3) of leaders (m, 3), and sum to 1."""
    middle = leaders.mean(axis=0)
    system = np.vstack([(leaders - middle).T, np.ones(len(leaders))])  # (4, m)
    wanted = np.vstack([(points - middle).T, np.ones(len(points))])
    return np.linalg.pinv(system, rcond=1e-3).dot(wanted).T
