"""A name or a path to a network with its weights and processors: the hub, folders in hub layout, original files, saving."""
