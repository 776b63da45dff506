"""A dense index with all that searching and evaluating it needs: asked for, checked, encoded and written."""
