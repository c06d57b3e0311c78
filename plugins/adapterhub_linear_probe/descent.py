"""L-BFGS as a state that is told a value and a gradient at a time, so that several problems can share each evaluation."""

from __future__ import annotations

from torch import Tensor

MEMORY = 10
SUFFICIENT = 1e-4
"""The share of the decrease expected of a step that it has to bring (Armijo)."""
NOISE = 1e-7
"""Relative differences of values below this are rounding in float32."""


class Descent:
    """One smooth convex problem on its way to the minimum (Nocedal and Wright 2006, algorithms 3.1 and 7.4).

    `point` is where the value and the gradient are wanted next, for `tell`; `at` is the best point so far. On a convex
    function every accepted step has positive curvature, so that a line search that only goes back is enough.
    """

    def __init__(self, at: Tensor) -> None:
        """Begin at a flat vector; `start` has to follow."""
        self.at = self.point = at
        self.value = 0.0
        self.done = False
        self._gradient = self._direction = at
        self._scaling = at
        self._slope, self._step, self._tolerance = 0.0, 1.0, 0.0
        self._pairs: list[tuple[Tensor, Tensor, float]] = []  # step, change of the gradient, 1 / their product

    def start(self, value: float, gradient: Tensor, scaling: Tensor, tolerance: float) -> None:
        """Give what is known at `at`.

        Args:
            value: The objective.
            gradient: Of it.
            scaling: An inverse of the diagonal of the Hessian, roughly.
            tolerance: The end, as a share of the value that another step would still be expected to gain.
        """
        self.value, self._gradient, self._scaling, self._tolerance = value, gradient, scaling, tolerance
        self.done = False
        self._aim()

    def penalise(self, change: Tensor) -> None:
        """Keep what was learnt of the curvature when the penalty changes: `change` is added to the Hessian's diagonal."""
        moved = [(step, bend + change * step) for step, bend, _ in self._pairs]
        products = [float(step.dot(bend)) for step, bend in moved]
        self._pairs = [
            (step, bend, 1 / product) for (step, bend), product in zip(moved, products, strict=True) if product > 0
        ]

    def tell(self, value: float, gradient: Tensor) -> None:
        """Take the step to `point`, or aim at a shorter one."""
        expected = SUFFICIENT * self._step * self._slope
        if value <= self.value + expected + NOISE * abs(self.value):
            step, bend = self.point - self.at, gradient - self._gradient
            product = float(step.dot(bend))
            if product > 1e-12 * float(bend.dot(bend)):
                self._pairs = [*self._pairs, (step, bend, 1 / product)][-MEMORY:]
            self.at, self.value, self._gradient = self.point, value, gradient
            self._aim()
        elif self._step < 1e-4:
            self.done = True  # the value is flat to the eye
        else:
            # The minimum of the parabola through the value and the slope here and the value there; NaN counts as too far.
            curvature = value - self.value - self._step * self._slope
            shorter = -self._slope * self._step**2 / (2 * curvature) if curvature > 0 else 0.0
            self._step = min(max(shorter, 0.1 * self._step), 0.5 * self._step)
            self.point = self.at + self._step * self._direction

    def _aim(self) -> None:
        """The quasi-Newton direction by the two loops over the pairs."""
        q = self._gradient.clone()
        shares: list[float] = []
        for step, bend, weight in reversed(self._pairs):
            shares.append(weight * float(step.dot(q)))
            q.sub_(bend, alpha=shares[-1])
        q.mul_(self._scaling)
        if self._pairs:
            _, bend, weight = self._pairs[-1]
            q.div_(weight * float(bend.dot(self._scaling * bend)))
        for (step, bend, weight), share in zip(self._pairs, reversed(shares), strict=True):
            q.add_(step, alpha=share - weight * float(bend.dot(q)))
        self._direction = q.neg_()
        self._slope, self._step = float(self._gradient.dot(q)), 1.0
        self.done = not -self._slope / 2 > self._tolerance * abs(self.value)
        self.point = self.at + self._direction
