"""Where images come from other than files: the web, and lists of addresses."""
