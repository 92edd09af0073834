"""Imported first by every command: Ctrl-C ends the process quietly while modules load.

Python would print a traceback instead.
"""

import os
import signal
import sys

# only in the process of a command, not in one that imports it, such as a test
if os.path.basename(sys.argv[0]).startswith("fd") and (  # noqa: PTH119 - pathlib takes long
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
