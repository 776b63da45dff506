"""Training: parallel pairs in, a model out. `pairs` and `batching` need numpy only; `loss` and `trainer` need torch."""
