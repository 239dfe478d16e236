"""Made-up studies and nnU-Net's folder of raw datasets."""

from tests.dataset_conversion.conftest import make_study, raw

__all__ = ["make_study", "raw"]
