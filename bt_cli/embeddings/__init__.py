"""Embeddings at rest: Parquet tables with what made them, flat vector files, FAISS indexes and which is right."""
