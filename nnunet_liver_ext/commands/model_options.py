"""Which weights of a model are used, where and how: options of `predict` and `mismatch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from nnunet_liver_ext.commands.common_options import Trust

if TYPE_CHECKING:
    from nnunet_liver_ext.inference.model import Model


@dataclass(frozen=True)
class Networks:
    """The networks of a model, and how they look at an image."""

    title: ClassVar[str] = "Networks"

    fold: Annotated[
        list[str] | None,
        typer.Option(
            "--fold",
            "-f",
            metavar="FOLD",
            help="A fold to use; repeat to average. Default: all trained ones.",
        ),
    ] = None
    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", "-c", metavar="FILE", help="File in each fold's folder."),
    ] = "checkpoint_final.pth"
    no_mirroring: Annotated[
        bool, typer.Option("--no-mirroring", help="Faster: no mirrored test-time augmentation.")
    ] = False
    tile_step: Annotated[
        float,
        typer.Option(
            metavar="0.1..1", help="Step of the window, as a share of the patch.", min=0.1, max=1
        ),
    ] = 0.5
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="DEVICE", help="cuda, cpu, mps; cuda if there is one by default."
        ),
    ] = ""

    trust: Trust = False

    def load(self, path: Path, *, folds_chosen: bool = True, **options: Any) -> Model:
        """Loads a model's folder or zip.

        Args:
            path: of the model.
            folds_chosen: whether `--fold` and `--checkpoint` are meant for it.
            options: further ones of `load_model`.
        """
        from nnunet_liver_ext.inference.load_model import load_model

        chosen: dict[str, Any] = (
            {"folds": self.fold, "checkpoint": self.checkpoint} if folds_chosen else {}
        )
        return load_model(
            path,
            device=self.device or None,
            mirroring=not self.no_mirroring,
            tile_step=self.tile_step,
            trust=self.trust,
            **chosen,
            **options,
        )
