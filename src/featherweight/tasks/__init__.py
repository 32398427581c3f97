"""What networks are asked about pictures: one file per kind of task."""

from featherweight.tasks import classification

__all__ = ["classification"]
