"""Images and captions on disk, and scenes drawn on the spot: which there are, and what belongs together."""
