"""The model as anyone would write it for such a server: pad the batch, run it, softmax."""

from collections.abc import Sequence
from pathlib import Path

# CUDA loads kernels when a shape first needs them, 50 to 300 ms each: not in the traffic.
WARM_ROWS = (1, 2, 4, 8, 16, 32, 64)
WARM_TOKENS = (8, 16, 32, 64, 128, 256, 510)


class Classifier:
    """Texts in, probabilities out, in bfloat16 with fused attention on a GPU."""

    def __init__(self, model_dir: str, device: str) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModelForSequenceClassification

        torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
        self._torch = torch
        self._device = device
        self._tokenizer = Tokenizer.from_file(str(Path(model_dir) / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(512)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            model_dir,
            dtype=torch.float32 if device == "cpu" else torch.bfloat16,
            attn_implementation="sdpa",
        )
        self._model.to(device).eval()
        for rows in WARM_ROWS:
            for tokens in WARM_TOKENS if device != "cpu" else WARM_TOKENS[:1]:
                self([" ".join(["the"] * tokens)] * rows)

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """One list of probabilities for each text."""
        torch = self._torch
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        with torch.inference_mode():
            ids = torch.tensor([each.ids for each in encoded]).to(self._device)
            mask = torch.tensor([each.attention_mask for each in encoded]).to(self._device)
            logits = self._model(input_ids=ids, attention_mask=mask).logits
            probabilities: list[list[float]] = logits.float().softmax(-1).cpu().tolist()
        return probabilities
