"""Paths of an index: how they are stored, found and matched."""
