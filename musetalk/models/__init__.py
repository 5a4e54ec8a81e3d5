"""The networks, their weight files, and where those come from."""

from .load import Models, load_models

__all__ = ["Models", "load_models"]
