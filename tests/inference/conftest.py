"""Models of one training step."""

from tests.trained_models import model_folders

__all__ = ["model_folders"]
