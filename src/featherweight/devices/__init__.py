"""Devices: where artifacts run. Importing the package registers them in `device.DEVICES`."""

from featherweight.devices import local, ssh

__all__ = ["local", "ssh"]
