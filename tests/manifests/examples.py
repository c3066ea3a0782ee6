"""For each rule, manifests that break it, and what it says."""

from collections.abc import Sequence

from tests.manifests.example import Example
from tests.manifests.examples_monitoring import MONITORING, OF_DASHBOARD
from tests.manifests.examples_pods import IDENTITY, PLACEMENT, PODS
from tests.manifests.examples_predictor import ACCESS, KSERVE, SERVING
from tests.manifests.examples_scaling import KEDA, NETWORK, SCALING

EXAMPLES: Sequence[Example] = (
    *(*IDENTITY, *PODS, *PLACEMENT, *KSERVE, *SERVING, *ACCESS, *NETWORK),
    *(*KEDA, *SCALING, *MONITORING, *OF_DASHBOARD),
)
