"""What the process imports that workers on one machine are forked from, so that they begin with torch imported.

No thread runs in it, and nothing on a GPU; it ends with the driver that has started it. Nobody else imports this.
"""

from sisr.terminal import signals

signals.leave_to_driver()  # at once: its end is the end of its workers

import sisr.training.local  # noqa: E402, F401
