"""Images and texts in, arrays out: device, batching, decoding, caches."""
