"""Detection of lesions: which reference and predicted lesions belong together, and what was found,
missed and invented.

Hansch et al. 2022, "Detection performance": a lesion may be predicted in pieces and several lesions
as one, so N reference lesions correspond to M predicted ones. Correspondences are disjoint and have
the largest sum of Dice, see `lesion_matching`. One with a Dice above 0.2 is one true positive,
whatever N and M are; any other is one false positive and one false negative; a lesion in none is a
false negative or a false positive. So true positives and false negatives together are not the
number of reference lesions: two that are predicted as one well-fitting lesion count once.

Masks and lesion maps are (z, y, x), or (y, x). See docs/metrics.md for a worked example and what
other tools count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal, get_args

import cc3d
import numpy as np
import numpy.typing as npt

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesion_matching import LesionSet, OverlapGraph, best_partition
from nnunet_liver_ext.evaluation.masks import require_spacing
from nnunet_liver_ext.evaluation.metrics import ML_PER_MM3

Connectivity = Literal[6, 18, 26]

MIN_DICE = 0.2  # Hansch et al. 2022, "Detection performance"


@dataclass(frozen=True)
class Correspondence:
    """Reference and predicted lesions that show the same, at least one of each. Its Dice is that of
    the two unions."""

    reference: tuple[int, ...]
    """Ids of its reference lesions, ascending."""
    prediction: tuple[int, ...]
    """Ids of its predicted lesions, ascending."""
    dice: float
    """2·|R ∩ P| / (|R| + |P|) of the unions R and P of its lesions, above 0, at most 1."""
    hit: bool
    """Whether it is a true positive: dice > min_dice."""
    reference_voxels: int
    prediction_voxels: int
    reference_ml: float | None
    """Volume of R; None if no spacing was given."""
    prediction_ml: float | None


@dataclass(frozen=True)
class LesionMatch:
    """All lesions of a case and how they correspond. Ids are the values in the lesion maps, see
    `match_lesions`."""

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
    """Whether the sum of Dice is certainly the largest; False if a cluster was too large for the
    exact search."""

    @property
    def dice_sum(self) -> float:
        """The sum of the correspondences' Dice, which the matching maximises."""
        return math.fsum(own.dice for own in self.correspondences)

    @property
    def reference_ml(self) -> dict[int, float] | None:
        """Volume of every reference lesion in ml by id; None if no spacing was given."""
        return (
            None
            if self.voxel_ml is None
            else {n: v * self.voxel_ml for n, v in self.reference_voxels.items()}
        )

    @property
    def prediction_ml(self) -> dict[int, float] | None:
        """Volume of every predicted lesion in ml by id; None if no spacing was given."""
        return (
            None
            if self.voxel_ml is None
            else {n: v * self.voxel_ml for n, v in self.prediction_voxels.items()}
        )


@dataclass(frozen=True)
class DetectionScores:
    """Counts of lesions and their ratios, each in 0..1; a ratio without anything to count is
    nan."""

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
        """2·TP / (2·TP + FP + FN); nan if there are no lesions on either side, 0 if on one side
        only."""
        return _ratio(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )


@dataclass(frozen=True)
class PooledScores:
    """Detection in a dataset."""

    scores: DetectionScores
    """From the summed counts of all cases: every lesion weighs the same."""
    cases: int
    false_positives_per_case_median: float
    """Over the cases, as in Hansch et al. 2022, table 2; nan without cases."""
    false_positives_per_case_mean: float


def find_lesions(mask: npt.ArrayLike, *, connectivity: Connectivity = 26) -> np.ndarray:
    """The lesions of a mask: its connected components, numbered 1..n in the order of their first
    voxels; 0 is background.

    By default voxels are connected by faces, edges and corners (26 neighbours; 8 in 2D). Slices of
    MRI are often several mm thick, and a thin or oblique lesion that continues in the next slice
    may touch itself at an edge or corner only: with 6 neighbours it would fall into pieces, each a
    miss or an invention of its own.

    Args:
        mask: bool, or zero and one other whole number, (z, y, x) or (y, x).
        connectivity: 26, 18 (faces and edges; 8 in 2D) or 6 (faces; 4 in 2D).

    Returns:
        Integers of the mask's shape; all zero for an empty mask.

    Raises:
        InputError: the array is no mask, is not 2D or 3D, or the connectivity is unknown.
    """
    if connectivity not in get_args(Connectivity):
        raise InputError(f"connectivity must be one of 6, 18, 26, not {connectivity!r}.")
    labels = _labels(mask, "mask")
    if not _is_mask(labels):
        raise InputError(
            f"mask holds several labels (0..{labels.max()}): choose one, as in mask == 1."
        )
    return _components(labels != 0, connectivity)


def match_lesions(
    ref: npt.ArrayLike,
    pred: npt.ArrayLike,
    min_dice: float = MIN_DICE,
    *,
    spacing_mm: Sequence[float] | None = None,
) -> LesionMatch:
    """The disjoint N:M correspondences of the lesions of two maps with the largest sum of Dice.

    An array with one value beside zero is a mask: its lesions are those of `find_lesions`, with the
    same numbers as ids. An array with several values is a lesion map: each value is the id of one
    lesion, also of one in several pieces, and lesions that touch stay apart. (For another
    connectivity, give maps from `find_lesions`.) Lesions that share no voxel never correspond. A
    piece that overlaps one lesion only joins the correspondence of that one, with the Dice D, if at
    least the share D / 2 of the piece is covered; otherwise it would lower D and is left over.

    The sum is exact in clusters of overlapping lesions with at most `lesion_matching.EXACT_CORE`
    (14) lesions that overlap two or more others; in larger ones it is at least that of greedy
    one-to-one pairs, and `exact` is False. Among partitions with the same sum: most
    correspondences, then most lesions in them, then the first in the order of ids. An exact sum
    does not change when ref and pred are exchanged or ids are renamed.

    Args:
        ref: mask or lesion map, bool or whole numbers from 0, (z, y, x) or (y, x).
        pred: mask or lesion map of the same shape.
        min_dice: a correspondence with a higher Dice is a hit, 0..1.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x); needed for ml and for
            `scores_by_size`, 3D only.

    Returns:
        The match; without lesions on one side it has no correspondences.

    Raises:
        InputError: the shapes differ or are not 2D or 3D, an array holds fractions or negative
            numbers, min_dice is outside 0..1, or the spacing is not three positive finite numbers
            for 3D arrays.

    Source:
        Hansch et al. 2022, "Detection performance".

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
    ref, pred = _labels(ref, "ref"), _labels(pred, "pred")
    if ref.shape != pred.shape:
        raise InputError(f"ref and pred differ in shape: {ref.shape} and {pred.shape}.")
    if not 0 <= min_dice <= 1:
        raise InputError(f"min_dice must lie in 0..1, not {min_dice}.")
    voxel_ml = None if spacing_mm is None else _voxel_ml(spacing_mm, ref.ndim)
    return _match(_lesion_map(ref), _lesion_map(pred), min_dice, voxel_ml)


def detection_scores(match: LesionMatch) -> DetectionScores:
    """Counts, recall, precision and F1 of one case.

    A correspondence with a Dice above min_dice is one true positive, any other one false positive
    and one false negative; each lesion in no correspondence is one more false negative (reference)
    or false positive (prediction).

    No lesions at all: counts 0, ratios nan. No reference lesions: recall nan, precision and F1 0.
    No predicted lesions: precision nan, recall and F1 0.

    Source:
        Hansch et al. 2022, "Detection performance".

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
    hits = sum(own.hit for own in match.correspondences)
    weak = len(match.correspondences) - hits
    return DetectionScores(
        hits, weak + len(match.unmatched_prediction), weak + len(match.unmatched_reference)
    )


def scores_by_size(
    match: LesionMatch, edges_mm: Sequence[float] = (10, 20)
) -> dict[tuple[float, float], DetectionScores]:
    """Detection scores by the diameter of the sphere with the lesions' volume, d = (6·V / π)^(1/3).

    True positives and false negatives are in the class of their reference volume (of all the
    correspondence's reference lesions together), false positives in that of their predicted volume:
    recall is that of reference lesions of a size, and the counts of the classes add up to those of
    `detection_scores`.

    Args:
        match: with volumes in ml, that is from `match_lesions` with spacing_mm.
        edges_mm: between the classes, positive, finite and ascending.

    Returns:
        By (lower, upper) with lower ≤ d < upper, from 0 to inf in mm; nan where a class has nothing
        to count.

    Raises:
        InputError: the match has no volumes in ml, or the edges are not as above.
    """
    edges = [float(edge) for edge in edges_mm]
    if not all(low < high < math.inf for low, high in zip([0.0, *edges], edges, strict=False)):
        raise InputError(f"edges_mm must be positive, finite and ascending, not {edges_mm!r}.")
    if match.voxel_ml is None:
        raise InputError("sizes in mm need volumes in ml: give spacing_mm to match_lesions.")
    hits = [own for own in match.correspondences if own.hit]
    weak = [own for own in match.correspondences if not own.hit]
    groups = (
        [own.reference_voxels for own in hits],
        [own.prediction_voxels for own in weak]
        + [match.prediction_voxels[n] for n in match.unmatched_prediction],
        [own.reference_voxels for own in weak]
        + [match.reference_voxels[n] for n in match.unmatched_reference],
    )
    counts = [_by_class([voxels * match.voxel_ml for voxels in group], edges) for group in groups]
    bounds = zip([0.0, *edges], [*edges, math.inf], strict=True)
    return {bound: DetectionScores(*own) for bound, *own in zip(bounds, *counts, strict=True)}


def pooled_scores(matches: Iterable[LesionMatch | DetectionScores]) -> PooledScores:
    """Detection in a dataset: scores from the summed counts, and the false positives per case.

    Hansch et al. 2022, table 2, instead average each case's recall, precision and F1, where a case
    with one lesion weighs as much as one with thirty; their false positives per case (FPC) are the
    median.

    Args:
        matches: one for each case, or its scores.

    Returns:
        The scores; without cases, or without lesions in them, the counts are 0 and the ratios nan.
    """
    scores = [own if isinstance(own, DetectionScores) else detection_scores(own) for own in matches]
    false_positives = [own.false_positives for own in scores]
    return PooledScores(
        DetectionScores(
            sum(own.true_positives for own in scores),
            sum(false_positives),
            sum(own.false_negatives for own in scores),
        ),
        len(scores),
        float(median(false_positives)) if scores else math.nan,
        fmean(false_positives) if scores else math.nan,
    )


def sphere_diameter_mm(volume_ml: float) -> float:
    """Diameter in mm of the sphere with this volume, (6·V / π)^(1/3)."""
    return math.cbrt(6 * volume_ml / ML_PER_MM3 / math.pi)


def _match(
    ref: np.ndarray, pred: np.ndarray, min_dice: float, voxel_ml: float | None
) -> LesionMatch:
    ref_voxels, pred_voxels = _voxels(ref), _voxels(pred)
    ids = [*ref_voxels, *pred_voxels]
    graph = OverlapGraph(
        [*ref_voxels.values(), *pred_voxels.values()], _overlaps(ref, pred, ids, len(ref_voxels))
    )
    partition = best_partition(graph)

    def described(lesions: LesionSet) -> Correspondence:
        reference = tuple(ids[n] for n in lesions if n < len(ref_voxels))
        prediction = tuple(ids[n] for n in lesions if n >= len(ref_voxels))
        members = set(lesions)
        shared = (
            sum(
                count
                for n in lesions
                for other, count in graph.overlaps[n].items()
                if other in members
            )
            // 2
        )
        volumes = sum(ref_voxels[n] for n in reference), sum(pred_voxels[n] for n in prediction)
        dice = 2 * shared / sum(volumes)
        in_ml = (None, None) if voxel_ml is None else (volumes[0] * voxel_ml, volumes[1] * voxel_ml)
        return Correspondence(reference, prediction, dice, dice > min_dice, *volumes, *in_ml)

    correspondences = sorted(
        map(described, partition.correspondences), key=lambda own: own.reference
    )
    unmatched_reference = set(ref_voxels).difference(*(own.reference for own in correspondences))
    unmatched_prediction = set(pred_voxels).difference(*(own.prediction for own in correspondences))
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


def _voxels(lesion_map: np.ndarray) -> dict[int, int]:
    """Voxels of each lesion by id, ascending."""
    ids, counts = np.unique(lesion_map[lesion_map != 0], return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def _overlaps(
    ref: np.ndarray, pred: np.ndarray, ids: Sequence[int], n_ref: int
) -> list[dict[int, int]]:
    """Shared voxels of each lesion with those of the other side; lesions are numbered as in `ids`,
    the reference's first."""
    both = (ref != 0) & (pred != 0)
    overlaps: list[dict[int, int]] = [{} for _ in ids]
    if not both.any():
        return overlaps
    own = np.searchsorted(np.array(ids[:n_ref]), ref[both]).astype(np.int64)
    other = np.searchsorted(np.array(ids[n_ref:]), pred[both]) + n_ref
    pairs, counts = np.unique(own * len(ids) + other, return_counts=True)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        a, b = divmod(pair, len(ids))
        overlaps[a][b] = overlaps[b][a] = count
    return overlaps


def _lesion_map(labels: np.ndarray) -> np.ndarray:
    return _components(labels != 0, connectivity=26) if _is_mask(labels) else labels


def _components(mask: np.ndarray, connectivity: Connectivity) -> np.ndarray:
    """The numbered components; a 2D mask is a volume of one slice."""
    if mask.size == 0:
        return np.zeros(mask.shape, np.uint32)
    volume = mask if mask.ndim == 3 else mask[None]
    # In C order, for cc3d numbers in the order of memory; with a margin, for cc3d 4.1 has too few
    # provisional labels for the single voxels in some volumes of odd size, and raises.
    padded = np.zeros([n + 1 for n in volume.shape], bool)
    padded[:-1, :-1, :-1] = volume
    return cc3d.connected_components(padded, connectivity=connectivity, out_dtype=np.uint32)[
        :-1, :-1, :-1
    ].reshape(mask.shape)


def _is_mask(labels: np.ndarray) -> bool:
    foreground = labels[labels != 0]
    return foreground.size == 0 or bool(foreground.min() == foreground.max())


def _labels(values: npt.ArrayLike, name: str) -> np.ndarray:
    """The array as bool or integers from 0."""
    array = np.asarray(values)
    if array.ndim not in (2, 3):
        raise InputError(f"{name} must be (z, y, x) or (y, x), not of shape {array.shape}.")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be a bool or integer array, not {array.dtype}.")
    if array.dtype.kind == "f":
        fractions = array[~np.isfinite(array) | (array != np.round(array))]
        if fractions.size:
            raise InputError(
                f"{name} holds fractions such as {fractions[0]:.4g}: threshold it first."
            )
        array = array.astype(np.int64)
    if array.size and array.min() < 0:
        raise InputError(
            f"{name} holds negative labels such as {array.min()}: lesions are numbered from 1."
        )
    return array


def _voxel_ml(spacing_mm: Sequence[float], dimensions: int) -> float:
    if dimensions != 3:
        raise InputError(
            f"volumes in ml need 3D masks (z, y, x): leave out spacing_mm for {dimensions}D ones."
        )
    return math.prod(require_spacing(spacing_mm)) * ML_PER_MM3


def _by_class(volumes_ml: Sequence[float], edges_mm: Sequence[float]) -> list[int]:
    """How many have a diameter in each class."""
    classes = np.digitize([sphere_diameter_mm(volume) for volume in volumes_ml], edges_mm)
    return np.bincount(classes.astype(np.int64), minlength=len(edges_mm) + 1).tolist()


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
