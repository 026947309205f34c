"""What a set of training runs showed: a table for the terminal and a page for the browser."""

from dyadnet.report.page import write_report
from dyadnet.report.table import Row, summary, table

__all__ = ["Row", "summary", "table", "write_report"]
