"""Architectures for plans files, strategies for pairs, and the objectives' companions."""

from nnunet_liver_ext.networks.anisotropic_unet import AnisotropicUNet
from nnunet_liver_ext.networks.di2in import DI2IN
from nnunet_liver_ext.networks.models_genesis_unet import ModelsGenesisUNet
from nnunet_liver_ext.networks.network import SegmentationNetwork
from nnunet_liver_ext.networks.slice_unet import SliceUNet

__all__ = ["DI2IN", "AnisotropicUNet", "ModelsGenesisUNet", "SegmentationNetwork", "SliceUNet"]
