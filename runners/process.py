"""What the command line does to its own process."""

import logging
import os
import sys


def search_working_folder() -> None:
    """Lets modules be imported from the working folder, as `python -m` does, when a recipe's functions run, too."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def quiet_libraries(preparing: bool) -> None:
    """Keeps the remarks of TensorFlow, tf.Transform and Beam off the terminal.

    Args:
      preparing: Whether the process prepares or exports, for which it gets TensorFlow imported and no accelerator.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not preparing:
        return
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    for name, level in (("absl", logging.ERROR), ("tensorflow", logging.ERROR), ("apache_beam", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)  # what a stage raised is told once, without Beam's traceback
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)  # TensorFlow's C++ greets before it reads how much it may say
        import tensorflow  # noqa: F401
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
