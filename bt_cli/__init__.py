"""BridgeTower at the shell."""
