"""The report page that compares models: figures, tables, charts, interactive viewer."""
