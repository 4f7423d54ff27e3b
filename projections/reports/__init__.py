"""Reports of a run. Rule: one reads the rows, each writer turns them into a format."""
