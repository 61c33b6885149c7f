"""An editor for ONNX graphs: producers and consumers of values, constants, replacement of nodes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


class Editor:
    """An edit of a model. Changes are recorded against the original graph and made by `apply`."""

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
        """Return the nodes that take a value as input."""
        return self._consumers.get(name, [])

    def constant_values(self, name: str) -> NDArray[np.generic]:
        """Return the values of a constant."""
        return np.asarray(numpy_helper.to_array(self.weights[name]))

    def constant(self, name: str, values: ArrayLike) -> str:
        """Add a constant unless one of this name exists, and return the name."""
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def remove_nodes(self, names: Iterable[str]) -> None:
        """Remove the nodes whose outputs have these names."""
        self._removed.update(names)

    def replace_node(self, name: str, nodes: list[NodeProto]) -> None:
        """Replace the node with the output `name` by nodes that produce the same output."""
        self._replacements[name] = nodes

    def apply(self) -> None:
        """Change the graph and drop weights that are no longer used."""
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
    """Return the integers of an attribute."""
    return next(list(a.ints) for a in node.attribute if a.name == name)


def other_input(node: NodeProto, *, than: str) -> str:
    """Return the other input of a node with two inputs."""
    return next(str(name) for name in node.input if name != than)


make_node = helper.make_node
