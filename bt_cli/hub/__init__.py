"""The model hub: names of published checkpoints, downloads, the local cache, and what went wrong in plain words."""
