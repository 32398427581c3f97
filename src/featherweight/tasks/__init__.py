"""What networks are asked about pictures: one file per kind of task."""

from featherweight.tasks import classification, detection

__all__ = ["classification", "detection"]
