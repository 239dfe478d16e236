"""A public dataset: what it holds, its layout on disk, its licence, and how it becomes studies.

Every dataset is one module in `datasets/` with a constant `PublicDataset`; commands, help and the
table in the docs come from these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nnunet_liver_ext.errors import InputError

if TYPE_CHECKING:
    from nnunet_liver_ext.dataset_conversion.image_reader import ImageReader
    from nnunet_liver_ext.studies.study import Study


@dataclass(frozen=True, kw_only=True)
class SegmentationTask:
    """What is segmented in a dataset: classes, by the values they have in its masks."""

    labels: Mapping[str, tuple[int, ...]]
    """Values in the masks of each foreground class, in the order of the classes 1, 2, ...:
    {"liver": (1, 2)}."""
    ignored_labels: tuple[int, ...] | Literal["all"] = ()
    """Values that are background here; "all" that belong to no class."""
    organ: tuple[int, ...] | None = None
    """Values of the same masks that make up the liver, a channel for the loader only: (1, 2) for
    the tumours of LiTS. Empty if the liver has a mask file of its own, `Study.masks["liver"]`."""


@dataclass(frozen=True, kw_only=True)
class DatasetOption:
    """An option of a dataset's command: `phase` is given as --phase, `studies` gets phase=..."""

    name: str
    """Words joined by "-"; `studies` gets it with "_"."""
    help: str
    default: Any = None
    type: type = str
    """str, int, float, bool or Path."""
    choices: tuple[str, ...] = ()
    multiple: bool = False
    """May be repeated; `studies` gets a tuple, () if it is not given."""
    metavar: str | None = None

    @property
    def argument(self) -> str:
        """Its name as a keyword argument."""
        return self.name.replace("-", "_")


TEST_IMAGES = DatasetOption(
    name="test-images",
    help="Take images that have no masks (the challenge's test set) too, into imagesTs.",
    default=False,
    type=bool,
)
"""The option of any dataset with such images."""


def make_plain_reader() -> ImageReader:
    """Files and DICOM folders as they are."""
    from nnunet_liver_ext.dataset_conversion.image_reader import PlainReader

    return PlainReader()


@dataclass(frozen=True, kw_only=True)
class PublicDataset:
    """One public dataset and how to convert it."""

    key: str
    """Name of its command: "lits"."""
    title: str
    content: str
    """One line: "131 CT volumes with liver and tumours"."""
    expects: str
    """What must lie on disk, one line."""
    licence: str
    citation: str
    url: str
    modalities: tuple[str, ...]
    """The two images of a pair, ("T1", "T2"); else the channels of one image: ("CT",), ("water",
    "fat")."""
    pairs: bool = False
    """Two images with a mask each, not registered."""
    tasks: Mapping[str, SegmentationTask]
    """Tasks by name; the first is the default."""
    studies: Callable[..., list[Study]]
    """studies(root, **options): all studies below a folder."""
    reader: Callable[[], ImageReader] = make_plain_reader
    options: tuple[DatasetOption, ...] = ()
    dataset_name: str = ""
    """Default of --name; the title's letters and digits if empty."""
    adapt: Callable[[PublicDataset, Mapping[str, Any]], PublicDataset] | None = None
    """The entry for given options and "task", where they change modalities, tasks or reader."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """What options tell the reader (JSON), by the name of the option: the same whenever a dataset
    is continued. What options do to studies, modalities or labels need not be here, it shows
    there."""
    remark: str = ""
    """What dataset.json says besides."""

    @property
    def is_public(self) -> bool:
        """Whether it can be fetched somewhere; else it is a layout of the user's own data."""
        return self.url.startswith(("https://", "http://"))

    @property
    def notes(self) -> dict[str, str]:
        """What dataset.json says of the source."""
        source = {"licence": self.licence, "reference": self.citation, "release": self.url}
        remark = {"remark": self.remark} if self.remark else {}
        return {"name": self.title, **(source if self.is_public else {}), **remark}

    def task(self, name: str | None = None) -> SegmentationTask:
        """The task of this name, or the default one.

        Raises:
            InputError: the dataset has no such task.
        """
        name = name or next(iter(self.tasks))
        if name not in self.tasks:
            raise InputError(f"--task {name}: {self.title} has {', '.join(self.tasks)}.")
        return self.tasks[name]

    def settings(self, task: str | None = None) -> dict[str, Any]:
        """What `ConversionSettings` take from this entry, for a task or the default one.

        Raises:
            InputError: the dataset has no such task.
        """
        chosen = self.task(task)
        return {
            "pairs": self.pairs,
            "modalities": self.modalities,
            "labels": chosen.labels,
            "ignored_labels": chosen.ignored_labels,
            "organ": chosen.organ,
            "task": task or next(iter(self.tasks)),
            "dataset": self.key,
            "reading": self.reading,
        }

    @property
    def default_options(self) -> dict[str, Any]:
        """What options are that are not given, as keyword arguments."""
        return {
            option.argument: () if option.multiple else option.default for option in self.options
        }

    def adapt_to(self, options: Mapping[str, Any] | None = None) -> PublicDataset:
        """This dataset for some options, "task" among them; its `find` takes the same options."""
        return (
            self
            if self.adapt is None
            else self.adapt(self, {"task": None, **self.default_options, **(options or {})})
        )

    def find(self, root: Path, options: Mapping[str, Any] | None = None) -> list[Study]:
        """All studies below a folder; options that are not given have their defaults."""
        return self.studies(Path(root), **{**self.default_options, **(options or {})})
