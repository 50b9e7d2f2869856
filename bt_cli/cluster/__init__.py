"""Encoding shards on many workers, of this machine or of a cluster that an existing engine runs."""
