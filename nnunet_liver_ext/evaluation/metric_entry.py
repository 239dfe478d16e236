"""The fields of an entry in the catalogue of metrics: all that the package asks of a metric.

Tables, plots, report, flags, statistics and documentation read these fields; none of them has a
list of metrics of its own. So a metric is added by one entry in `metric_catalogue`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nnunet_liver_ext.evaluation.matched_masks import MatchedMasks
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.surface import Convention

Family = Literal[
    "overlap", "surface", "volume", "fat", "detection", "raters", "pair", "plausibility"
]
"""The kind of a metric; p values are corrected for the number of tests within one (Hänsch et al.
2022, section 3.5)."""
Better = Literal["higher", "lower", "nearer zero"]
PlotTopic = Literal["overlap", "volume", "lesions", "raters"]
DICE_REPEATABILITY = 0.005
"""Mean difference in Dice between repeated trainings (Couteaux et al. 2021, "Comparing deep
learning strategies", section 4); smaller ones are not "considered meaningful"."""


@dataclass(frozen=True)
class Metric:
    """One kind of value in the results."""

    name: str
    """What the tables call it."""
    title: str
    """What a reader is told."""
    unit: str
    """ "1" is a plain number."""
    decimals: int
    family: Family
    better: Better | None = None
    """None: neither a higher nor a lower value is better, so models are not compared by it."""
    meaning: str = ""
    """Its definition for docs/metrics.md; P is the prediction and R the reference."""
    source: str = ""
    """Whom to cite for it."""

    compute: Callable[[MatchedMasks], float] | None = None
    """Its value for one prediction and its reference; None for what `measuring` finds together with
    other values (lesions, fat, raters, pairs, plausibility)."""
    only_convention: Convention | None = None
    """It is computed with this convention only."""

    bounds: tuple[float, float] = (-math.inf, math.inf)
    """No value is lower or higher; nan and an infinite value for an empty mask aside."""
    always_measured: bool = False
    """It is measured whatever an evaluation is restricted to."""
    needs_reference: bool = False
    """Where the reference lacks the object its value is a convention (Dice 1 or 0) and no
    measurement: by default such a case is in no mean, see `absent_objects`."""
    summarised: bool = False
    """It is in the summary on the terminal and in summary.tex."""
    on_card: bool = False
    """Its mean is on the report's card of each modality and class."""
    shown_first: bool = False
    """The report's table of cases shows it before the reader has chosen columns."""
    plotted_with: PlotTopic | None = None
    """The report of an evaluation has its box plot among those of this topic."""
    whole_axis: bool = False
    """Its axis goes from bound to bound, whatever the values are."""
    reference_line: float | None = None
    """A value that means something, dashed in its plot."""
    reference_note: str = ""
    """What it means, for the caption of the plot."""
    methods_sentence: str = ""
    """What the report's paragraph on methods says of it, with options in braces
    ("{tolerance_mm:g}") and citations by their names in brackets."""
    flags_outliers: bool = False
    """The report flags the cases in which it is far from the others."""

    dice_like: bool = False
    """An overlap between 0 and 1, to which the repeatability of the Dice applies."""
    same_as: str = ""
    """The metric that this is in another form. Models are then compared by it only if it is asked
    for by name: testing one thing twice makes a family larger and says nothing new."""
    comparison_title: str = ""
    """Its title beside other models; by default `title`, as |title| where |value| is compared."""
    depends_on: tuple[str, ...] = ()
    """Entries of results.json, such as "options.convention", that must be equal before results are
    compared."""
    convention: str = ""
    """How it is defined where definitions differ. It stands in results.json, and results with
    another one are not compared: change the text only with the definition."""

    def format(self, value: float) -> str:
        """The value for a reader, without its unit."""
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.{self.decimals}f}".replace("-", "−")

    @property
    def heading(self) -> str:
        """Title and unit, such as "HD95 [mm]"."""
        return self.title + self._unit_in_brackets

    def is_computed(self, options: Options) -> bool:
        """Whether `compute` is there and these options want its value."""
        return (
            self.compute is not None
            and self.only_convention in (None, options.convention)
            and (self.always_measured or options.wants(self.family))
        )

    @property
    def is_comparable(self) -> bool:
        """Whether models can be compared by it."""
        return self.better is not None

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better; where zero is best, less of the absolute value is."""
        return self.better == "higher"

    @property
    def compared_as_absolute(self) -> bool:
        """Whether |value| is compared, as the metric is best at zero."""
        return self.better == "nearer zero"

    @property
    def compared_title(self) -> str:
        """Its title in a comparison of models."""
        return self.comparison_title or (
            f"|{self.title}|" if self.compared_as_absolute else self.title
        )

    @property
    def compared_heading(self) -> str:
        """`compared_title` and unit."""
        return self.compared_title + self._unit_in_brackets

    @property
    def compared_decimals(self) -> int:
        """Decimals of a difference between two models: at least two for counts and mm."""
        few = self.unit == "mm" or not self.decimals
        return max(self.decimals, 2) if few else self.decimals

    @property
    def smallest_difference(self) -> float:
        """The default below which two values count as equal; 0 counts any difference."""
        return DICE_REPEATABILITY if self.dice_like else 0.0

    @property
    def _unit_in_brackets(self) -> str:
        return f" [{self.unit}]" if self.unit != "1" else ""
