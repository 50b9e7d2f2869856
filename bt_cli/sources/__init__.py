"""Where images lie that are no files of their own: members of tar shards."""
