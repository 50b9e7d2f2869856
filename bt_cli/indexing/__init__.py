"""Making an index and keeping it up to date: plan, encode what is new, put the next generation in place."""
