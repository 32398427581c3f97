"""Devices: where artifacts run. Importing the package registers them in `device.DEVICES`."""

from featherweight.devices import adb, local, ssh

__all__ = ["adb", "local", "ssh"]
