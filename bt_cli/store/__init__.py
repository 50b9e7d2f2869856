"""Embeddings on disk: tables in Parquet, FAISS indexes, and the index folder that keeps them together."""
