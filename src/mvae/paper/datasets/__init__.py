"""The paper's datasets by a convention: dataset NAME is the module NAME (- as _) with ``load(data_dir, **options)``."""
