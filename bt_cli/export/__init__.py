"""An index out again: its ids, paths, columns and vectors for LanceDB, Qdrant, webdataset or NumPy."""
