"""Every trainer by its name; what nnU-Net finds through `plugin/`.

All classes nnUNetTrainer... of the modules in `named/` are here.
"""

from nnunet_liver_ext.trainers.named.cooperating_networks import *  # noqa: F403
from nnunet_liver_ext.trainers.named.input_strategies import *  # noqa: F403
from nnunet_liver_ext.trainers.named.losses import *  # noqa: F403
from nnunet_liver_ext.trainers.named.single_images import *  # noqa: F403

__all__ = sorted(name for name in globals() if name.startswith("nnUNetTrainer"))
