"""Devices: where artifacts run. Importing the package registers them in `device.DEVICES`."""

from featherweight.devices import local

__all__ = ["local"]
