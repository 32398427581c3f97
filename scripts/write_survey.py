"""Write docs/survey.zh-CN.md: the literature of light-weight networks, counted here.

python scripts/write_survey.py              # the page in the repository; a test compares
python scripts/write_survey.py --measure    # a copy with times of this machine beside it
"""

from __future__ import annotations

import argparse
from pathlib import Path

from survey.page import survey_page
from survey.timing import time_networks

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "survey.zh-CN.md"
MEASURED_PAGE = DOCS / "survey.measured.zh-CN.md"
"""Not kept in the repository: its times hold for one machine."""


def main() -> None:
    """Write one of the two pages."""
    parser = argparse.ArgumentParser(description="Write the survey of light-weight networks.")
    parser.add_argument(
        "--measure", action="store_true", help="measure every network (takes minutes)"
    )
    if parser.parse_args().measure:
        MEASURED_PAGE.write_text(survey_page(time_networks), encoding="utf-8")
    else:
        PAGE.write_text(survey_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
