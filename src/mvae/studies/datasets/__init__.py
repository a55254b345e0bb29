"""The studies' datasets: dataset NAME is the module NAME (- as _) with ``load(data_dir, **options)``."""
