"""The documented image processors, tokenizer and processor, thin over the room `preprocessing`."""
