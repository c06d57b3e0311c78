"""What a model is asked to do. `catalog` lists the tasks; one module holds each. Nothing here needs torch before it is used."""

from adapterhub_lite.tasks.catalog import Catalog, load_data

__all__ = ["Catalog", "load_data"]
