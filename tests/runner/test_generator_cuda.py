"""On a GPU, the plain way: the texts of the CPU in float32; bfloat16 passes the trial at load."""

from pathlib import Path

import pytest
import torch

from predictor.runner.generator import Generator
from tests.runner.decoders import VARIANTS, load_decoder, write_variant
from tests.runner.stepping import greedy, texts
from tests.runner.test_generator import TOKENS, mixed_sampling, prompts_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_variant(tmp_path_factory.mktemp("decoder"), request.param)


@pytest.fixture(scope="module")
def cuda(folder: Path) -> Generator:
    return load_decoder(folder, device="cuda", dtype="float32")


def test_greedy_text_is_that_of_the_cpu(folder: Path, cuda: Generator) -> None:
    expected = texts(load_decoder(folder), prompts_of(), greedy(TOKENS))
    assert texts(cuda, prompts_of(), greedy(TOKENS), chunk=(1, 9), share=0.7) == expected


def test_sampled_text_is_that_of_the_cpu(folder: Path, cuda: Generator) -> None:
    """What is drawn is decided on the host; only sums differ in their last bits."""
    expected = texts(load_decoder(folder), prompts_of(), mixed_sampling())
    assert texts(cuda, prompts_of(), mixed_sampling(), chunk=(1, 9)) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_generate(folder: Path, dtype: str) -> None:
    runner = load_decoder(folder, device="cuda", dtype=dtype)
    made = texts(runner, prompts_of(), greedy(TOKENS))
    assert {len(text) for text in made} == {TOKENS}
