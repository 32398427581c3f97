"""Numbers by which detectors answer, the same in torch and in files."""

from __future__ import annotations

import math

__all__ = [
    "ANCHOR_WEIGHTS",
    "BOX_WEIGHTS",
    "COMPARED",
    "IOU",
    "LARGEST_GROWTH",
    "LEAST_SCORE",
    "LEAST_SIDE",
    "PROPOSAL_IOU",
    "PROPOSED",
]

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""What offsets dx, dy, dw, dh are multiplied by, of regions and in SSDLite: standard deviations of
0.1 and 0.2 (Fast R-CNN's and SSD's code)."""
ANCHOR_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
"""Of ThunderNet's proposals, as in Faster R-CNN, arXiv 1506.01497, equation 2."""
LARGEST_GROWTH = math.log(1000 / 16)
"""Of a width or height, as a logarithm: 16 pixels become 1000 (the code of Faster R-CNN)."""
PROPOSED = 1000
"""Proposals of a picture that are compared with each other; ours, between the 2,000 of training and
the 200 that are kept."""
PROPOSAL_IOU = 0.7
"""From which on two proposals are one object (Faster R-CNN, section 3.3)."""
IOU = 0.5
"""From which on two answers are one object (the authors' configuration)."""
COMPARED = 1000
"""Answers of a picture, the surest of all classes, that are compared with each other. Only a
detector that has hardly learnt says more; its duplicates took four times as long as its layers."""
LEAST_SCORE = 0.02
"""Below it nothing is answered; ours: average precision hardly sees what is below."""
LEAST_SIDE = 1.0
"""Pixels: what is thinner or lower is no proposal."""
