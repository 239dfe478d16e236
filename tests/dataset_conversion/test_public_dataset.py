"""What holds for every public dataset of the catalogue."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nnunet_liver_ext import cli
from nnunet_liver_ext.commands.convert.public_datasets import name_of
from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.datasets import DATASETS, ENTRIES, read_content
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.errors import InputError

EXAMPLE = PublicDataset(
    key="example",
    title="Example",
    content="nothing",
    expects="<id>/nothing",
    licence="CC0",
    citation="Nobody",
    url="https://example.org",
    modalities=("MR",),
    tasks={
        "liver": SegmentationTask(labels={"liver": (1, 2)}),
        "tumour": SegmentationTask(labels={"tumour": (2,)}, organ=(1, 2)),
    },
    studies=lambda root, **options: [root, options],  # type: ignore[arg-type,return-value]
    options=(
        DatasetOption(name="with-rest", help="More.", default=3, type=int),
        DatasetOption(name="part", help="Some.", multiple=True),
    ),
)


@pytest.mark.parametrize("key", list(ENTRIES))
def test_every_dataset_says_what_it_is(key: str):
    entry = DATASETS[key]
    assert entry.key == key
    assert read_content(key) == entry.content
    assert all([entry.title, entry.content, entry.expects, entry.licence, entry.citation])
    assert entry.is_public or entry.licence == "your own data"
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name_of(entry))
    assert ("licence" in entry.notes) == entry.is_public
    assert len({option.name for option in entry.options}) == len(entry.options)


@pytest.mark.parametrize("key", list(ENTRIES))
def test_every_task_makes_settings(key: str):
    entry = DATASETS[key]
    for name, task in entry.tasks.items():
        settings = ConversionSettings(**entry.settings(name))
        assert (settings.labels, settings.organ, settings.task, settings.dataset) == (
            task.labels,
            task.organ,
            name,
            key,
        )
        assert settings.layout == ("pairs" if entry.pairs else "images")
        assert settings.dataset_json(0)["channel_names"]["0"] == entry.modalities[0]


@pytest.mark.parametrize("key", list(ENTRIES))
def test_every_dataset_has_a_command_with_its_options(key: str):
    entry = DATASETS[key]
    result = CliRunner().invoke(cli.app, ["convert", key, "--help"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    words = result.output.split()
    for option in (
        "task",
        "spacing",
        "hold-out",
        "add",
        "intensities",
        *(option.name for option in entry.options),
    ):
        assert f"--{option}" in words
    assert ("--preregister" in words) == entry.pairs
    assert not entry.is_public or entry.licence in " ".join(words)


@pytest.mark.parametrize("key", list(ENTRIES))
def test_a_folder_without_the_dataset_is_one_sentence(key: str, tmp_path: Path):
    with pytest.raises(InputError, match=re.escape(str(tmp_path))) as error:
        DATASETS[key].adapt_to().find(tmp_path)
    assert "\n" not in str(error.value)


def test_the_datasets_are_sorted_and_each_module_is_one():
    assert list(DATASETS) == list(ENTRIES) == sorted(ENTRIES)
    assert len(DATASETS) == len(ENTRIES)


def test_the_list_of_commands_imports_neither_simpleitk_nor_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom nnunet_liver_ext import cli\nshown ="
        " CliRunner().invoke(cli.app, ['convert', '--help'], env={'COLUMNS':"
        " '200'}).output\nprint('chaos-mr' in shown, [name for name in 'torch SimpleITK numpy"
        " pandas'.split() if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "True []"


def test_list_shows_all_datasets():
    result = CliRunner().invoke(cli.app, ["convert", "--list"], env={"COLUMNS": "250"})
    assert result.exit_code == 0
    assert all(
        key in result.output and DATASETS[key].licence.split()[0] in result.output
        for key in ENTRIES
    )


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(InputError, match=r"--task vessels: Example has liver, tumour"):
        EXAMPLE.task("vessels")
    assert EXAMPLE.task() is EXAMPLE.tasks["liver"]
    assert EXAMPLE.task("tumour").organ == (1, 2)


def test_options_have_their_defaults_unless_given(tmp_path: Path):
    assert EXAMPLE.find(tmp_path) == [tmp_path, {"with_rest": 3, "part": ()}]
    assert EXAMPLE.find(tmp_path, {"part": ("a",)}) == [tmp_path, {"with_rest": 3, "part": ("a",)}]


def test_an_entry_can_depend_on_its_options():
    both = replace(
        EXAMPLE,
        adapt=lambda entry, options: replace(
            entry, modalities=options["part"] or (options["task"],)
        ),
    )
    assert both.adapt_to({"part": ("water", "fat")}).modalities == ("water", "fat")
    assert both.adapt_to({"task": "liver"}).modalities == ("liver",)
    assert EXAMPLE.adapt_to({"part": ("water",)}) is EXAMPLE
