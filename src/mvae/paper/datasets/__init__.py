"""The paper's datasets by a convention: NAME is the module NAME (with _ for -) with ``load(data_dir, **options)``."""
