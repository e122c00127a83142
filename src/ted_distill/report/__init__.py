"""The report of a run or a comparison: `report.json`, `report.md`, `report.html` and `disagreements.csv`."""
