"""Studies in, an nnU-Net raw dataset out: one grid, one label map, folds by patient."""
