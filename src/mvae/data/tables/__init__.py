"""Tables of the user's own: files and data frames in, columns of any kind, and the same types out again."""
