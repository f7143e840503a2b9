"""What records are held against: published numbers, measures, claims and their verdicts."""
