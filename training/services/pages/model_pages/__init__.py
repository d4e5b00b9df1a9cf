"""What the pages of models show: their lineage, their curves and figures, and comparisons of their answers."""
