"""What the service and the program that fills it with demo data agree on."""

from __future__ import annotations

#: Name of the search space of the demo data: the class of its network.
SPACE_NAME = "DigitsDemo"
#: Program that measures the demo data; it needs the extra `client`.
MODULE = "pruning_client.demo"
