"""Benchmarks of the predictor: each figure beside its bound or its rival, from one run."""
