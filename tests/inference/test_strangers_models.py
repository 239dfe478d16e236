"""Models of people whom one does not know: nothing of theirs is run unless they are trusted."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference import model_zip
from nnunet_liver_ext.inference.load_model import load_model, unpacked_model
from tests.strangers_files import loading_all_runs_it, make_hostile
from tests.trained_models import write_study
from tests.training import make_trainer, run_epochs


@pytest.fixture
def model(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    copy = tmp_path / "nnUNetTrainerDualInput__nnUNetPlans__3d_fullres"
    return shutil.copytree(model_folders["nnUNetTrainerDualInput"], copy)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """A file that nobody may write."""
    return tmp_path / "was_run"


@pytest.fixture
def hostile(model: Path, proof: Path) -> Path:
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    make_hostile(checkpoint, proof)
    assert loading_all_runs_it(checkpoint, proof)
    return model


def load(path: Path, **options: Any) -> Any:
    return load_model(path, device="cpu", mirroring=False, **options)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def packed(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


def test_a_model_that_would_run_code_is_refused_and_named(hostile: Path, proof: Path):
    for path in (hostile, packed(hostile)):
        message = refusal(path)
        assert "checkpoint_final.pth: holds shutil.copyfile beside tensors and numbers" in message
        assert "if you trust its author, read it with --trust" in message
        assert not proof.exists()


def test_a_trusted_model_is_loaded(hostile: Path, proof: Path):
    assert load(hostile, trust=True).modalities == ("T1", "T2")
    assert proof.exists()


@pytest.mark.parametrize("command", ["predict", "mismatch"])
def test_the_commands_refuse_it_and_trust_if_they_are_told(
    command: str, hostile: Path, proof: Path, tmp_path: Path, monkeypatch
):
    write_study(tmp_path / "studies", "case")
    studies = ["-i", str(tmp_path / "studies"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    model = ["-m", str(hostile)] if command == "predict" else [str(hostile)]
    result = CliRunner().invoke(app, [command, *model, *studies])
    assert isinstance(result.exception, InputError)
    assert "holds shutil.copyfile beside tensors and numbers" in str(result.exception)
    assert not proof.exists()
    CliRunner().invoke(app, [command, *model, *studies, "--trust"])
    assert proof.exists()
    proof.unlink()
    monkeypatch.setenv("NNUNET_LIVER_TRUST", "1")
    CliRunner().invoke(app, [command, *model, *studies])
    assert proof.exists()


@pytest.mark.parametrize("variable", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "nothing"])
def test_nnunets_own_loader_meets_no_pickle_that_could_run(
    variable: str, hostile: Path, proof: Path, monkeypatch
):
    """Also if nobody had looked at the file before."""
    from nnunet_liver_ext.inference import load_model as module

    monkeypatch.setattr(module, "_check_harmless", lambda *_: None)
    monkeypatch.setenv(variable, "1")
    assert "the model cannot be loaded" in refusal(hostile)
    assert not proof.exists()


def test_a_registor_is_read_as_safely(nnunet_root: Path, tmp_path: Path, proof: Path):
    from nnunet_liver_ext.inference.registors import load_registor

    numbers = {"num_epochs": 1, "num_iterations_per_epoch": 1}
    trainer = make_trainer(
        nnunet_root, tmp_path, "nnUNetTrainerSimilarityTranslation", **numbers, warmup_epochs=0
    )
    run_epochs(trainer, 1, end=True)
    folder = Path(trainer.output_folder_base)
    cpu, name = torch.device("cpu"), "checkpoint_final.pth"
    assert load_registor(folder, "0", name, cpu).describe().startswith("translation")
    make_hostile(folder / "fold_0" / name, proof)
    with pytest.raises(InputError, match=r"holds shutil\.copyfile beside tensors and numbers"):
        load_registor(folder, "0", name, cpu)
    assert not proof.exists()


def with_classes(model: Path, **names: Any) -> Path:
    path = model / "plans.json"
    plans = json.loads(path.read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    if "network_class_name" in names:
        architecture["network_class_name"] = names.pop("network_class_name")
    architecture["arch_kwargs"] |= names
    path.write_text(json.dumps(plans))
    return model


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("network_class_name", "os.system"),
        ("nonlin", "subprocess.Popen"),
        ("nonlin", "torch.nn.modules.module.torch.hub.load"),  # leads out of torch.nn
        ("conv_op", "torch.nnx.Conv3d"),
        ("norm_op", "torch.nn.functional.relu"),  # no layer
        ("norm_op", "tests.strangers_files.RunsWhenUnpickled"),
        ("nonlin", 3),
    ],
)
def test_classes_that_plans_may_not_name(key: str, name: Any, model: Path):
    message = refusal(with_classes(model, **{key: name}))
    assert message.startswith(
        f"{model / 'plans.json'}: {key} of configuration 3d_fullres is {name}"
    )
    assert "if you trust its author, read it with --trust" in message


def test_classes_of_a_module_that_writes_a_file_are_not_imported(
    model: Path, proof: Path, tmp_path: Path, monkeypatch
):
    source = f"open({str(proof)!r}, 'w').close()\nfrom torch.nn import LeakyReLU as Own\n"
    (tmp_path / "stranger.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with_classes(model, nonlin="stranger.Own")
    refusal(model)
    assert not proof.exists()
    assert load(model, trust=True).modalities == ("T1", "T2")
    assert proof.exists()


@pytest.mark.filterwarnings("ignore:Network class")
def test_classes_that_have_moved_are_found_as_nnunet_finds_them(model: Path):
    """nnU-Net's own conversion of early plans names this module, which is no more."""
    moved = "dynamic_network_architectures.architectures.an_old_place.PlainConvUNet"
    assert load(with_classes(model, network_class_name=moved)).modalities == ("T1", "T2")


def test_plans_that_are_none(model: Path):
    (model / "plans.json").write_text('{"configurations": {"3d_fullres": 3}}')
    assert "is no complete plans file of nnU-Net" in refusal(model)


def test_models_of_stock_nnunet_load(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainer")
    trainer.num_epochs = trainer.num_iterations_per_epoch = 1
    trainer.num_val_iterations_per_epoch = 1
    run_epochs(trainer, 1, end=True)
    folder = Path(trainer.output_folder_base)
    content = json.loads((folder / "dataset.json").read_text())
    del content["pair"]
    content["conversion"] = {"spacing": [1.5, 1.5, 3.0], "interpolation": "linear"}
    (folder / "dataset.json").write_text(json.dumps(content))
    assert load(folder).trainer == "nnUNetTrainer"


def write_zip(path: Path, name: str, content: bytes = b"", mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, content)
    return path


@pytest.mark.parametrize(
    "name", ["../outside.pth", "model/../../outside.pth", "/outside.pth", "C:/outside", "..\\out"]
)
def test_paths_that_lead_out_of_the_folder(name: str, tmp_path: Path):
    message = refusal(write_zip(tmp_path / "model.zip", name))
    assert "which leads out of its folder" in message


def test_links(tmp_path: Path):
    path = write_zip(tmp_path / "model.zip", "m/plans.json", b"/etc/passwd", stat.S_IFLNK | 0o777)
    assert "holds the link m/plans.json; pack the file that it leads to" in refusal(path)


def test_a_small_zip_that_would_fill_the_disk(tmp_path: Path, monkeypatch):
    path = write_zip(tmp_path / "model.zip", "m/plans.json", bytes(2**22))
    assert "times its own size; models do not" in refusal(path)
    monkeypatch.setattr(model_zip, "HIGHEST_RATIO", 10**6)
    monkeypatch.setattr(model_zip, "LARGEST", 2**21)
    assert "would become 0.0 GiB in 1 files" in refusal(path)
    monkeypatch.setattr(model_zip, "LARGEST", 2**30)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    assert "the temporary folder has 0.0 GiB; set TMPDIR" in refusal(path)


def test_a_damaged_zip_leaves_nothing(model: Path, tmp_path: Path, monkeypatch):
    path = packed(model)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 64] = bytes(64)
    path.write_bytes(content)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(InputError, match="cannot be unpacked"), unpacked_model(path):
        pass
    assert not list((tmp_path / "temporary").iterdir())
