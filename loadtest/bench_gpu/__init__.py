"""Benchmarks on a GPU: real model sizes, random weights, each figure beside its bound."""
