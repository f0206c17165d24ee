"""The sets and factories of other chapters' tests, under the names by which they import each other."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / chapter) for chapter in ("benchmark", "curate/review", "d2m_model")]
