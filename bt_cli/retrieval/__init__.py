"""Finding: a query becomes an embedding, an index gives candidates, the ITM head puts them in order."""
