"""What a model is asked to do: `catalog` lists the tasks, one module holds each. Nothing here needs torch before it is used."""
