"""Detection of lesions: which lesions belong together, and which were found, missed or invented.

Hänsch et al. 2022, "Detection performance": a lesion may be predicted in pieces and several lesions
as one, so N reference lesions correspond to M predicted ones. Correspondences are disjoint and have
the largest sum of Dice, see `lesion_partition`. One with a Dice above 0.2 is one true positive,
whatever N and M are; any other is one false positive and one false negative; a lesion in none is a
false negative or a false positive. So true positives and false negatives together are not the
number of reference lesions: two that are predicted as one well-fitting lesion count once.

Masks and lesion maps are (z, y, x) or (y, x). See docs/metrics.md for a worked example and for what
other tools count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesion_clusters import LesionSet, OverlapGraph
from nnunet_liver_ext.evaluation.lesion_maps import LabelArray, require_lesion_map
from nnunet_liver_ext.evaluation.lesion_partition import best_partition
from nnunet_liver_ext.evaluation.masks import require_spacing
from nnunet_liver_ext.evaluation.metrics import ML_PER_MM3

MIN_DICE = 0.2  # Hänsch et al. 2022, "Detection performance"


@dataclass(frozen=True)
class Correspondence:
    """Reference and predicted lesions that show the same, at least one of each."""

    reference: tuple[int, ...]
    """Ids of its reference lesions, ascending."""
    prediction: tuple[int, ...]
    """Ids of its predicted lesions, ascending."""
    dice: float
    """2·|R ∩ P| / (|R| + |P|), where R and P are the unions of its lesions; above 0, at most 1."""
    hit: bool
    """Whether it is a true positive: dice > min_dice."""
    reference_voxels: int
    prediction_voxels: int
    reference_ml: float | None
    """Volume of R; None if no spacing was given."""
    prediction_ml: float | None


@dataclass(frozen=True)
class LesionMatch:
    """All lesions of a case and how they correspond; ids are the values in the lesion maps."""

    correspondences: tuple[Correspondence, ...]
    """In the order of their first reference id."""
    unmatched_reference: tuple[int, ...]
    """Ids of the reference lesions in no correspondence, ascending."""
    unmatched_prediction: tuple[int, ...]
    reference_voxels: Mapping[int, int]
    """Volume of every reference lesion by id."""
    prediction_voxels: Mapping[int, int]
    min_dice: float
    voxel_ml: float | None
    """Volume of a voxel; None if no spacing was given."""
    exact: bool
    """Whether the sum of Dice is certainly the largest; False where a cluster was too large."""

    @property
    def dice_sum(self) -> float:
        """The sum of the correspondences' Dice, which the matching maximises."""
        return math.fsum(both.dice for both in self.correspondences)

    @property
    def reference_ml(self) -> dict[int, float] | None:
        """Volume of every reference lesion in ml by id; None if no spacing was given."""
        return self._volumes_ml(self.reference_voxels)

    @property
    def prediction_ml(self) -> dict[int, float] | None:
        """Volume of every predicted lesion in ml by id; None if no spacing was given."""
        return self._volumes_ml(self.prediction_voxels)

    def _volumes_ml(self, voxels: Mapping[int, int]) -> dict[int, float] | None:
        if self.voxel_ml is None:
            return None
        return {lesion: count * self.voxel_ml for lesion, count in voxels.items()}


@dataclass(frozen=True)
class DetectionScores:
    """Counts of lesions and their ratios in 0..1; a ratio without anything to count is nan."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def recall(self) -> float:
        """TP / (TP + FN); nan if there was nothing to find."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); nan if nothing was found."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def f1(self) -> float:
        """2·TP / (2·TP + FP + FN); nan without lesions on either side, 0 with them on one side."""
        doubled = 2 * self.true_positives
        return _ratio(doubled, doubled + self.false_positives + self.false_negatives)


def match_lesions(
    ref: npt.ArrayLike,
    pred: npt.ArrayLike,
    min_dice: float = MIN_DICE,
    *,
    spacing_mm: Sequence[float] | None = None,
) -> LesionMatch:
    """The disjoint N:M correspondences of the lesions of two maps with the largest sum of Dice.

    An array with one value beside zero is a mask: its lesions are those of
    `lesion_maps.find_lesions`, with the same numbers as ids. An array with several values is a
    lesion map: each value is the id of one lesion, also of one in several pieces, and lesions that
    touch stay apart. (For another connectivity, give maps from `find_lesions`.) Lesions that share
    no voxel never correspond. A piece that overlaps one lesion only joins the correspondence of
    that one, with the Dice D, if at least the share D / 2 of the piece is covered; otherwise it
    would lower D and is left over.

    The sum is exact in clusters of overlapping lesions with at most `lesion_matching.EXACT_CORE`
    (14) lesions that overlap two or more others; in larger ones it is at least that of greedy
    one-to-one matches, and `exact` is False. Among partitions with the same sum: most
    correspondences, then most lesions in them, then the first in the order of ids. An exact sum
    does not change when ref and pred are exchanged or ids are renamed.

    Args:
        ref: mask or lesion map, bool or whole numbers from 0, (z, y, x) or (y, x).
        pred: mask or lesion map of the same shape.
        min_dice: a correspondence with a higher Dice is a hit, 0..1.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x); needed for ml and for
            `lesion_scores.scores_by_size`, 3D only.

    Returns:
        The match; without lesions on one side, or on both, it has no correspondences.

    Raises:
        InputError: the shapes differ or are not 2D or 3D, an array holds fractions or negative
            numbers, min_dice is outside 0..1, or the spacing is not three positive finite numbers
            for 3D arrays.

    Source:
        Hänsch et al. 2022, "Detection performance".

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> reference = np.array([[1, 1, 1, 1, 1, 0, 1, 1]])
        >>> prediction = np.array([[1, 1, 0, 1, 1, 0, 0, 0]])  # one in two pieces, one missed
        >>> match = nle.match_lesions(reference, prediction)
        >>> [(c.reference, c.prediction, round(c.dice, 3)) for c in match.correspondences]
        [((1,), (1, 2), 0.889)]
        >>> match.unmatched_reference
        (2,)
    """
    ref_map, pred_map = require_lesion_map(ref, "ref"), require_lesion_map(pred, "pred")
    if ref_map.shape != pred_map.shape:
        raise InputError(f"ref and pred differ in shape: {ref_map.shape} and {pred_map.shape}.")
    if not 0 <= min_dice <= 1:
        raise InputError(f"min_dice must lie in 0..1, not {min_dice}.")
    voxel_ml = None if spacing_mm is None else _voxel_ml(spacing_mm, ref_map.ndim)
    ref_voxels, pred_voxels = _count_voxels(ref_map), _count_voxels(pred_map)
    ids = [*ref_voxels, *pred_voxels]
    overlaps = _overlaps(ref_map, pred_map, ids, len(ref_voxels))
    graph = OverlapGraph([*ref_voxels.values(), *pred_voxels.values()], overlaps)
    partition = best_partition(graph)
    correspondences = sorted(
        (
            _correspondence(graph, lesions, ids, len(ref_voxels), min_dice, voxel_ml)
            for lesions in partition.correspondences
        ),
        key=lambda both: both.reference,
    )
    unmatched_reference = set(ref_voxels).difference(*(both.reference for both in correspondences))
    unmatched_prediction = set(pred_voxels).difference(
        *(both.prediction for both in correspondences)
    )
    return LesionMatch(
        tuple(correspondences),
        tuple(sorted(unmatched_reference)),
        tuple(sorted(unmatched_prediction)),
        ref_voxels,
        pred_voxels,
        min_dice,
        voxel_ml,
        partition.exact,
    )


def detection_scores(match: LesionMatch) -> DetectionScores:
    """Counts, recall, precision and F1 of one case.

    A correspondence with a Dice above min_dice is one true positive, any other one false positive
    and one false negative; each lesion in no correspondence is one more false negative (reference)
    or false positive (prediction).

    No lesions at all: counts 0, ratios nan. No reference lesions: recall nan, precision and F1 0.
    No predicted lesions: precision nan, recall and F1 0.

    Source:
        Hänsch et al. 2022, "Detection performance".

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> reference = np.array([[1, 1, 1, 1, 1, 0, 1, 1]])
        >>> prediction = np.array([[1, 1, 0, 1, 1, 0, 0, 0]])  # one in two pieces, one missed
        >>> scores = nle.detection_scores(nle.match_lesions(reference, prediction))
        >>> scores
        DetectionScores(true_positives=1, false_positives=0, false_negatives=1)
        >>> scores.recall, scores.precision
        (0.5, 1.0)
    """
    hits = sum(both.hit for both in match.correspondences)
    weak = len(match.correspondences) - hits
    return DetectionScores(
        hits, weak + len(match.unmatched_prediction), weak + len(match.unmatched_reference)
    )


def _correspondence(
    graph: OverlapGraph,
    lesions: LesionSet,
    ids: Sequence[int],
    n_ref: int,
    min_dice: float,
    voxel_ml: float | None,
) -> Correspondence:
    """What the lesions with these numbers are together; the reference's come first in `ids`."""
    members = set(lesions)
    shared = [
        voxels for n in lesions for other, voxels in graph.overlaps[n].items() if other in members
    ]
    ref_voxels = sum(graph.volumes[n] for n in lesions if n < n_ref)
    pred_voxels = sum(graph.volumes[n] for n in lesions if n >= n_ref)
    dice = sum(shared) / (ref_voxels + pred_voxels)  # each overlap is there from both sides
    return Correspondence(
        reference=tuple(ids[n] for n in lesions if n < n_ref),
        prediction=tuple(ids[n] for n in lesions if n >= n_ref),
        dice=dice,
        hit=dice > min_dice,
        reference_voxels=ref_voxels,
        prediction_voxels=pred_voxels,
        reference_ml=None if voxel_ml is None else ref_voxels * voxel_ml,
        prediction_ml=None if voxel_ml is None else pred_voxels * voxel_ml,
    )


def _count_voxels(lesion_map: LabelArray) -> dict[int, int]:
    """Voxels of each lesion by id, ascending."""
    ids, counts = np.unique(lesion_map[lesion_map != 0], return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def _overlaps(
    ref: LabelArray, pred: LabelArray, ids: Sequence[int], n_ref: int
) -> list[dict[int, int]]:
    """Voxels that each lesion shares with those of the other map, by number.

    Lesions are numbered as in `ids`, the reference's first.
    """
    overlaps: list[dict[int, int]] = [{} for _ in ids]
    common = (ref != 0) & (pred != 0)
    if not common.any():
        return overlaps
    ref_numbers = np.searchsorted(np.array(ids[:n_ref]), ref[common]).astype(np.int64)
    pred_numbers = np.searchsorted(np.array(ids[n_ref:]), pred[common]) + n_ref
    couples, counts = np.unique(ref_numbers * len(ids) + pred_numbers, return_counts=True)
    for couple, count in zip(couples.tolist(), counts.tolist(), strict=True):
        a, b = divmod(couple, len(ids))
        overlaps[a][b] = overlaps[b][a] = count
    return overlaps


def _voxel_ml(spacing_mm: Sequence[float], dimensions: int) -> float:
    if dimensions != 3:
        raise InputError(
            f"volumes in ml need 3D masks (z, y, x): leave out spacing_mm for {dimensions}D ones."
        )
    return math.prod(require_spacing(spacing_mm)) * ML_PER_MM3


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
