"""Files as bt handles them: written whole or not at all, locked by one writer, shown as safe text."""
