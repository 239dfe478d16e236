"""Foreign files: what is read, and that nothing in them is run."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.weights.safe_reading import read_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def assert_read(path: Path) -> None:
    read = read_checkpoint(path)
    assert read.weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(read.weights[name], WEIGHTS[name]) for name in WEIGHTS)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "place", [None, "state_dict", "network_weights", "model_state_dict", "model"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_where_checkpoints_hold_their_weights(place: str | None, prefix: str, tmp_path: Path):
    weights = {f"{prefix}{name}": tensor for name, tensor in WEIGHTS.items()}
    content = weights if place is None else {"epoch": 3, place: weights, "optimizer": {"state": {}}}
    assert_read(saved(tmp_path / "weights.pt", content))


def test_a_prefix_that_only_some_names_have_belongs_to_the_name(tmp_path: Path):
    names = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert read_checkpoint(saved(tmp_path / "weights.pt", names)).weights.keys() == names.keys()


def test_the_file_format_of_early_torch(tmp_path: Path):
    assert_read(
        saved(
            tmp_path / "weights.pth", {"state_dict": WEIGHTS}, _use_new_zipfile_serialization=False
        )
    )


def test_safetensors(tmp_path: Path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file(WEIGHTS, path)
    assert_read(path)
    path.write_bytes(path.read_bytes()[:-3])
    assert "is no complete .safetensors file" in refusal(path)
    path.write_bytes(pickle.dumps(WEIGHTS))
    assert "is no complete .safetensors file" in refusal(path)


def test_numpy_scalars_as_nnunet_writes_them(tmp_path: Path):
    numbers = {
        "_best_ema": np.float64(0.5),
        "lrs": [np.float32(0.1)],
        "epoch": np.int64(3),
        "better": np.bool_(True),
    }
    path = saved(
        tmp_path / "weights.pth",
        {"network_weights": WEIGHTS, **numbers, "device": torch.device("cuda:0")},
    )
    assert_read(path)
    content = read_checkpoint(path).content
    assert {key: content[key] for key in numbers} == numbers


def test_numpy_scalars_by_the_names_of_numpy_1(tmp_path: Path):
    path = saved(
        tmp_path / "weights.pth",
        {"w": WEIGHTS["a.weight"], "_best_ema": np.float64(0.5)},
        **OLD_FORMAT,
    )
    content = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert content != path.read_bytes()
    path.write_bytes(content)
    assert read_checkpoint(path).content["_best_ema"] == 0.5


OLD_FORMAT = {"_use_new_zipfile_serialization": False}


class RunsWhenUnpickled:
    """Makes a folder when it is read by pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("options", [{}, OLD_FORMAT])
def test_no_code_of_a_pickle_is_run(options: dict[str, Any], tmp_path: Path):
    proof = tmp_path / "was_run"
    path = saved(
        tmp_path / "evil.pth", {"state_dict": WEIGHTS, "extra": RunsWhenUnpickled(proof)}, **options
    )
    message = refusal(path)
    assert (
        "mkdir beside tensors and numbers; reading that could run code, so nothing was read"
        in message
    )
    assert not proof.exists()
    read_checkpoint(path, trust=True)
    assert proof.exists()  # or the test above would prove nothing


def test_no_code_of_a_bare_pickle_is_run(tmp_path: Path):
    proof, path = tmp_path / "was_run", tmp_path / "evil.pkl"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(RunsWhenUnpickled(proof), protocol=protocol))
        refusal(path)
        assert not proof.exists()


def test_whole_modules_and_programs_are_refused(tmp_path: Path):
    message = refusal(saved(tmp_path / "module.pth", nn.Linear(2, 2)))
    assert message.startswith("holds torch.nn.modules.linear.Linear beside tensors and numbers")
    assert message.endswith("save the state_dict alone with torch.save.")
    path = tmp_path / "program.pth"
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    assert refusal(path).startswith("is a TorchScript program beside tensors and numbers")


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"PK\x03\x04 nothing", bytes(range(256)) * 8]
)
def test_no_checkpoint_at_all(content: bytes, tmp_path: Path):
    path = tmp_path / "picture.pth"
    path.write_bytes(content)
    assert refusal(path).startswith("is no complete checkpoint of PyTorch")


@pytest.mark.parametrize("options", [{}, OLD_FORMAT])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_file_that_was_cut(options: dict[str, Any], keep: float, tmp_path: Path):
    path = saved(tmp_path / "weights.pth", {"a": torch.randn(500)}, **options)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert refusal(path).startswith("is no complete checkpoint of PyTorch")


def test_files_without_weights_by_name(tmp_path: Path):
    path = tmp_path / "weights.pth"
    assert (
        refusal(saved(path, torch.zeros(3)))
        == "holds no weights by name (found: Tensor); save a state_dict."
    )
    assert "(found: nothing)" in refusal(saved(path, {}))
    assert "(found: epoch, losses)" in refusal(saved(path, {"epoch": 3, "losses": [1.0]}))
    assert "holds no weights by name" in refusal(saved(path, {"state_dict": {0: torch.zeros(3)}}))


def test_no_such_file(tmp_path: Path):
    assert refusal(tmp_path / "missing.pth").startswith("no such file")
    assert refusal(tmp_path).startswith("no such file")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_spoiled_weights(value: float, tmp_path: Path):
    spoiled = {**WEIGHTS, "b.weight": torch.tensor([1.0, value])}
    message = refusal(saved(tmp_path / "weights.pth", spoiled))
    assert (
        message == "1 of 3 weights are NaN or infinite, first b.weight; take an earlier checkpoint."
    )
