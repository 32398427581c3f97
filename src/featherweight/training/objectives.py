"""How networks learn each task: one file per kind."""

from featherweight.training import classification, detection

__all__ = ["classification", "detection"]
