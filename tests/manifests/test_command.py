"""`python -m manifests.check`, as a person runs it."""

from pathlib import Path

import pytest

from manifests.check.__main__ import lint, main
from manifests.check.build import MANIFESTS

OVERLAY = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: headway
resources:
  - {base}
patches:
  - target: {{kind: ScaledObject}}
    patch: |-
      - {{op: replace, path: /spec/maxReplicaCount, value: 12}}
"""


def test_an_overlay_of_ones_own_is_checked_with_what_stands_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # kustomize takes relative paths alone.
    base = Path(*[".."] * len(tmp_path.resolve().parts[1:]), *MANIFESTS.parts[1:]) / "base"
    (tmp_path / "kustomization.yaml").write_text(OVERLAY.format(base=base))
    assert main([str(tmp_path)]) == 1
    said, count = capsys.readouterr()
    assert "topics: 1 to 8 replicas, but ScaledObject topics-predictor: 1 to 12." in said
    assert "Wrong: 1." in count


def test_what_cannot_be_built_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [nothing.yaml]")
    assert main([str(tmp_path)]) == 2
    assert "nothing.yaml" in capsys.readouterr().err


def test_a_dockerfile_is_linted(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    assert lint(file) == []  # there is none
    file.write_text("FROM debian:latest\nRUN apt-get install curl\n")
    said = lint(file)
    assert any("DL3007" in line for line in said)  # :latest
    assert all(line.startswith("Dockerfile:") for line in said)
    file.write_text('FROM debian:12.5\nUSER 1000\nCMD ["true"]\n')
    assert lint(file) == []


def test_the_dockerfile_of_the_project_is_right() -> None:
    assert lint(MANIFESTS.parent / "Dockerfile") == []
