"""Functionality-oriented pruning (Qin et al., arXiv 1811.02639, 1810.07322)."""
