"""The studies' datasets: dataset NAME is the module NAME (with _ for -) with ``load(data_dir, **options)``."""
