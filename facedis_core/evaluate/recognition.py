"""Who is it, and is it the same person: people looked up in a gallery by their identity part.

Identification finds the rank of the right person among all in the gallery, verification looks at
every pair of a gallery face and a probe. Both are exact, in float64, and a tie is never in favour
of who is right. Faces are compared block by block: the memory grows with the number of probes, of
faces that the gallery has of one person, and of pairs of one person, not with that of all pairs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from facedis_core.evaluate.metrics import cosine_similarity
from facedis_core.geometry.distances import vertex_distance

_HELD: Final = 1 << 25  # values of gallery faces that are in memory at once
_MET: Final = 1 << 18  # of probes
_SCORES: Final = 1 << 20


class FaceCollection(NamedTuple):
    """Faces that are compared with others.

    Attributes:
        subject: (N,) whose; the numbers of gallery and probes mean the same people.
        read: rows (B,) -> what of them is compared, (B, ...).
    """

    subject: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]


class Similarity(NamedTuple):
    """How alike faces are: more is more alike.

    Attributes:
        score: probes (B, ...) and gallery faces (G, ...) -> (B, G).
        margin: scores that differ by less than rounding may make of one are a tie.
    """

    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    margin: float = 0.0


class Verification(NamedTuple):
    """How well a threshold on the score tells pairs of one person from pairs of two.

    Attributes:
        auc: area under the ROC curve; how often a genuine pair scores higher than an impostor
            pair, a tie counting half.
        eer: where the ROC curve, straight from each distinct score to the next, has as large a
            share of accepted impostors as of rejected genuine pairs.
        genuine, impostors: how many pairs there are.
    """

    auc: float
    eer: float
    genuine: int
    impostors: int


class Recognition(NamedTuple):
    """What came of looking up P probes.

    Attributes:
        rank: (P,) how many people of the gallery are at least as alike as the right one, itself
            among them; 0 where it is not in the gallery. A person is as alike as the nearest of
            its faces.
        verification: None where there are no genuine or no impostor pairs.
    """

    rank: np.ndarray
    verification: Verification | None


def _vertex_scores(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return -np.stack([vertex_distance(probes, face) for face in gallery], axis=1)


COSINE: Final = Similarity(cosine_similarity, 1e-12)  # of identity latents (N, D)
VERTEX: Final = Similarity(_vertex_scores)  # minus d of identity faces (N, V, 3) mm


def recognize(
    gallery: FaceCollection,
    probes: FaceCollection,
    likeness: Similarity,
    *,
    progress: Callable[[int], None] = lambda pairs: None,
) -> Recognition:
    """Look up all probes.

    Args:
        gallery: faces of known people, one a person or more; at least one face.
        probes: faces to look up.
        likeness: how they are compared.
        progress: told how many pairs have just been compared; all are P x G.
    """
    order = np.argsort(gallery.subject, kind="stable")  # a person's faces side by side
    people, starts = np.unique(gallery.subject[order], return_index=True)
    edges = np.append(starts, len(order))
    rank = np.zeros(len(probes.subject), int)
    best = np.full(len(rank), -np.inf)  # of the right person
    genuine = [np.empty(0)]
    for place, person in enumerate(people):
        own = order[edges[place] : edges[place + 1]]
        for rows, scores in _score_blocks(gallery, probes, own, probes.subject == person, likeness):
            best[rows] = np.maximum(best[rows], scores.max(axis=1))
            rank[rows] = 1
            genuine.append(_quantised(scores, likeness.margin).ravel())

    def impostors() -> Iterator[np.ndarray]:
        """The scores of pairs of two people; meanwhile, ranks are counted."""
        everybody = np.ones(len(rank), bool)
        size = gallery.read(order[:1])[0].size
        for first, last in _person_blocks(edges, max(1, _HELD // size)):
            columns = order[edges[first] : edges[last]]
            for rows, scores in _score_blocks(gallery, probes, columns, everybody, likeness):
                same = probes.subject[rows][:, None] == gallery.subject[columns]
                yield _quantised(scores[~same], likeness.margin)
                scores[same] = -np.inf
                nearest = np.maximum.reduceat(scores, edges[first:last] - edges[first], axis=1)
                before = nearest + likeness.margin >= best[rows][:, None]
                rank[rows] += np.where(rank[rows] > 0, before.sum(axis=1), 0)
                progress(scores.size)

    found = verification(np.concatenate(genuine), impostors())
    return Recognition(rank, found)


def _score_blocks(
    gallery: FaceCollection,
    probes: FaceCollection,
    columns: np.ndarray,
    wanted: np.ndarray,
    likeness: Similarity,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of the probes that are wanted, some at a time, and their scores (B, columns)."""
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return
    theirs = gallery.read(columns)
    together = max(1, min(_MET // theirs[0].size, _SCORES // len(columns)))
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        yield some, likeness.score(probes.read(some), theirs)


def _person_blocks(edges: np.ndarray, together: int) -> Iterator[tuple[int, int]]:
    """People from the first to before the last, with so many faces or one of them with more."""
    first = 0
    while first < len(edges) - 1:
        last = int(np.searchsorted(edges, edges[first] + together, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _quantised(scores: np.ndarray, margin: float) -> np.ndarray:
    """Scores of which those that are a tie are one number, in the same order."""
    return np.rint(scores / margin) if margin else scores


def verification(genuine: np.ndarray, impostors: Iterable[np.ndarray]) -> Verification | None:
    """AUC and EER of scores of genuine pairs (n,) and, in blocks (m,), of impostor pairs.

    Of the impostors only their number between any two genuine scores, and at each of them, is
    kept: the ROC curve is straight in between. All blocks are taken, whatever comes of them.

    Returns:
        None where there are no genuine or no impostor pairs.
    """
    scores, counts = np.unique(genuine, return_counts=True)
    at = np.zeros(len(scores), np.int64)
    below = np.zeros(len(scores) + 1, np.int64)  # below[k]: between scores k - 1 and k
    for block in impostors:
        place = np.searchsorted(scores, block)
        tied = place < len(scores)
        tied[tied] = scores[place[tied]] == block[tied]
        at += np.bincount(place[tied], minlength=len(at))
        below += np.bincount(place[~tied], minlength=len(below))
    all_genuine, all_impostors = len(genuine), int(at.sum() + below.sum())
    if not all_genuine or not all_impostors:
        return None
    worse = np.cumsum(below[:-1]) + np.cumsum(at) - at
    auc = (2 * worse + at) @ counts / (2 * all_genuine * all_impostors)
    # From above every score down: impostors between two genuine scores, then those at a score.
    steps = np.zeros((2, 2 * len(scores) + 2), np.int64)
    steps[0, 1::2], steps[0, 2::2], steps[1, 2::2] = below[::-1], at[::-1], counts[::-1]
    accepted, kept = steps.cumsum(axis=1)
    wrong = accepted / all_impostors  # impostors that are accepted
    missed = 1 - kept / all_genuine  # genuine pairs that are rejected
    last = int(np.argmax(wrong >= missed))
    gap, next_gap = missed[last - 1] - wrong[last - 1], missed[last] - wrong[last]
    way = gap / (gap - next_gap)
    eer = wrong[last - 1] + way * (wrong[last] - wrong[last - 1])
    return Verification(float(auc), float(eer), all_genuine, all_impostors)
