"""Report pages: charts, tables and pictures of a run."""
