"""Tests for the authors of plug-ins: a plug-in is safe when it passes every case and every kill.

    @pytest.mark.parametrize("case", CASES)
    def test_it_is_safe(case, imitation):
        asyncio.run(check_case(case, imitation))

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_a_killed_run_pays_once(moment, imitation, tmp_path):
        asyncio.run(check_kill(moment, imitation, tmp_path))

`imitation` is an `Imitation`: a server of the author's own that behaves like the service. A proxy between the plug-in
and that server loses, cuts and replaces answers.
"""

from batchgen.testing.bench import Imitation, NotConformant
from batchgen.testing.conformance import CASES, MOMENTS, check_case, check_kill

__all__ = ["CASES", "MOMENTS", "Imitation", "NotConformant", "check_case", "check_kill"]
