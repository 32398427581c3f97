"""The stages of a fit, one file each."""
