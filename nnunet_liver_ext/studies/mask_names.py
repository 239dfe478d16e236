"""The one rule for what is a mask's name, of a file or of a CSV's column.

A mask is called as its image, with a word for masks behind it (anna_T1_mask, anna.seg, anna-label),
or before the name of the modality (anna_mask_T1, mask_T1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WORDS = ("mask", "masks", "msk", "seg", "segmentation", "label", "labels", "labelmap")
_WORDS = rf"(?:(?:^|[_.-]+)(?:{'|'.join(WORDS)}))+"
_LAST = re.compile(rf"(?P<image>.*?){_WORDS}", re.IGNORECASE)
_LIKE = re.compile(
    r"mask|segm|label|annot|contour|ground.?truth|(msk|seg)(?![a-z])|(?<![a-z])gt(?![a-z])",
    re.IGNORECASE,
)


def image_of_mask(name: str, modalities: Sequence[str] = ()) -> str | None:
    """The name of the image whose mask a name says it is, "anna_T1" for "anna_T1_mask".

    Args:
        name: without file ending.
        modalities: names of images that may stand behind the word for masks.

    Returns:
        "" if it says that it is a mask and nothing else; None if it is no mask's name.
    """
    if match := _LAST.fullmatch(name):
        return match["image"]
    endings = "|".join(map(re.escape, modalities))
    before = rf"(?P<image>.*?){_WORDS}[_.-](?P<modality>{endings})"
    if modalities and (match := re.fullmatch(before, name, re.IGNORECASE)):
        return "_".join(part for part in match.groups() if part)
    return None


def looks_like_mask(name: str) -> bool:
    """Whether a name has anything in it that masks are called by: "annaMask", "gt_3", too."""
    return _LIKE.search(name) is not None
