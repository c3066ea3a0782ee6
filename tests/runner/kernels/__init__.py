"""Tests of the Triton kernels, and of what imports them.

On a GPU the kernels are compiled. Elsewhere Triton's interpreter runs them on tensors of the CPU,
where TRITON_INTERPRET is 1 as Triton is imported, which torch itself may do. So without a GPU
test_kernels.py, one folder up, runs these files in processes of their own.
"""

import os

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

if DEVICE.type == "cuda":
    pytest.importorskip("triton", reason="kernels need Triton")
elif os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run by test_kernels.py, with TRITON_INTERPRET=1", allow_module_level=True)
