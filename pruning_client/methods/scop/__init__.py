"""SCOP: scientific control by knockoff features (Tang et al., NeurIPS 2020, arXiv 2010.10732)."""

from pruning_client.methods.scop.method import SCOP

__all__ = ["SCOP"]
