"""Which cases of a split a strategy can be trained on: incomplete pairs are of no use to some."""

from __future__ import annotations

from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.strategies import STRATEGIES

Split = tuple[list[str], list[str]]
"""Training and validation cases."""


def find_usable_cases(
    split: Split, incomplete: IncompleteCases, strategy: str, trainer: str, fold: int | str
) -> tuple[Split, str]:
    """The cases of a split that a strategy can use, and a line for the log if it leaves some out.

    Args:
        split: nnU-Net's.
        incomplete: the pairs that lack an image or a mask.
        strategy: key of `STRATEGIES`; one that takes lone images can use all cases.
        trainer: its name, for messages.
        fold: the split's, for messages.

    Raises:
        InputError: no training or no validation case is left.
    """
    training, validation = (list(cases) for cases in split)
    if not incomplete or STRATEGIES[strategy].takes_lone_images:
        return (training, validation), ""
    usable = incomplete.complete_cases(training), incomplete.complete_cases(validation)
    for cases, what in zip(usable, ("training", "validation"), strict=True):
        if not cases:
            raise InputError(
                f"{trainer} needs both images and both masks, which no {what} case of fold {fold}"
                " has."
            )
    left_out = len(training) - len(usable[0]), len(validation) - len(usable[1])
    if not any(left_out):
        return usable, ""
    return usable, (
        f"Incomplete pairs are left out, because {trainer} needs both images and both masks:"
        f" {left_out[0]} of {len(training)} training cases, {left_out[1]} of {len(validation)}"
        " validation cases."
    )
