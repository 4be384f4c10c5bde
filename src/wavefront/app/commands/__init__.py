"""The commands, a file each; what a file says of itself stands beside its name in `wavefront --help`."""

from wavefront.app.commands.bench import bench
from wavefront.app.commands.cells import cells
from wavefront.app.commands.explain import explain
from wavefront.app.commands.fit import fit
from wavefront.app.commands.forecast import forecast
from wavefront.app.commands.generate import generate
from wavefront.app.commands.predict import predict
from wavefront.app.commands.score import score
from wavefront.app.commands.show import show
from wavefront.app.commands.tasks import tasks
from wavefront.app.commands.update import update

# as `wavefront --help` lists them
COMMANDS = (fit, predict, score, forecast, update, generate, show, tasks, cells, explain, bench)
