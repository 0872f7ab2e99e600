"""Questions answered with the pipeline's stages: images or a cache → tables. `python -m experiments.NAME`."""
