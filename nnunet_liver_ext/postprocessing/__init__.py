"""What is done to masks after the network: largest piece, lesions at the border."""
