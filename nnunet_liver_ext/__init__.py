"""Liver segmentation in paired but unregistered T1/T2 MRI, as an extension of nnU-Net v2. Research
use only."""

__version__ = "0.1.0"
