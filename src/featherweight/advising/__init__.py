"""Why a network is slow on a device, and what in it is redundant."""
