"""The network: two towers that never meet, bridged layer by layer into a cross-modal encoder, and its heads."""
