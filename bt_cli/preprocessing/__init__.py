"""Images to pixels, text to ids."""
