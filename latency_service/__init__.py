"""Measure pruned architectures on real devices, store the measurements, train and serve latency
predictors.
"""

__version__ = "0.1.0"
