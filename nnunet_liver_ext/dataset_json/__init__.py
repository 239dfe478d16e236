"""What dataset.json and pairs.json say beyond nnU-Net's own entries; one reader each."""
