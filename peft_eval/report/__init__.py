"""What was measured, on one page: the table, the plots, and the samples behind every number."""
