def write_report(records, path):
    pass
