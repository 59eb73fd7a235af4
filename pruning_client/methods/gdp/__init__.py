"""GDP: gates with differentiable polarisation (Guo et al., ICCV 2021, arXiv 2109.02220)."""

from pruning_client.methods.gdp.method import GDP

__all__ = ["GDP"]
