"""The plots of the reports."""
