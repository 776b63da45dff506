"""Real data beside the checkout, for the tests that measure themselves against it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LAREQA = SHARED / "lareqa"

needs_lareqa = pytest.mark.skipif(not LAREQA.is_dir(), reason=f"no XQuAD-R and MLQA-R in {LAREQA}")
