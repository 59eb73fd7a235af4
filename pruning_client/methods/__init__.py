"""Pruning methods: one interface (`base.Method`), one file each, by name in `registry`."""
