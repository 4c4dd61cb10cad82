"""What Ray's cluster launcher makes of a cluster file."""

import contextlib
import io
from typing import Any

from sisr.doctor.cluster_file import RefusedError


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a cluster file with Ray's defaults filled in, as `ray up` would use them.

    Raises:
        RefusedError: They don't satisfy Ray's schema, or Ray can't use them for another reason.
    """
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            merged = dict(prepare_config(settings))
            validate_config(merged)
    except ValidationError as error:
        keys = [str(key) for key in error.absolute_path]
        problem = f"{'.'.join(keys) or 'the file'}: {error.message}"
        raise RefusedError(problem, "what Ray's schema of cluster files wants", keys) from None
    except (Exception, SystemExit) as error:  # Ray's own kinds, click's among them
        text = " ".join(f"{error} {printed.getvalue()}".split()) or type(error).__name__
        raise RefusedError(f"Ray refuses it: {text}", "see cluster.yaml for one that works") from None
    return merged
