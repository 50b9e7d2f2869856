"""Fine-tuning, and training from nothing: recipes, batches, objectives, the loop and what it leaves behind."""
