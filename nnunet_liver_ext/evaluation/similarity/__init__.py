"""Relative similarity D_S: how alike two masks are after the best transform of a class."""

from nnunet_liver_ext.evaluation.similarity.relative import RelativeSimilarity, relative_similarity

__all__ = ["RelativeSimilarity", "relative_similarity"]
