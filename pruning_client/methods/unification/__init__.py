"""Weight unification (Lin et al., arXiv 2106.08301): blocks of weights with one absolute value."""
