"""Which columns are what: from tables to checked datasets, a module a kind of task."""
