"""Batches without a server: for training loops, folders of files and comparisons."""
