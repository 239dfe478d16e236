"""What nnU-Net's trainer search finds in this folder: every trainer class of nnunet_liver_ext, and
nothing else."""

from nnunet_liver_ext.trainers import *  # noqa: F403
