"""Where images come from other than files of their own: tar shards, the web, and lists of addresses."""
