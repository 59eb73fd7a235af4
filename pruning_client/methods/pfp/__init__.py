"""Provable filter pruning (Liebenwein et al., ICLR 2020, arXiv 1911.07412)."""
