"""What is measured: one entry for each metric, in the order of the tables.

To add a metric of a prediction and its reference, write its function of arrays and one entry here
with `compute`. What is measured together with other values (lesions, fat, raters, pairs,
plausibility) has its entry here and its value in `measuring`.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from nnunet_liver_ext.evaluation.matched_masks import MatchedMasks
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.metrics import relative_volume_difference
from nnunet_liver_ext.evaluation.options import Options

SHARE, PERCENT, FROM_ZERO = (0.0, 1.0), (0.0, 100.0), (0.0, math.inf)
SURFACE = ("options.convention", "conventions.surface")
SIMILARITY = ("similarity.transforms", "conventions.relative_similarity")
AS_GOOD_AS_A_RATER = 0.9
"""φ of a prediction that is as far from the raters as these are from one another."""

_overlap = partial(
    Metric,
    unit="1",
    decimals=3,
    family="overlap",
    better="higher",
    bounds=SHARE,
    always_measured=True,
    needs_reference=True,
)
_distance = partial(
    Metric,
    unit="mm",
    family="surface",
    better="lower",
    bounds=FROM_ZERO,
    needs_reference=True,
    depends_on=SURFACE,
)
_volume = partial(Metric, unit="ml", family="volume")
_fat = partial(Metric, unit="%", family="fat", depends_on=("options.fat_margin_mm",))
_lesions = partial(Metric, unit="1", family="detection", depends_on=("options.min_lesion_dice",))
_lesion_count = partial(_lesions, decimals=0, bounds=FROM_ZERO)
_lesion_ratio = partial(
    _lesions,
    decimals=3,
    better="higher",
    bounds=SHARE,
    plotted_with="lesions",
    whole_axis=True,
    source="Hänsch et al. 2022",
)
_burden = partial(Metric, unit="%", decimals=2, family="volume")
_plausibility = partial(Metric, unit="%", decimals=1, family="plausibility", bounds=PERCENT)
_pair = partial(Metric, family="pair")
_chaos = partial(Metric, only_convention="chaos", needs_reference=True, source="Kavur et al. 2021")

_ENTRIES = (
    _overlap(
        "dice",
        "Dice",
        meaning="2·|P ∩ R| / (|P| + |R|), in voxels",
        source="Dice 1945",
        compute=lambda masks: masks.dice,
        summarised=True,
        on_card=True,
        shown_first=True,
        plotted_with="overlap",
        flags_outliers=True,
        dice_like=True,
    ),
    _overlap(
        "iou",
        "IoU",
        meaning="|P ∩ R| / |P ∪ R| = Dice / (2 − Dice)",
        source="Jaccard 1912",
        compute=lambda masks: masks.dice / (2 - masks.dice),
        same_as="dice",
    ),
    Metric(
        "surface_dice",
        "Surface Dice",
        "1",
        3,
        "surface",
        "higher",
        meaning="share of the border voxels of P and R that are within the tolerance of the other",
        source="Nikolov et al. 2018",
        compute=lambda masks: masks.distances.surface_dice(masks.options.tolerance_mm),
        bounds=SHARE,
        needs_reference=True,
        summarised=True,
        on_card=True,
        shown_first=True,
        plotted_with="overlap",
        dice_like=True,
        depends_on=("tolerance_mm", *SURFACE),
        convention="share of all border voxels within the tolerance of the other border",
        methods_sentence="The surface Dice is the share of all border voxels within"
        " {tolerance_mm:g} mm of the other border [surface_dice].",
    ),
    _distance(
        "hd",
        "HD",
        decimals=1,
        meaning="Hausdorff distance, the larger of max d(p, R) and max d(r, P)",
        source="Maier-Hein et al. 2024",
        compute=lambda masks: masks.distances.hausdorff_distance(),
        summarised=True,
        plotted_with="overlap",
        convention="larger of the two directed maxima",
        methods_sentence="HD is the larger of the two directed maxima.",
    ),
    _distance(
        "hd95",
        "HD95",
        decimals=1,
        meaning="the larger of the 95th percentiles of d(p, R) and of d(r, P)",
        source="Maier-Hein et al. 2024",
        compute=lambda masks: masks.distances.hausdorff_distance(percentile=95),
        summarised=True,
        on_card=True,
        shown_first=True,
        plotted_with="overlap",
        flags_outliers=True,
        convention="larger of the two directed 95th percentiles",
        methods_sentence="HD95 is the larger of the two directed 95th percentiles.",
    ),
    _distance(
        "asd",
        "ASD",
        decimals=2,
        meaning="average surface distance, the mean of d(p, R) and d(r, P) over all border voxels",
        source="Maier-Hein et al. 2024",
        compute=lambda masks: masks.distances.average_surface_distance(),
        summarised=True,
        shown_first=True,
        plotted_with="overlap",
        convention="mean over the border voxels of both masks together",
        methods_sentence="ASD is the mean distance over the border voxels of both masks together.",
    ),
    _distance(
        "masd",
        "MASD",
        decimals=2,
        meaning="the mean of both directions' mean distances",
        source="Maier-Hein et al. 2024",
        compute=lambda masks: masks.distances.mean_average_surface_distance(),
    ),
    _volume(
        "volume_prediction",
        "Volume, prediction",
        decimals=0,
        meaning="volume of P",
        compute=lambda masks: masks.prediction_ml,
        bounds=FROM_ZERO,
        always_measured=True,
    ),
    _volume(
        "volume_reference",
        "Volume, reference",
        decimals=0,
        meaning="volume of R",
        compute=lambda masks: masks.reference_ml,
        bounds=FROM_ZERO,
        always_measured=True,
        shown_first=True,
    ),
    _volume(
        "volume_difference",
        "Volume difference",
        decimals=1,
        better="nearer zero",
        meaning="volume of P minus that of R",
        compute=lambda masks: masks.prediction_ml - masks.reference_ml,
        summarised=True,
        shown_first=True,
        reference_line=0.0,
        convention="prediction minus reference",
    ),
    Metric(
        "relative_volume_difference",
        "Relative volume difference",
        "%",
        1,
        "volume",
        "nearer zero",
        meaning="100·(|P| − |R|) / |R|, in voxels",
        compute=lambda masks: relative_volume_difference(masks.prediction, masks.reference),
        bounds=(-100.0, math.inf),
        needs_reference=True,
        shown_first=True,
        plotted_with="volume",
        reference_line=0.0,
    ),
    _chaos(
        "chaos_dice",
        "DICE (CHAOS)",
        "1",
        3,
        "overlap",
        "higher",
        meaning="Dice as CHAOS calls it",
        compute=lambda masks: masks.dice,
        bounds=SHARE,
        dice_like=True,
        same_as="dice",
    ),
    _chaos(
        "chaos_ravd",
        "RAVD (CHAOS)",
        "%",
        2,
        "volume",
        "lower",
        meaning="the absolute value of the relative volume difference",
        compute=lambda masks: abs(relative_volume_difference(masks.prediction, masks.reference)),
        bounds=FROM_ZERO,
        same_as="relative_volume_difference",
    ),
    _chaos(
        "chaos_assd",
        "ASSD (CHAOS)",
        "mm",
        2,
        "surface",
        "lower",
        meaning="ASD, with the mask going on beyond the volume",
        compute=lambda masks: masks.distances.average_surface_distance(),
        bounds=FROM_ZERO,
        same_as="asd",
        depends_on=SURFACE,
    ),
    _chaos(
        "chaos_mssd",
        "MSSD (CHAOS)",
        "mm",
        1,
        "surface",
        "lower",
        meaning="HD, with the mask going on beyond the volume",
        compute=lambda masks: masks.distances.hausdorff_distance(),
        bounds=FROM_ZERO,
        same_as="hd",
        depends_on=SURFACE,
    ),
    _fat(
        "fat_mean_prediction",
        "Fat fraction, mean, prediction",
        decimals=1,
        meaning="mean of the fat fraction's image over P without its margin",
    ),
    _fat(
        "fat_mean_reference",
        "Fat fraction, mean, reference",
        decimals=1,
        meaning="mean of the fat fraction's image over R without its margin",
    ),
    _fat(
        "fat_mean_difference",
        "Fat fraction, mean, difference",
        decimals=2,
        better="nearer zero",
        meaning="the mean in P minus that in R",
        summarised=True,
        shown_first=True,
        reference_line=0.0,
    ),
    _fat(
        "fat_median_prediction",
        "Fat fraction, median, prediction",
        decimals=1,
        meaning="median of the fat fraction's image over P without its margin",
    ),
    _fat(
        "fat_median_reference",
        "Fat fraction, median, reference",
        decimals=1,
        meaning="median of the fat fraction's image over R without its margin",
    ),
    _fat(
        "fat_median_difference",
        "Fat fraction, median, difference",
        decimals=2,
        better="nearer zero",
        meaning="the median in P minus that in R",
    ),
    _lesion_count("lesions_prediction", "Lesions, prediction", meaning="number of lesions in P"),
    _lesion_count("lesions_reference", "Lesions, reference", meaning="number of lesions in R"),
    _lesion_count(
        "lesion_true_positives",
        "Lesions found",
        better="higher",
        meaning="TP, correspondences of lesions with a Dice above the threshold",
        source="Hänsch et al. 2022",
    ),
    _lesion_count(
        "lesion_false_positives",
        "False lesions",
        better="lower",
        meaning="FP, predicted lesions without a counterpart, and poor correspondences",
        source="Hänsch et al. 2022",
    ),
    _lesion_count(
        "lesion_false_negatives",
        "Lesions missed",
        better="lower",
        meaning="FN, reference lesions without a counterpart, and poor correspondences",
        source="Hänsch et al. 2022",
    ),
    _lesion_ratio("lesion_recall", "Lesion recall", meaning="TP / (TP + FN)"),
    _lesion_ratio("lesion_precision", "Lesion precision", meaning="TP / (TP + FP)"),
    _lesion_ratio(
        "lesion_f1",
        "Lesion F1",
        meaning="2·TP / (2·TP + FP + FN)",
        summarised=True,
        shown_first=True,
    ),
    _burden(
        "burden_prediction",
        "Tumour burden, prediction",
        meaning="share of the lesions of P in the organ of P with its lesions",
        bounds=PERCENT,
    ),
    _burden(
        "burden_reference",
        "Tumour burden, reference",
        meaning="share of the lesions of R in the organ of R with its lesions",
        bounds=PERCENT,
    ),
    _burden(
        "burden_difference",
        "Tumour burden, difference",
        better="nearer zero",
        meaning="the burden in P minus that in R",
        plotted_with="lesions",
        reference_line=0.0,
    ),
    Metric(
        "rater_dice",
        "Dice between raters",
        "1",
        3,
        "raters",
        meaning="mean Dice of each two raters",
        source="Hänsch et al. 2022",
        bounds=SHARE,
        needs_reference=True,
    ),
    Metric(
        "uncertainty_aware_score",
        "φ",
        "1",
        3,
        "raters",
        "higher",
        meaning="max(1 − 0.1·ε(P, raters) / ε(raters), 0), ε the mean of 1 − Dice",
        source="Hänsch et al. 2022",
        bounds=SHARE,
        needs_reference=True,
        summarised=True,
        shown_first=True,
        plotted_with="raters",
        reference_line=AS_GOOD_AS_A_RATER,
        reference_note=f"Dashed: {AS_GOOD_AS_A_RATER}, as good as a rater.",
    ),
    _plausibility(
        "pieces",
        "Pieces",
        unit="1",
        decimals=0,
        bounds=FROM_ZERO,
        meaning="number of 26-connected pieces of P",
    ),
    _plausibility(
        "share_outside_largest_piece",
        "Outside the largest piece",
        better="lower",
        meaning="share of P outside its largest piece",
    ),
    _plausibility(
        "share_on_the_left",
        "On the patient's left",
        meaning="share of P on the patient's left of the midline",
    ),
    _plausibility(
        "share_outside_the_body",
        "Outside the body",
        better="lower",
        meaning="share of P outside the body that the image shows",
    ),
    _pair(
        "relative_similarity_prediction",
        "Relative similarity, predictions",
        "1",
        3,
        better="higher",
        meaning="D_S of both predictions, their highest Dice after a transform of the first",
        source='Couteaux et al. 2021, "Cooperating networks"',
        bounds=SHARE,
        summarised=True,
        shown_first=True,
        dice_like=True,
        comparison_title="Relative similarity",
        depends_on=SIMILARITY,
    ),
    _pair(
        "relative_similarity_reference",
        "Relative similarity, references",
        "1",
        3,
        meaning="D_S of both references",
        source='Couteaux et al. 2021, "Cooperating networks"',
        bounds=SHARE,
        shown_first=True,
        depends_on=SIMILARITY,
    ),
    _pair(
        "relative_similarity_gain",
        "Relative similarity, difference",
        "1",
        3,
        better="higher",
        meaning="D_S of the predictions minus that of the references",
        dice_like=True,
        same_as="relative_similarity_prediction",
        depends_on=SIMILARITY,
    ),
    _pair(
        "pair_dice_prediction",
        "Dice of the pair as it lies, predictions",
        "1",
        3,
        meaning="Dice of both predictions as they lie, without any registration",
        source='Couteaux et al. 2021, "Cooperating networks"',
        bounds=SHARE,
        shown_first=True,
    ),
    _pair(
        "pair_dice_reference",
        "Dice of the pair as it lies, references",
        "1",
        3,
        meaning="Dice of both references as they lie: how far the organ has moved",
        source='Couteaux et al. 2021, "Cooperating networks"',
        bounds=SHARE,
        shown_first=True,
    ),
    _pair(
        "warped_dice",
        "Dice of the first, warped, with the second reference",
        "1",
        3,
        better="higher",
        meaning="Dice of the first prediction after D_S's transform of the predictions, and the"
        " second reference",
        source='Couteaux et al. 2021, "Cooperating networks"',
        bounds=SHARE,
        shown_first=True,
        dice_like=True,
        comparison_title="Dice of the warped mask",
        depends_on=SIMILARITY,
    ),
    _pair(
        "registered_dice",
        "Dice of the first, registered, with the second reference",
        "1",
        3,
        better="higher",
        meaning="Dice of the first prediction as `predict --deformation` has moved it, and the"
        " second reference",
        source='Couteaux et al. 2021, "Cooperating networks"',
        bounds=SHARE,
        shown_first=True,
        dice_like=True,
        comparison_title="Dice of the registered mask",
    ),
    _pair(
        "pair_volume_difference_prediction",
        "Volume, first minus second image, predictions",
        "ml",
        1,
        better="nearer zero",
        meaning="volume of the first image's prediction minus that of the second's",
        shown_first=True,
        comparison_title="|Volume difference of the pair|",
    ),
    _pair(
        "pair_volume_difference_reference",
        "Volume, first minus second image, references",
        "ml",
        1,
        meaning="volume of the first image's reference minus that of the second's",
        shown_first=True,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}
"""Every metric by its name."""


def pair_metrics() -> dict[str, Metric]:
    """The metrics of both masks of a pair, by name."""
    return {metric.name: metric for metric in METRICS.values() if metric.family == "pair"}


def computed_metrics(options: Options = Options()) -> dict[str, Metric]:
    """The metrics that `measure` gives with these options, by name."""
    return {metric.name: metric for metric in METRICS.values() if metric.is_computed(options)}


def measure(
    pred: np.ndarray,
    ref: np.ndarray,
    spacing_mm: tuple[float, float, float],
    options: Options = Options(),
) -> dict[str, float]:
    """Computes all metrics of one prediction and its reference, by name.

    Args:
        pred: mask, bool (z, y, x).
        ref: mask of the same shape.
        spacing_mm: distance of neighbouring voxels (z, y, x).
        options: tolerance, convention, and what is measured.

    Returns:
        One value for each of `computed_metrics`. Differences are prediction minus reference. Empty
        masks as in `metrics`.

    Raises:
        InputError: the arrays are no two masks of one shape, or the spacing is not three positive
            numbers.
    """
    masks = MatchedMasks(pred, ref, spacing_mm, options)
    return {
        name: metric.compute(masks)
        for name, metric in computed_metrics(options).items()
        if metric.compute is not None
    }
