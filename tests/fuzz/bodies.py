"""Bodies that are well, to be mutated: what clients of each protocol send."""

import json
from typing import Any

HEAD = (
    b'{"id":"1","inputs":[{"name":"input_ids","shape":[1,2],"datatype":"INT64",'
    b'"parameters":{"binary_data_size":16}}],"parameters":{"priority":1}}'
)
BINARY = HEAD + b"\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
FLAT = b'{"inputs":[{"name":"input_ids","shape":[1,4],"datatype":"INT64","data":[1,2,3,4]}]}'
NESTED = (
    b'{"inputs":[{"name":"input_ids","shape":[2,2],"datatype":"INT32","data":[[1,2],[3,4]]}],'
    b'"outputs":[{"name":"checksum","parameters":{"binary_data":true}}],"id":"7"}'
)
TEXT = (
    b'{"inputs":[{"name":"text","shape":[2],"datatype":"BYTES","data":["the bus","late"]}],'
    b'"parameters":{"binary_data_output":false}}'
)


def _json(**plain: Any) -> bytes:
    return json.dumps(plain).encode()


V1 = [
    b'{"instances":[[1,2],[3]]}',
    b'{"instances":[[1,2,3]],"parameters":{"priority":1},"signature_name":"serving_default"}',
    _json(
        specversion="1.0",
        id="1",
        source="here",
        type="rows",
        time="2026-01-01T00:00:00Z",
        data={"instances": [[1]]},
    ),
]
CHATS = [
    _json(
        model="words",
        messages=[{"role": "system", "content": "short"}, {"role": "user", "content": "hello"}],
        max_tokens=3,
        temperature=0.7,
        stop=["x", "yz"],
        logit_bias={"7": -100},
        seed=5,
    ),
    _json(
        model="words",
        messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        max_completion_tokens=2,
        stream=True,
        stream_options={"include_usage": True},
        top_p=0.9,
        n=2,
    ),
]
COMPLETIONS = [
    _json(model="words", prompt=["abc", "de"], max_tokens=3, top_p=0.5, echo=False, user="me"),
    _json(model="words", prompt=[[1, 2], [3]], max_tokens=2, stream=True, service_tier="flex"),
]
GENERATES = [
    _json(text_input="abc", id="me", parameters={"max_tokens": 3, "seed": 3, "stop": ["x"]}),
    _json(text_input="the bus", parameters={"max_tokens": 2, "temperature": 1.5, "top_k": 5}),
]
TWO_ROWS = FLAT.replace(b"[1,4]", b"[2,2]").replace(b"[1,2,3,4]", b"[[1,2],[3,4]]")
JOB = b"\n".join((FLAT, TWO_ROWS, b'{"id":"3",' + FLAT[1:], FLAT)) + b"\n"
PARAMETERS = b"""\
generation: 7
models:
  sim: {policy: adaptive, max_batch_size: 64, max_batch_tokens: 16384, order: deadline}
  words:
    packing: auto
    max_batch_size: &size 256
tiers:
  interactive: {priority: 1, slo_ms: 10000, max_queue_size: 2000, weight: 10}
  bulk: &bulk {priority: 2, slo_ms: null, max_queue_size: 1000, min_share: 0.05}
"""
