"""The network against other computations of the same thing: `python -m benchmarks.parity`."""
