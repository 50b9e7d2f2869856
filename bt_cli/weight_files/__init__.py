"""Weights at rest: safetensors and pickled files, their names on the hub, and what tells one set from another."""
