"""A broken manifest: the rule that it breaks, what is broken in which overlay, what is said."""

from dataclasses import dataclass

from manifests.check.rules import Rule
from tests.manifests.breaking import Change


@dataclass(frozen=True)
class Example:
    """`change` is None where the object is gone."""

    rule: Rule
    overlay: str
    which: str
    change: Change | None
    said: str


def of(rule: Rule, *examples: tuple[str, str, Change | None, str]) -> list[Example]:
    return [Example(rule, *each) for each in examples]


ISVC, SCALED = "InferenceService topics", "ScaledObject topics-predictor"
SPOT, SPOT_SCALED = "InferenceService topics-spot", "ScaledObject topics-spot-predictor"
MONITOR, POLICY = "PodMonitor headway-predictor", "NetworkPolicy headway-predictor"
DASHBOARD, REDIS = "Deployment headway-dashboard", "StatefulSet headway-redis"
PREDICTOR = ("spec", "predictor")
POD = ("spec", "template", "spec")
BOX = (*PREDICTOR, "containers", 0)
MODEL = (*PREDICTOR, "model")
TRIGGERS = ("spec", "triggers")
QUERY = ("metadata", "query")
METADATA = ("metadata", "annotations")
ONE, PAIR = "overlays/on-demand", "overlays/spot-and-on-demand"
RUNTIME = "overlays/serving-runtime"
AFFINITY = (
    *("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
    "nodeSelectorTerms",
)
BEHAVIOR = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")
