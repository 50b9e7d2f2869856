"""Where images lie that are no files of their own: in tar shards, on the web, in stores of objects."""
