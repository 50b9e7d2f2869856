"""Captions in every form that people keep them in."""
