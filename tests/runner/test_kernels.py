"""Runs the tests in kernels/ by Triton's interpreter where there is no GPU.

The interpreter is a mode of a whole process, which other tests are to be spared.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent / "kernels"


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels/ runs by itself on a GPU")
@pytest.mark.timeout(600)  # it takes a minute where nothing else runs
def test_kernels_by_the_interpreter() -> None:
    pytest.importorskip(
        "triton",
        minversion="3.7",
        reason="kernels without a GPU need Triton 3.7, whose interpreter works with numpy 2.4",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", str(FOLDER)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout, "all of them were skipped"
