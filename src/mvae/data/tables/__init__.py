"""The user's tables: files and data frames with columns of any kind, and answers in the same types."""
