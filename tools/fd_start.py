"""The first thing that a command imports: until it can clean up, Ctrl-C just ends it.

Otherwise whoever presses it while modules are imported gets a page of traceback.
"""

import os
import signal
import sys

# only in a process that is a command, not in one that looks into it, such as a test
if os.path.basename(sys.argv[0]).startswith("fd") and (  # noqa: PTH119 - pathlib takes long
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
