"""Background tasks carried out: over any journal (`executing`), and in this process (`local`)."""
