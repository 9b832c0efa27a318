"""The page that shows an experiment.

page.py      the page, and `page.html`, `style.css`, `sort.js` that it is made of
charts.py    which charts there are
svg.py       how they are drawn
tables.py    rows of the tables
"""

from hone.experiments.report.page import write_report

__all__ = ["write_report"]
