"""What each ONNX operator does to channels. An operator without a rule pins every channel that
touches it.
"""

from pruning_client.graph.rules import elementwise, shape, weighted
from pruning_client.graph.rules.registry import Rule

RULES: dict[str, Rule] = {**weighted.rule.known, **elementwise.rule.known, **shape.rule.known}
