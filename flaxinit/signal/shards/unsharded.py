"""A program whose devices each run a part of it, as one program on whole arrays.

In a ``shard_map`` each device sees its part of the arrays, and collectives put the parts together.
What all devices do together is a program without devices. So the contraction over a kernel's rows
of which each device holds some, and the sum over the devices that follows, are one contraction.
"""

from jax.extend.core import ClosedJaxpr

from flaxinit.signal.shards.axes import traced_without_mesh
from flaxinit.signal.shards.cut import check_products, has_cuts
from flaxinit.signal.shards.devices import Devices
from flaxinit.signal.shards.layout import replicated
from flaxinit.signal.shards.pipelines import check_pipelines, has_stages
from flaxinit.versions.jaxpr import equations, part


def has_shard_map(program: ClosedJaxpr) -> bool:
    """Return whether a part of a program runs on each device."""
    return any(each.primitive.name == "shard_map" for each in equations(program))


def unsharded(program: ClosedJaxpr, parameters: int = 0) -> ClosedJaxpr:
    """Return a program without ``shard_map`` that computes the same, however many the devices.

    Args:
        program: with or without ``shard_map``.
        parameters: the number of its first operands that are parameters, whose rows count.

    Raises:
        ValueError: if a collective, or a loop that differs from device to device, has no such form,
            if a product takes a part of a parameter's rows, and no sum of it is seen, or if the
            devices are the stages of a pipeline.

    >>> import jax
    >>> mesh = jax.sharding.AbstractMesh((128,), ("x",), (jax.sharding.AxisType.Auto,))
    >>> P = jax.sharding.PartitionSpec
    >>> @jax.shard_map(mesh=mesh, in_specs=(P(None, "x"), P("x")), out_specs=P())
    ... def product(rows, columns):
    ...     return jax.lax.psum(rows @ columns, "x")
    >>> array = jax.ShapeDtypeStruct((512, 512), "float32")
    >>> program = unsharded(jax.make_jaxpr(product)(array, array))
    >>> [equation.primitive.name for equation in program.eqns]
    ['dot_general']
    """
    if not has_shard_map(program):
        return program

    def whole(marked: bool) -> ClosedJaxpr:
        def run(*values):
            devices = Devices(marked=marked)
            return [x.value for x in devices.run(program, [replicated(v) for v in values])]

        # Reductions over devices were made of the parts as well, in case these were needed.
        made, _ = traced_without_mesh(run, *program.in_avals)
        return part(made)

    made = whole(parameters > 0)
    if not has_cuts(made) and not has_stages(made):
        return made
    check_products(made, parameters)
    check_pipelines(made, parameters)
    return whole(False)
