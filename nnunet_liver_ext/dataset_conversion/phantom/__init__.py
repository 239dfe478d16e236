"""The phantom: paired, unregistered T1/T2 MRI of the abdomen, from a seed or from one real image.

`make_pair`, `pair_from_image` and `make_image` give images in memory, `write_studies` and
`write_image_studies` give files. What is simulated and what is not: docs/phantom.md.
"""

from nnunet_liver_ext.dataset_conversion.phantom.breathing import Motion, jacobian_determinant
from nnunet_liver_ext.dataset_conversion.phantom.pair import PhantomPair, make_pair
from nnunet_liver_ext.dataset_conversion.phantom.scan_protocols import Difficulty
from nnunet_liver_ext.dataset_conversion.phantom.semisynthetic import pair_from_image
from nnunet_liver_ext.dataset_conversion.phantom.single_image import PhantomImage, make_image
from nnunet_liver_ext.dataset_conversion.phantom.write_image_studies import write_image_studies
from nnunet_liver_ext.dataset_conversion.phantom.write_pair_studies import write_studies

__all__ = [
    "Difficulty",
    "Motion",
    "PhantomImage",
    "PhantomPair",
    "jacobian_determinant",
    "make_image",
    "make_pair",
    "pair_from_image",
    "write_image_studies",
    "write_studies",
]
