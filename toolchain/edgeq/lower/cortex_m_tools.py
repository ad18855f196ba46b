"""What edgeq uses of ExecuTorch's Cortex-M backend, whose imports take tosa-tools: it shares passes with the NPU's."""

from __future__ import annotations

from edgeq.quiet import quietly

with quietly():
    import executorch.kernels.quantized  # noqa: F401  # the conversions of a float program
    from executorch.backends.cortex_m.edge_compile_config import cortex_m_edge_compile_config as edge_config
    from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
    from executorch.backends.cortex_m.target_config import CortexM, CortexMTargetConfig
    from executorch.exir import to_edge

__all__ = ["CortexM", "CortexMPassManager", "CortexMTargetConfig", "edge_config", "to_edge"]
