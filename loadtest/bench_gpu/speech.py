"""Speech: what it is worth to choose who shares a padded batch."""

from loadtest.bench_gpu.context import GpuContext
from loadtest.bench_gpu.findings import Findings, Measure, at_least, ratio
from loadtest.bench_gpu.speech_findings import SpeechRuns, run_speech

REQUIRED_RATIO = 1.5


def run(context: GpuContext) -> Findings:
    context.stop_server()  # it would share the device
    context.say("speech: loading, then FIFO, sorted and DP batches")
    runs = SpeechRuns(device=context.device, dtype=context.dtype, tiny=context.tiny)
    if context.tiny:
        runs = SpeechRuns(
            device=context.device, dtype=context.dtype, tiny=True, clips=48, longest_s=3.0
        )
    found = run_speech(runs)
    model = "a tiny wav2vec2" if context.tiny else "wav2vec2-base"
    return Findings(
        title="GPU: speech",
        intro=(
            f"{model} with random weights, {context.dtype}, {runs.clips} clips of 1 to "
            f"{runs.longest_s:.0f} s ({found.audio_s:.0f} s of audio), offline: FIFO batches as "
            "large as the same limits allow, sorted by length, and the split by dynamic "
            f"programming; at most {runs.max_batch_size} clips and {runs.max_batch_tokens:,} "
            "frames of 20 ms, padding included. Speed is seconds of audio a second."
        ),
        measures=[
            *(
                Measure(
                    way.name,
                    f"{way.speed:,.0f} x real time, padding {way.padding_share:.0%}, "
                    f"{way.batches} batches",
                )
                for way in found.ways
            ),
            at_least("DP ÷ FIFO", ratio(found.speed("DP"), found.speed("FIFO")), REQUIRED_RATIO),
        ],
    )
