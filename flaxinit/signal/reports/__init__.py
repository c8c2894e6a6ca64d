"""What a forecast and a measurement say: tables, findings, plots, pages."""
