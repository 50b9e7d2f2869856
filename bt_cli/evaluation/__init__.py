"""How well retrieval works: recall on captioned images, the paper's two-stage protocol, TREC files."""
