"""The names of `import nnunet_liver_ext as nle`: lazy, typed, and with examples that run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_liver_ext as nle

PACKAGE = Path(nle.__file__).parent
HEAVY = ("numpy", "torch", "pandas", "scipy", "SimpleITK", "matplotlib", "nnunetv2")
ASKED_FOR = {
    *("dice", "hausdorff_distance", "surface_dice", "average_surface_distance", "volume_ml"),
    *("relative_similarity", "match_lesions", "detection_scores", "uncertainty_aware_score"),
    *("compare_paired", "encode_pair", "decode_pair", "make_pair"),
    *("load_model", "predict_study", "evaluate"),
}
DESIGN_NAMES = {
    "pairing": ("encode_pair", "decode_pair", "join_logits", "split_logits"),
    "evaluation.metrics": (
        *("dice", "hausdorff_distance", "average_surface_distance", "surface_dice", "volume_ml"),
    ),
    "evaluation.similarity": ("relative_similarity",),
    "evaluation.lesions": ("match_lesions", "detection_scores"),
    "evaluation.raters": ("uncertainty_aware_score",),
    "evaluation.agreement": ("limits_of_agreement",),
    "evaluation.statistics": ("compare_paired",),
    "dataset_conversion.phantom": ("make_pair",),
    "dataset_conversion.toy": ("make_pair",),
    "networks": ("AnisotropicUNet", "DI2IN", "SliceUNet", "ModelsGenesisUNet"),
}


def test_the_import_loads_no_other_module_of_the_package_and_no_library():
    code = "import sys, nnunet_liver_ext; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    ).stdout.split()
    assert [name for name in loaded if name.startswith("nnunet_liver_ext")] == ["nnunet_liver_ext"]
    assert not set(HEAVY) & set(loaded)


def test_a_metric_loads_neither_torch_nor_pandas():
    code = "import sys, nnunet_liver_ext as nle; nle.dice; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    ).stdout.split()
    assert not {"torch", "pandas", "nnunetv2"} & set(loaded)


def test_every_name_that_was_asked_for_is_there():
    assert set(nle.__all__) == ASKED_FOR
    assert sorted(nle.__all__) == nle.__all__
    assert set(nle.__all__) <= set(dir(nle))


@pytest.mark.parametrize("name", nle.__all__)
def test_a_public_name_is_the_one_of_its_module_and_stays(name: str):
    value = getattr(nle, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert vars(nle)[name] is value  # found directly from now on


def test_type_checkers_see_the_same_names_from_the_same_modules():
    seen = {
        (node.module.removeprefix("nnunet_liver_ext."), alias.name)
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nnunet_liver_ext")
        for alias in node.names
    }
    assert seen == {(module, name) for module, names in nle._MODULES.items() for name in names}
    assert {name for _, name in seen} == set(nle.__all__)
    assert (PACKAGE / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'nnunet_liver_ext' has no attribute 'dize'"):
        nle.dize  # noqa: B018


@pytest.mark.parametrize("name", nle.__all__)
def test_a_public_name_is_documented_and_typed(name: str):
    function = getattr(nle, name)
    summary = inspect.getdoc(function).partition("\n")[0]
    assert summary.endswith((".", ":"))
    assert "Example:" in inspect.getdoc(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of pairs, as nnU-Net lays it out."""
    saved = Path(__file__).parent / "trainers" / "version_0_1_0"
    name = "nnUNetTrainerSingleInput__nnUNetPlans__3d_fullres"
    folder = tmp_path_factory.mktemp("models") / name
    (folder / "fold_0").mkdir(parents=True)
    for file in ("plans.json", "dataset.json"):
        shutil.copy(saved / file, folder)
    shutil.copy(saved / "checkpoint.pth", folder / "fold_0" / "checkpoint_final.pth")
    return folder


@pytest.mark.parametrize("name", nle.__all__)
def test_the_example_of_a_public_name_runs(name: str, model_folder: Path):
    function = getattr(nle, name)
    names = {"model_folder": model_folder}
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=names)
    assert "+SKIP" not in example.docstring
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.tries > 1
    assert runner.failures == 0


@pytest.mark.parametrize("module", DESIGN_NAMES)
def test_names_that_users_rely_on_stay_importable_from_where_they_are(module: str):
    home = importlib.import_module(f"nnunet_liver_ext.{module}")
    assert all(callable(getattr(home, name)) for name in DESIGN_NAMES[module])
