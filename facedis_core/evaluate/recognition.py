"""Face recognition: identification (ranks in a gallery) and verification (ROC over all pairs).

Both are exact, in float64; a tie never counts for the right person. Faces are compared block by
block: memory grows with the number of probes, of gallery faces of one person, and of genuine
pairs, not with the number of all pairs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from facedis_core.evaluate.metrics import cosine_similarity
from facedis_core.geometry.distances import vertex_distance

# Numbers in memory at once: of gallery faces, of probes, of scores.
_GALLERY_VALUES: Final = 1 << 25
_PROBE_VALUES: Final = 1 << 18
_BLOCK_SCORES: Final = 1 << 20


class FaceCollection(NamedTuple):
    """Faces to compare with others.

    Attributes:
        subject: (N,) numbers of people, the same in gallery and probes.
        read: rows (B,) -> the features to compare (B, ...): latents or vertices.
    """

    subject: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]


class Similarity(NamedTuple):
    """A similarity score of two faces.

    Attributes:
        score: features of probes (B, ...) and of gallery faces (G, ...) -> scores (B, G).
        margin: difference of scores that counts as a tie, for rounding.
    """

    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    margin: float = 0.0


class Verification(NamedTuple):
    """Separation of genuine from impostor pairs by a threshold on the score.

    Attributes:
        auc: area under the ROC curve: share of (genuine, impostor) pairs of pairs in which the
            genuine pair scores higher, ties counted half.
        eer: equal error rate: point of the ROC curve, linear between distinct scores, at which the
            share of accepted impostor pairs equals the share of rejected genuine pairs.
        genuine, impostors: number of pairs.
    """

    auc: float
    eer: float
    genuine: int
    impostors: int


class Recognition(NamedTuple):
    """Ranks and verification of P probes.

    Attributes:
        rank: (P,) number of gallery people whose most similar face is at least as similar as that
            of the right person, that person included; 0 where the person is not in the gallery.
        verification: None without genuine or without impostor pairs.
    """

    rank: np.ndarray
    verification: Verification | None


def _vertex_scores(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return -np.stack([vertex_distance(probes, face) for face in gallery], axis=1)


COSINE: Final = Similarity(cosine_similarity, 1e-12)  # of identity latents (N, D)
VERTEX: Final = Similarity(_vertex_scores)  # -d of identity faces (N, V, 3) mm


def recognize(
    gallery: FaceCollection,
    probes: FaceCollection,
    similarity: Similarity,
    *,
    progress: Callable[[int], None] = lambda pairs: None,
) -> Recognition:
    """Compare G gallery faces and P probes.

    Args:
        gallery: faces of known people, at least one, any number of each person.
        probes: faces to recognize.
        similarity: score of two faces.
        progress: called with the number of newly compared pairs, P x G in all.
    """
    order = np.argsort(gallery.subject, kind="stable")  # the faces of a person side by side
    people, starts = np.unique(gallery.subject[order], return_index=True)
    bounds = np.append(starts, len(order))
    rank = np.zeros(len(probes.subject), int)
    own_score = np.full(len(rank), -np.inf)  # best score with the right person
    genuine = [np.empty(0)]
    for first, person in enumerate(people):
        columns = order[bounds[first] : bounds[first + 1]]
        own_rows = np.flatnonzero(probes.subject == person)
        for rows, scores in _score_blocks(gallery, probes, columns, own_rows, similarity):
            own_score[rows] = np.maximum(own_score[rows], scores.max(axis=1))
            rank[rows] = 1
            genuine.append(_rounded(scores, similarity.margin).ravel())

    def impostor_scores() -> Iterator[np.ndarray]:
        """Scores of impostor pairs, block by block; each block also raises the ranks."""
        all_rows = np.arange(len(rank))
        size = gallery.read(order[:1])[0].size
        for first, last in _person_blocks(bounds, max(1, _GALLERY_VALUES // size)):
            columns = order[bounds[first] : bounds[last]]
            for rows, scores in _score_blocks(gallery, probes, columns, all_rows, similarity):
                same = probes.subject[rows][:, None] == gallery.subject[columns]
                yield _rounded(scores[~same], similarity.margin)
                scores[same] = -np.inf
                nearest = np.maximum.reduceat(scores, bounds[first:last] - bounds[first], axis=1)
                better = nearest + similarity.margin >= own_score[rows][:, None]
                rank[rows] += np.where(rank[rows] > 0, better.sum(axis=1), 0)
                progress(scores.size)

    found = verification(np.concatenate(genuine), impostor_scores())
    return Recognition(rank, found)


def verification(genuine: np.ndarray, impostors: Iterable[np.ndarray]) -> Verification | None:
    """AUC and EER from the scores of genuine pairs (n,) and of impostor pairs in blocks (m,).

    Impostor scores are only counted, at each distinct genuine score and between any two of them:
    the ROC curve is linear in between. All blocks are consumed.

    Returns:
        None without genuine or without impostor pairs.
    """
    scores, counts = np.unique(genuine, return_counts=True)
    tied = np.zeros(len(scores), np.int64)  # impostors at each genuine score
    between = np.zeros(len(scores) + 1, np.int64)  # [k]: between the scores k - 1 and k
    for block in impostors:
        place = np.searchsorted(scores, block)
        equal = place < len(scores)
        equal[equal] = scores[place[equal]] == block[equal]
        tied += np.bincount(place[equal], minlength=len(tied))
        between += np.bincount(place[~equal], minlength=len(between))
    all_genuine, all_impostors = len(genuine), int(tied.sum() + between.sum())
    if not all_genuine or not all_impostors:
        return None
    lower = np.cumsum(between[:-1]) + np.cumsum(tied) - tied
    auc = (2 * lower + tied) @ counts / (2 * all_genuine * all_impostors)
    # thresholds from high to low: impostors between two genuine scores, then pairs at a score
    steps = np.zeros((2, 2 * len(scores) + 2), np.int64)
    steps[0, 1::2], steps[0, 2::2], steps[1, 2::2] = between[::-1], tied[::-1], counts[::-1]
    impostors_accepted, genuine_accepted = steps.cumsum(axis=1)
    false_accepts = impostors_accepted / all_impostors
    false_rejects = 1 - genuine_accepted / all_genuine
    last = int(np.argmax(false_accepts >= false_rejects))
    gap = false_rejects[last - 1] - false_accepts[last - 1]
    fraction = gap / (gap - (false_rejects[last] - false_accepts[last]))
    eer = false_accepts[last - 1] + fraction * (false_accepts[last] - false_accepts[last - 1])
    return Verification(float(auc), float(eer), all_genuine, all_impostors)


def _score_blocks(
    gallery: FaceCollection,
    probes: FaceCollection,
    columns: np.ndarray,
    rows: np.ndarray,
    similarity: Similarity,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some rows (B,) of the probes at a time, and their scores (B, columns)."""
    if not len(rows):
        return
    known = gallery.read(columns)
    size = max(1, min(_PROBE_VALUES // known[0].size, _BLOCK_SCORES // len(columns)))
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        yield some, similarity.score(probes.read(some), known)


def _person_blocks(bounds: np.ndarray, faces: int) -> Iterator[tuple[int, int]]:
    """Ranges (first, last) of people with at most `faces` faces in all, or of one with more."""
    first = 0
    while first < len(bounds) - 1:
        last = int(np.searchsorted(bounds, bounds[first] + faces, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _rounded(scores: np.ndarray, margin: float) -> np.ndarray:
    """Scores in units of the margin, rounded so that tied scores are equal."""
    return np.rint(scores / margin) if margin else scores
