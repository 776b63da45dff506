"""Real data beside the checkout, for the tests that measure themselves against it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LAREQA = SHARED / "lareqa"
MIRACL = SHARED / "miracl"
MIRACL_MINI = SHARED / "miracl-mini"
QA = SHARED / "qa"

needs_lareqa = pytest.mark.skipif(not LAREQA.is_dir(), reason=f"no XQuAD-R and MLQA-R in {LAREQA}")
needs_miracl = pytest.mark.skipif(not MIRACL.is_dir(), reason=f"no topics and qrels of MIRACL in {MIRACL}")
needs_miracl_mini = pytest.mark.skipif(not MIRACL_MINI.is_dir(), reason=f"no miracl-mini in {MIRACL_MINI}")
needs_qa = pytest.mark.skipif(not QA.is_dir(), reason=f"no question-passage pairs in {QA}")
