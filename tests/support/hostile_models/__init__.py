"""Hostile files: the catalogue of kinds, and mutations of valid ones."""
