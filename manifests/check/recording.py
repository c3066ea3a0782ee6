"""The dashboard's recording rules as an object for the Prometheus operator.

python -m manifests.check.recording > manifests/overlays/monitoring/recording.yaml
"""

from collections.abc import Sequence
from typing import Any

import yaml

from dashboard.sources.rules import rule_file

NAME = "headway-recording"
_HEADER = """\
# Made by `python -m manifests.check.recording` from dashboard/sources/rules.py; do not edit.
# The dashboard reads them over long windows.
"""


def groups() -> Sequence[Any]:
    return list(yaml.safe_load(rule_file())["groups"])


def document() -> str:
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": NAME},
        "spec": {"groups": groups()},
    }
    return _HEADER + yaml.safe_dump(rule, sort_keys=False, width=100)


if __name__ == "__main__":
    print(document(), end="")
