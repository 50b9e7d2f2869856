"""Asking an index: a query becomes an embedding, the index gives candidates, the ITM head puts them in order."""
