"""What nnU-Net's trainer search finds in this folder: the trainers of nnunet_liver_ext alone."""

from nnunet_liver_ext.trainers import *  # noqa: F403
