"""Images and texts in, arrays out: device, precision, batching, decoding, feature cache."""
