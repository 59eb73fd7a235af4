"""DCP-CAC and DCPH: pruning during one training run (Chen et al., TNNLS 2021)."""
