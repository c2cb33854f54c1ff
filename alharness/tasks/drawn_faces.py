"""Procedural faces: drawn, not photographed, each a pure function of its index.

A look-alike of CelebA for places without downloads. Four attributes are drawn independently with
CelebA's frequencies; everything else (pose, light, background, skin, hair length, expression,
clothes, blur, noise) is nuisance. Nobody is depicted.

Light on purpose (numpy only): conversion workers import this module afresh. All arrays are
vectorised over B faces; masks ``[B, H, W]`` are soft-edged, so nothing needs supersampling.
Coordinates: the centre square of the picture is [-1, 1] x [-1, 1], x to the right, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from alharness import seeds
from alharness.lazily import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    #: float32 throughout (numpy's own types lose track of it in mixed arithmetic).
    Array = NDArray[Any]

#: Raised when the same (seed, index) would give another face: cached ones are then drawn anew.
DRAWING = 1
SEED = seeds.derive(2020, "faces")
#: Test faces are numbered from here, so that they stay the same whatever the size of the pool.
TEST_FROM = 1 << 40
#: Attribute -> share of faces that have it (CelebA's, decisions T5).
ATTRIBUTES = {"Blond_Hair": 0.15, "Wearing_Hat": 0.05, "Bangs": 0.15, "Eyeglasses": 0.065}
#: Random numbers per face; the meaning of each is fixed by the order in which ``_Draws`` hands out.
N_DRAWS = 128
#: Faces drawn at once: about 1 MB per mask at 64x64.
BATCH = 64


class _Draws:
    """The random numbers of B faces, handed out column by column."""

    def __init__(self, seed: int, indices: NDArray[np.int64]) -> None:
        self._numbers = seeds.uniforms(seed, indices, N_DRAWS).astype(np.float32)
        self._next = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Array:
        """``[B]`` in [low, high)."""
        column = self._numbers[:, self._next]
        self._next += 1
        return cast("Array", low + (high - low) * column)

    def bump(self, scale: float) -> Array:
        """``[B]`` around 0, within twice ``scale``: the sum of two uniforms, cheap and bounded."""
        return self.uniform(-scale, scale) + self.uniform(-scale, scale)

    def chance(self, probability: float) -> Array:
        """``[B]`` of 0 and 1."""
        return (self.uniform() < probability).astype(np.float32)

    def colour(self, low: tuple[float, ...], high: tuple[float, ...]) -> Array:
        """``[B, 3]`` between two colours, channels apart."""
        return np.stack([self.uniform(a, b) for a, b in zip(low, high, strict=True)], axis=1)


@dataclass
class _Canvas:
    """B pictures being painted.

    Attributes:
        pixels: float32 ``[B, 3, H, W]`` in [0, 1].
        edge: width of a soft edge, about one pixel.
    """

    pixels: Array
    edge: float

    def mask(self, inside: Array) -> Array:
        """Soft mask of a region given as a signed distance, positive inside."""
        return np.clip(inside / self.edge + 0.5, 0.0, 1.0)

    def paint(self, mask: Array, colour: Array) -> None:
        """Cover ``mask`` with ``colour`` ``[B, 3]`` or ``[B, 3, H, W]``."""
        if colour.ndim == 2:
            colour = colour[:, :, None, None]
        self.pixels += mask[:, None] * (colour - self.pixels)


def attributes(seed: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """0 or 1 for each attribute of ``ATTRIBUTES``, uint8 ``[B, 4]``."""
    return _attributes(_Draws(seed, indices)).astype(np.uint8)


def _attributes(draws: _Draws) -> Array:
    return np.stack([draws.chance(share) for share in ATTRIBUTES.values()], axis=1)


def draw(
    seed: int, indices: NDArray[np.int64], height: int = 64, width: int = 64
) -> NDArray[np.uint8]:
    """The faces with these indices, uint8 ``[B, 3, H, W]``."""
    parts = [
        _draw(seed, indices[start : start + BATCH], height, width)
        for start in range(0, len(indices), BATCH)
    ]
    return np.concatenate(parts)


def _draw(seed: int, indices: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
    draws = _Draws(seed, indices)
    blond, hat, bangs, glasses = _attributes(draws).T
    side = min(height, width)
    y = ((np.arange(height, dtype=np.float32) + 0.5) * 2 - height) / side
    x = ((np.arange(width, dtype=np.float32) + 0.5) * 2 - width) / side
    shape = (len(indices), 3, height, width)
    canvas = _Canvas(np.empty(shape, np.float32), edge=2.5 / side)

    _background(canvas, draws, x, y)
    # Pose: the head's own frame (u to its left-right, v up-down), shifted, rolled and scaled.
    roll, scale = draws.bump(0.13), draws.uniform(0.88, 1.1)
    shift_x, shift_y = draws.bump(0.06), 0.06 + draws.bump(0.05)
    u0 = x[None, None, :] - shift_x[:, None, None]
    v0 = y[None, :, None] - shift_y[:, None, None]
    cos, sin = _b(np.cos(roll) / scale), _b(np.sin(roll) / scale)
    u, v = u0 * cos + v0 * sin, v0 * cos - u0 * sin
    yaw, pitch = draws.bump(0.07), draws.bump(0.03)  # features slide over the head

    skin = _skin(draws)
    hair = _hair_colour(draws, blond)
    light = draws.uniform(-1.0, 1.0)
    shade = 1.0 + _b(light * draws.uniform(0.05, 0.3)) * u + 0.08 * (0.2 - v)
    head_w, head_h = draws.uniform(0.45, 0.54), draws.uniform(0.6, 0.68)

    _body(canvas, draws, u, v, skin, hair, head_w)
    face = _ellipse(u, v, 0.0, 0.0, head_w, head_h)
    canvas.paint(canvas.mask(face), np.clip(skin[:, :, None, None] * shade[:, None], 0, 1))
    _features(canvas, draws, u - _b(yaw), v - _b(pitch), skin, hair)
    _glasses(canvas, draws, u - _b(yaw), v - _b(pitch), glasses)
    _hair(canvas, draws, u, v, hair, shade, bangs, head_w, head_h)
    _hat(canvas, draws, u, v, hat, head_w, head_h)
    return _camera(canvas, draws, seed, indices)


def _b(values: Array | float) -> Array:
    """``[B]`` broadcast over the picture."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def _ellipse(u: Array, v: Array, cu: Array | float, cv: Array | float, a: Array, b: Array) -> Array:
    """About the signed distance to an ellipse with half axes a, b: positive inside."""
    a, b = _b(a), _b(b)
    radius = np.sqrt(((u - _b(cu)) / a) ** 2 + ((v - _b(cv)) / b) ** 2)
    return (1.0 - radius) * np.minimum(a, b)


def _full(draws: _Draws, value: float) -> Array:
    return np.full(len(draws._numbers), value, np.float32)


def _background(canvas: _Canvas, draws: _Draws, x: Array, y: Array) -> None:
    """A gradient between two colours and three soft blobs."""
    first = draws.colour((0.05, 0.05, 0.05), (0.95, 0.95, 0.95))
    second = np.clip(first + draws.colour((-0.4,) * 3, (0.4,) * 3), 0, 1)
    angle = draws.uniform(0, 2 * np.pi)
    along = _b(np.cos(angle)) * x[None, None] + _b(np.sin(angle)) * y[None, :, None]
    part = np.clip(along / 2.4 + 0.5, 0, 1)[:, None]
    canvas.pixels[:] = first[:, :, None, None] * (1 - part) + second[:, :, None, None] * part
    for _ in range(3):
        cx, cy, size = draws.uniform(-1, 1), draws.uniform(-1.2, 1.2), draws.uniform(0.15, 0.6)
        distance = (x[None, None] - _b(cx)) ** 2 + (y[None, :, None] - _b(cy)) ** 2
        blob = np.exp(-distance / _b(size) ** 2) * _b(draws.uniform(0, 0.8))
        canvas.paint(blob, draws.colour((0, 0, 0), (1, 1, 1)))


def _skin(draws: _Draws) -> Array:
    """From very dark to very light, along one line with some spread."""
    part = draws.uniform()[:, None]
    dark = np.array([[0.33, 0.21, 0.15]], np.float32)
    fair = np.array([[0.97, 0.83, 0.74]], np.float32)
    spread = draws.colour((-0.05,) * 3, (0.05,) * 3)
    return np.clip(dark + (fair - dark) * part**0.7 + spread, 0, 1)


def _hair_colour(draws: _Draws, blond: Array) -> Array:
    """Blond, or one of black, brown, red and gray; the borders are meant to be close."""
    kind = draws.uniform()
    darkness = draws.uniform(0.65, 1.15)[:, None]
    palette = np.array(
        [[0.09, 0.07, 0.07], [0.32, 0.2, 0.12], [0.5, 0.34, 0.2], [0.5, 0.2, 0.1], [0.6, 0.6, 0.6]],
        np.float32,
    )
    other = palette[np.searchsorted([0.35, 0.65, 0.82, 0.9], kind)] * darkness
    part = draws.uniform()[:, None]
    fair = (1 - part) * np.array([[0.74, 0.57, 0.3]]) + part * np.array([[0.97, 0.87, 0.6]])
    fair = fair + draws.colour((-0.03,) * 3, (0.03,) * 3)
    return np.clip(np.where(blond[:, None] > 0, fair, other), 0, 1).astype(np.float32)


def _body(
    canvas: _Canvas, draws: _Draws, u: Array, v: Array, skin: Array, hair: Array, head_w: Array
) -> None:
    """What lies behind the head: long hair, shoulders, neck."""
    length, width = draws.uniform(0.45, 1.15), draws.uniform(1.08, 1.35)
    long_hair = _ellipse(u, v, 0.0, length - 0.62, head_w * width, length + 0.12)
    canvas.paint(canvas.mask(long_hair), hair * 0.85)
    clothes = draws.colour((0.05, 0.05, 0.05), (0.9, 0.9, 0.9))
    shoulders = _ellipse(u, v, draws.bump(0.05), 1.25, draws.uniform(0.75, 1.1), _full(draws, 0.5))
    canvas.paint(canvas.mask(shoulders), clothes)
    neck = np.minimum(0.2 - np.abs(u), np.minimum(v - 0.2, 0.88 - v))
    canvas.paint(canvas.mask(neck), skin * 0.82)


def _features(canvas: _Canvas, draws: _Draws, u: Array, v: Array, skin: Array, hair: Array) -> None:
    """Eyes, brows, nose and mouth."""
    half, eye_y = draws.uniform(0.18, 0.23), draws.uniform(-0.1, -0.03)
    eye_w, eye_h = draws.uniform(0.085, 0.11), draws.uniform(0.03, 0.055)
    gaze = draws.uniform(-0.03, 0.03)
    iris = draws.colour((0.1, 0.15, 0.1), (0.45, 0.5, 0.6))
    brow_y, tilt = eye_y - draws.uniform(0.1, 0.15), draws.uniform(-0.25, 0.25)
    thickness = draws.uniform(0.012, 0.03)
    mirrored = np.abs(u)  # both eyes at once
    white = np.full_like(skin, 0.93)
    canvas.paint(canvas.mask(_ellipse(mirrored, v, half, eye_y, eye_w, eye_h)), white)
    for sign in (-1.0, 1.0):
        centre = sign * half + gaze
        ball = np.minimum(
            _ellipse(u, v, centre, eye_y, eye_h * 0.95, eye_h * 0.95),
            _ellipse(mirrored, v, half, eye_y, eye_w, eye_h),
        )
        canvas.paint(canvas.mask(ball), iris)
    line = _b(brow_y) + _b(tilt) * (mirrored - _b(half))
    brow = np.minimum(_b(thickness) - np.abs(v - line), 0.1 - np.abs(mirrored - _b(half)))
    canvas.paint(canvas.mask(brow), np.minimum(hair * 0.55, skin * 0.6))
    nose_y = draws.uniform(0.12, 0.2)
    nose = _ellipse(u, v, 0.0, nose_y, draws.uniform(0.05, 0.085), _full(draws, 0.03))
    canvas.paint(0.7 * canvas.mask(nose), skin * 0.72)
    ridge = np.minimum(0.014 - np.abs(u - 0.035), np.minimum(v - 0.0, _b(nose_y) - v))
    canvas.paint(0.35 * canvas.mask(ridge), skin * 0.8)
    mouth_y, mouth_w = draws.uniform(0.32, 0.4), draws.uniform(0.12, 0.2)
    smile, open_h = draws.uniform(-0.6, 2.2), draws.uniform(0.012, 0.06)
    bent = v - _b(mouth_y) + _b(smile) * (u**2 - _b(mouth_w) ** 2 * 0.5)
    lips = np.clip(skin * np.array([[0.85, 0.55, 0.55]], np.float32), 0, 1)
    lips = lips + draws.uniform(0, 0.25)[:, None] * np.array([[0.5, -0.3, -0.2]], np.float32)
    outer = _ellipse(u, bent, 0.0, 0.0, mouth_w, open_h + 0.022)
    canvas.paint(canvas.mask(outer), np.clip(lips, 0, 1))
    gap = _ellipse(u, bent, 0.0, 0.0, mouth_w * 0.85, np.maximum(open_h - 0.01, 0.004))
    inside = np.minimum(gap, outer)  # the edge of a flat ellipse would be wider than the mouth
    teeth = draws.chance(0.6)[:, None]
    canvas.paint(canvas.mask(inside), teeth * 0.9 + (1 - teeth) * 0.25 * np.ones_like(skin))


def _glasses(canvas: _Canvas, draws: _Draws, u: Array, v: Array, wears: Array) -> None:
    """Two round or oblong rims with a bridge and arms; some are dark."""
    a, b = draws.uniform(0.13, 0.18), draws.uniform(0.09, 0.15)
    centre_y, rim = draws.uniform(-0.08, -0.03), draws.uniform(0.012, 0.03)
    colour = draws.colour((0.02, 0.02, 0.02), (0.45, 0.3, 0.25))
    dark = draws.chance(0.3) * draws.uniform(0.6, 0.95)
    mirrored = np.abs(u)
    lens = _ellipse(mirrored, v, 0.215, centre_y, a, b)
    on = _b(wears)
    canvas.paint(on * _b(dark) * canvas.mask(lens), np.full_like(colour, 0.06))
    canvas.paint(on * canvas.mask(_b(rim) - np.abs(lens)), colour)
    bridge = np.minimum(_b(rim) - np.abs(v - _b(centre_y)), 0.215 - _b(a) - mirrored)
    arms = np.minimum(
        _b(rim) - np.abs(v - _b(centre_y)), np.minimum(mirrored - 0.215 - _b(a), 0.52 - mirrored)
    )
    canvas.paint(on * canvas.mask(np.maximum(bridge, arms)), colour)


def _hair(
    canvas: _Canvas,
    draws: _Draws,
    u: Array,
    v: Array,
    hair: Array,
    shade: Array,
    bangs: Array,
    head_w: Array,
    head_h: Array,
) -> None:
    """The cap of hair, with a hairline high on the brow or a fringe down to the brows."""
    outer = _ellipse(u, v, 0.0, -0.05, head_w * draws.uniform(1.06, 1.16), head_h * 1.06)
    high = -0.36 - draws.uniform(0, 0.12)  # without a fringe: free forehead
    parting, slope = draws.bump(0.12), draws.uniform(0.4, 1.6)
    line = _b(high) + _b(slope) * np.abs(u - _b(parting)) ** 1.5
    low = -0.24 + draws.uniform(0, 0.07)  # a fringe ends just above the brows
    teeth, phase = draws.uniform(14, 34), draws.uniform(0, 6.3)
    jagged = 0.025 * np.sin(_b(teeth) * u + _b(phase)) + _b(draws.bump(0.12)) * u
    fringe = _b(low) + jagged + 0.9 * np.maximum(np.abs(u) - 0.28, 0)
    border = np.where(_b(bangs) > 0, np.maximum(fringe, line), line)
    strands = 1.0 + 0.12 * np.sin(_b(draws.uniform(20, 60)) * u + 3 * v + _b(phase))
    tinted = np.clip(hair[:, :, None, None] * (0.5 + 0.5 * shade)[:, None] * strands[:, None], 0, 1)
    canvas.paint(canvas.mask(np.minimum(outer, border - v)), tinted)


def _hat(
    canvas: _Canvas, draws: _Draws, u: Array, v: Array, wears: Array, head_w: Array, head_h: Array
) -> None:
    """A cap, a brimmed hat or a woollen hat; a fringe stays visible below it."""
    colour = draws.colour((0.02, 0.02, 0.02), (0.95, 0.95, 0.95))
    band = np.clip(colour + draws.colour((-0.5,) * 3, (0.5,) * 3), 0, 1)
    rim_y, tall = -0.36 - draws.uniform(0, 0.06), draws.uniform(0.75, 1.05)
    brim = draws.uniform(0.0, 0.35) * draws.chance(0.6)
    crown = np.minimum(
        _ellipse(u, v, 0.0, rim_y, head_w * draws.uniform(1.08, 1.22), tall * head_h), _b(rim_y) - v
    )
    on = _b(wears)
    canvas.paint(on * canvas.mask(crown), colour)
    stripe = np.minimum(crown, v - _b(rim_y) + 0.12)
    canvas.paint(on * canvas.mask(stripe), band)
    edge = _ellipse(u, v, draws.bump(0.04), rim_y, head_w * 1.15 + brim, 0.035 + 0.1 * brim)
    canvas.paint(on * canvas.mask(edge), colour * 0.8)


def _camera(
    canvas: _Canvas, draws: _Draws, seed: int, indices: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Blur, exposure, colour cast and noise."""
    pixels = canvas.pixels
    soft = _smooth(_smooth(pixels))
    blur = draws.uniform(0.0, 1.0)[:, None, None, None] ** 2
    pixels = pixels + blur * (soft - pixels)
    gain = draws.uniform(0.75, 1.2)[:, None] * draws.colour((0.93,) * 3, (1.07,) * 3)
    offset = draws.uniform(-0.06, 0.06)
    pixels = pixels * gain[:, :, None, None] + offset[:, None, None, None]
    n = pixels[0].size
    strength = draws.uniform(0.0, 0.05)[:, None, None, None]
    # A cheap hash per pixel and face; the quality of the randomness does not matter here.
    start = (seeds.uniforms(seed ^ 0x5EED, indices, 1)[:, 0] * 2**32).astype(np.uint32)
    counter: Any = start[:, None] + np.arange(n, dtype=np.uint32) * np.uint32(2654435769)
    counter = counter ^ (counter >> np.uint32(15))
    counter = counter * np.uint32(0x2C1B3C6D)
    counter = counter ^ (counter >> np.uint32(12))
    noise = (counter >> np.uint32(8)).astype(np.float32) * (2.0**-23) - 1.0
    pixels = pixels + strength * noise.reshape(pixels.shape)
    quantised: NDArray[np.uint8] = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return quantised


def _smooth(pixels: Array) -> Array:
    """A binomial filter of three pixels in both directions; the border repeats."""
    for axis in (2, 3):
        low = np.concatenate(
            [pixels.take([0], axis), pixels.take(range(pixels.shape[axis] - 1), axis)], axis
        )
        high = np.concatenate(
            [pixels.take(range(1, pixels.shape[axis]), axis), pixels.take([-1], axis)], axis
        )
        pixels = 0.25 * low + 0.5 * pixels + 0.25 * high
    return pixels


@dataclass(frozen=True)
class FacesReader:
    """A conversion's reader of drawn faces: the first ``n_pool`` are the pool, then the test set."""

    n_pool: int

    def indices(self, start: int, stop: int) -> NDArray[np.int64]:
        """Numbers of the faces at these positions of the cache."""
        positions = np.arange(start, stop)
        return np.where(positions < self.n_pool, positions, TEST_FROM + positions - self.n_pool)

    def __call__(self, start: int, stop: int) -> NDArray[np.uint8]:
        return draw(SEED, self.indices(start, stop))
