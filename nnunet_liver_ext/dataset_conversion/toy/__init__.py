"""The toy: pairs of textured images whose masks are random blobs, equal but for a shift.

The masks may differ a little more.

`make_pair` gives a pair in memory, `write_toy_dataset` an nnU-Net raw dataset. What is simulated,
and how hard it is: docs/toy.md.
"""

from nnunet_liver_ext.dataset_conversion.toy.pair import ToyPair, make_pair, scaled_max_shift
from nnunet_liver_ext.dataset_conversion.toy.toy_dataset import write_toy_dataset

__all__ = ["ToyPair", "make_pair", "scaled_max_shift", "write_toy_dataset"]
