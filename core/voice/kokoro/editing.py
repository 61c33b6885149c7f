"""An ONNX graph while it is edited: who makes a value, who uses it, constants, replacements."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


class Editor:
    """One edit of a model: read the graph as it was, note what to change, then `apply`."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.weights: dict[str, TensorProto] = {t.name: t for t in self.graph.initializer}
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
        self._removed: set[str] = set()
        self._replacements: dict[str, list[NodeProto]] = {}

    def consumers(self, name: str) -> list[NodeProto]:
        return self._consumers.get(name, [])

    def constant_values(self, name: str) -> NDArray[np.generic]:
        """Of a constant."""
        return np.asarray(numpy_helper.to_array(self.weights[name]))

    def constant(self, name: str, values: ArrayLike) -> str:
        """A constant of this name; the same name means the same values."""
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def remove_nodes(self, names: Iterable[str]) -> None:
        """The nodes that write any of these values."""
        self._removed.update(names)

    def replace_node(self, name: str, nodes: list[NodeProto]) -> None:
        """Have these nodes write the value that another node wrote."""
        self._replacements[name] = nodes

    def apply(self) -> None:
        """Change the graph; drop the weights that nobody uses any more."""
        nodes = [
            new
            for node in self.graph.node
            if node.output[0] not in self._removed
            for new in self._replacements.get(node.output[0], [node])
        ]
        used = {name for node in nodes for name in node.input}
        weights = [tensor for tensor in self.weights.values() if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(weights)


def int_attribute(node: NodeProto, name: str) -> list[int]:
    return next(list(a.ints) for a in node.attribute if a.name == name)


def other_input(node: NodeProto, *, than: str) -> str:
    """The input of a node of two that is not this one."""
    return next(str(name) for name in node.input if name != than)


make_node = helper.make_node
