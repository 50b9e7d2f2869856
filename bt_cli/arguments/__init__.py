"""What several commands take in the same way: options, their completion and words, models to open."""
