"""What an adapter says of rows and how well: predictions, scores in short and in detail, and what is chosen on held-out rows."""
