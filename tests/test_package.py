from __future__ import annotations

import subprocess
import sys

import pytest

import beir_hybrid


@pytest.mark.parametrize("name", beir_hybrid.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(beir_hybrid, name) is not None
    assert name in dir(beir_hybrid)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        beir_hybrid.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["beir_hybrid", "beir_hybrid.cli", "beir_hybrid.collections.registry"])
def test_importing_is_light(module: str) -> None:
    heavy = {"torch", "transformers", "datasets", "faiss", "pyarrow", "ir_datasets", "pandas"}
    code = f"import {module}, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
