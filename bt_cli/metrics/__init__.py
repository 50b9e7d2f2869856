"""What retrieval is measured by: formulas over ranks and scores, for evaluation and for validation in training."""
