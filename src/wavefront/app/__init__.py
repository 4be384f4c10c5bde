"""The application: runs, the command line, the report."""

# The command line answers without torch, so nothing is imported here: `wavefront.fit`, `wavefront.load` and `wavefront.Run` are at the top.
__all__: list[str] = []
