"""The network laid out for speed: packed weights in one precision, slices of a batch on a pool of threads."""
