"""Collections out: BEIR, hub datasets, ir_datasets."""
