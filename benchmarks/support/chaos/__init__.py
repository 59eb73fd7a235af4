"""Kills, stalls and broken networks around a real service, and the proof that nothing was lost.

`storm` runs real processes and breaks them, every participant writes a `history`, and `checker`
compares the histories with the `stored` rows.
"""
