"""Images in space: files and DICOM, grids, the common grid of a pair, intensities."""
