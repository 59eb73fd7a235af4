from __future__ import annotations

import pruning_client


def test_public_surface() -> None:
    assert pruning_client.__all__ == ["Client", "Predictor", "SearchSpace", "load", "prune"]
    assert pruning_client.__all__ == sorted(pruning_client.__all__)
    assert all(hasattr(pruning_client, name) for name in pruning_client.__all__)
