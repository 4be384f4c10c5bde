"""The application: runs, the command line, the report."""
