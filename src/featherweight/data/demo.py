"""The demo data: 1,797 real scans of handwritten digits that come with scikit-learn, offline."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from featherweight.data.dataset import Candidate, Found

__all__ = ["find_demo_pictures"]


def find_demo_pictures() -> Found:
    """Return the digits as 8x8 grey PNGs, classes "0" to "9", in one unsplit set.

    Source: UCI Optical Recognition of Handwritten Digits, test part, as in scikit-learn.
    """
    # Imported here: scikit-learn takes a second to import and only the demo needs it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    scans = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    candidates = []
    for index, (scan, label) in enumerate(zip(scans, digits.target, strict=True)):
        encoded = io.BytesIO()
        Image.fromarray(scan).save(encoded, format="PNG")
        name = f"digits:{index}"
        candidates.append(Candidate(encoded.getvalue(), name, str(label), "all"))
    return Found("demo", tuple("0123456789"), candidates, [])
