"""The ten documented BridgeTower classes under their own names, thin over the rooms below."""
