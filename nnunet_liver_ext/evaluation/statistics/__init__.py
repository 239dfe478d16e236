"""Statistics of paired results: tests, effects, intervals, rankings."""

from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired

__all__ = ["compare_paired"]
