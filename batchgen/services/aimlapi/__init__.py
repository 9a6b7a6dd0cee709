"""The AI/ML API: `service.py` has its endpoints, `answers.py` the meaning of its answers.

Source: the service's reference, August 2026.
"""

from batchgen.services.aimlapi.service import AFTER, BEFORE, FEATURES, PLUGIN, VARIABLES, AimlApi, handle_of

__all__ = ["AFTER", "BEFORE", "FEATURES", "PLUGIN", "VARIABLES", "AimlApi", "handle_of"]
