"""`python -m beir_hybrid.cli`, which torchrun and accelerate can start."""

from beir_hybrid.cli import main

main()
