"""The tests, which mirror the package. This file is read before numpy and torch are."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers of pytest-xdist that each start a thread per core slow one another down.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
