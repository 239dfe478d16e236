"""The HTML reports: one file each that opens alone, offline, in any browser; see docs/report.md.

A report (`evaluation_report`, `comparison_report`) fills a page (`html_page`, `templates/`) with
sections of words and numbers (`sections/`), plots (`plots/`) and pictures of cases (`pictures/`).
"""

from nnunet_liver_ext.evaluation.report.comparison_report import write_comparison_report
from nnunet_liver_ext.evaluation.report.evaluation_report import write_report

__all__ = ["write_comparison_report", "write_report"]
