"""`python -m wavefront`: the command line."""

from wavefront.app.cli import main

main()
