"""Rules for the passage of channels through ONNX operators. An operator without a rule pins all
channels of its inputs.
"""

from pruning_client.graph.rules import elementwise, pixels, shape, weighted
from pruning_client.graph.rules.registry import Rule

RULES: dict[str, Rule] = {
    **weighted.rule.known,
    **elementwise.rule.known,
    **shape.rule.known,
    **pixels.rule.known,
}
