"""Uploads are judged in processes with limits, never in the service's own."""
