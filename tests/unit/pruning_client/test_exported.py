from __future__ import annotations

import pruning_client


def test_public_surface() -> None:
    expected = ["Client", "Predictor", "Recipe", "SearchSpace", "fastest", "load", "prune", "sweep"]
    assert pruning_client.__all__ == expected
    assert pruning_client.__all__ == sorted(pruning_client.__all__)
    assert all(hasattr(pruning_client, name) for name in pruning_client.__all__)
