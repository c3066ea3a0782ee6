"""What the scripts are made of: texts, the protocol's messages, manifests."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from loadtest.k6.run import SCRIPTS
from manifests.check.build import build

OVERLAY = SCRIPTS.parent / "manifests" / "overlays" / "loadtest"


def test_texts_are_of_many_lengths_and_none_is_there_twice() -> None:
    texts = json.loads((SCRIPTS / "data" / "texts.json").read_text())
    lengths = sorted(len(text.split()) for text in texts)
    assert 100 <= len(set(texts)) == len(texts)
    assert lengths[0] <= 4
    assert lengths[-1] >= 200
    # A length that is drawn finds a text that is near it.
    assert max(after / before for before, after in pairwise(lengths) if before >= 3) <= 1.5


def fields(message: DescriptorProto) -> dict[str, tuple[int, int, int]]:
    return {field.name: (field.number, field.type, field.label) for field in message.field}


def assert_part_of(message: DescriptorProto, whole: DescriptorProto) -> None:
    assert fields(message).items() <= fields(whole).items()
    nested = {each.name: each for each in whole.nested_type}
    for each in message.nested_type:
        assert_part_of(each, nested[each.name])


def test_the_proto_file_is_a_part_of_the_protocol(tmp_path: Path) -> None:
    compiled = tmp_path / "v2.bin"
    flags = [f"-I{SCRIPTS / 'lib'}", f"--descriptor_set_out={compiled}", "v2.proto"]
    assert protoc.main(["protoc", *flags]) == 0
    (ours,) = FileDescriptorSet.FromString(compiled.read_bytes()).file
    assert ours.package == pb.DESCRIPTOR.package
    for message in ours.message_type:
        whole = DescriptorProto()
        pb.DESCRIPTOR.message_types_by_name[message.name].CopyToProto(whole)
        assert_part_of(message, whole)


def built(folder: Path) -> dict[tuple[str, str], Any]:
    return {(each.kind, each.name): each.data for each in build(folder)}


def pod_parts(objects: dict[tuple[str, str], Any]) -> list[tuple[Any, Any, Any]]:
    """(volume mounts, volumes, envFrom) of each pod that would run a script."""
    if job := objects.get(("Job", "loadtest")):
        pod = job["spec"]["template"]["spec"]
        (k6,) = pod["containers"]
        return [(k6["volumeMounts"], pod["volumes"], k6["envFrom"])]
    spec = objects["TestRun", "loadtest"]["spec"]
    pods = (spec["runner"], spec["initializer"])
    return [(pod["volumeMounts"], pod["volumes"], pod["envFrom"]) for pod in pods]


@pytest.mark.parametrize("folder", [OVERLAY, OVERLAY / "operator"])
def test_the_cluster_gets_the_folder_as_it_is(folder: Path) -> None:
    objects = built(folder)
    for name, part, pattern in (
        ("loadtest-scripts", ".", "*.js"),
        ("loadtest-lib", "lib", "*"),
        ("loadtest-data", "data", "*"),
    ):
        expected = {each.name: each.read_text() for each in (SCRIPTS / part).glob(pattern)}
        assert objects["ConfigMap", name]["data"] == expected
    for mounts, volumes, sources in pod_parts(objects):
        maps = {each["name"]: each["configMap"]["name"] for each in volumes if "configMap" in each}
        for mount in (each for each in mounts if each["name"] in maps):
            held = objects["ConfigMap", maps[mount["name"]]]["data"]
            assert mount.get("subPath", next(iter(held))) in held
        assert ("ConfigMap", sources[0]["configMapRef"]["name"]) in objects
