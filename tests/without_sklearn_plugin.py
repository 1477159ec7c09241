"""A pytest plugin (`-p tests.without_sklearn_plugin`) under which scikit-learn cannot be imported."""

import sys


class Absent:
    """Refuses scikit-learn as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


assert "sklearn" not in sys.modules
sys.meta_path.insert(0, Absent())
