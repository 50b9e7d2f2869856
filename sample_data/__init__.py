"""The drawn scenes that bt is tried on, and what draws them."""
