"""What several tests use: doubles, drivers, models, recorded data."""
