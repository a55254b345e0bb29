"""Pictures, tables and recorded results."""
