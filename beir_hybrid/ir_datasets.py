"""The command line of ir_datasets with our collections in it: `python -m beir_hybrid.ir_datasets list | export ...`."""

from __future__ import annotations

import sys

import ir_datasets

from beir_hybrid.collections.formats.irds import PREFIX, register
from beir_hybrid.collections.registry import available
from beir_hybrid.errors import BeirHybridError


def main() -> None:
    """Run ir_datasets' own command line; bad input is one line on standard error and exit code 2."""
    register()
    try:
        if sys.argv[1:2] == ["list"]:  # it lists what was asked for already
            for name, spec in available().items():
                for one in (name, *map(str, spec.settings())):
                    ir_datasets.load(PREFIX + one)
        ir_datasets.main(sys.argv[1:])
    except BeirHybridError as error:
        print(f"beir-hybrid: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
