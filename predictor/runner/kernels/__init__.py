"""Triton kernels, and the functions that launch them. They need a GPU, or Triton's interpreter."""
