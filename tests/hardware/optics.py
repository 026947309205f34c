"""A calibration file of the magnitudes that the public one of 48 channels has, drawn anew, and slow NumPy for it."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROW = 12


def drawn(channels: int, seed: int = 0) -> dict[str, Any]:
    """Column gains .46 to 1.16, dark .015 to .07, curvature -.03 to -.27, inputs spread by .22, crosstalk 5 to 7 %."""
    rng, arch = np.random.default_rng(seed), np.sin(np.linspace(0.4, np.pi - 0.4, channels))

    def profile(low: float, high: float, jitter: float) -> Any:
        return low + (high - low) * arch + jitter * rng.standard_normal(channels)

    def columns() -> Any:
        gain = np.clip(profile(0.2, 1.1, 0.03), 0.46, 1.16)
        return np.stack([-rng.uniform(0.03, 0.27, channels), gain, rng.uniform(0.015, 0.07, channels)], 1)

    sides = ("positive", "negative")
    found: dict[str, Any] = {
        "tanh_sigmoid_coeffs": [3.6, -0.02, 4.3, 0.215, 0.0004, 0.005],
        "led_poly_coeffs_pos": [-0.2, -0.08, 0.21, 0.0002],
        "led_poly_coeffs_neg": [-0.25, -0.07, 0.22, 0.0001],
        "deq_input_min_max": [-1.3, 1.3],
        "row_profiles": {f"{side}_row{ROW}": profile(0.4, 1.3, 0.05) for side in sides},
        "column_wise_weights_distortion": {f"{side}_row{ROW}": columns() for side in sides},
        "output_correction": {side: 1 + 0.03 * rng.standard_normal(channels) for side in sides},
        "pd_crosstalk": {
            f"ratio_to_{way}_{side}_row{ROW}": rng.uniform(0.05, 0.07, channels)
            for way in ("later", "earlier")
            for side in sides
        },
        "close_loop_offset_and_scale": {
            "scaling": 0.73 + 0.025 * rng.standard_normal(channels),
            "dc_offset": 0.01 * rng.standard_normal(channels),
            "linear_offset": -3e-4 * rng.random(channels),
            "solution_to_adc_ratio": 2.0,
        },
    }
    return listed(found)


def listed(found: Any) -> Any:
    """Arrays as the lists that YAML knows."""
    if isinstance(found, dict):
        return {key: listed(value) for key, value in found.items()}
    return found.tolist() if isinstance(found, np.ndarray) else found


def saved(found: dict[str, Any], folder: Path) -> Path:
    path = folder / "calibration.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def slow_product(found: dict[str, Any], plus: Any, minus: Any, y: Any, beta: float) -> Any:
    """Volts of the closed loop for one sample `y` in volts, one channel at a time; receivers are rows."""
    n, volts = len(y), np.zeros(len(y))
    for side, short, weights, sign in (("positive", "pos", plus, 1), ("negative", "neg", minus, -1)):
        inputs = found["row_profiles"][f"{side}_row{ROW}"]
        columns = found["column_wise_weights_distortion"][f"{side}_row{ROW}"]
        k3, k2, k1, k0 = found[f"led_poly_coeffs_{short}"]
        current = np.zeros(n)
        for i in range(n):
            a, b, c = columns[i]
            for j in range(n):
                light = (k3 * y[j] ** 3 + k2 * y[j] ** 2 + k1 * y[j] + k0) * inputs[j]
                current[i] += (a * weights[i, j] ** 2 + b * weights[i, j] + c) * light
            current[i] *= found["output_correction"][side][i]
        spill = [current[i] - columns[i][2] for i in range(n)]
        later = found["pd_crosstalk"][f"ratio_to_later_{side}_row{ROW}"]
        earlier = found["pd_crosstalk"][f"ratio_to_earlier_{side}_row{ROW}"]
        for i in range(n):
            total = current[i]
            if i > 0:
                total += later[i - 1] * spill[i - 1]
            if i < n - 1:
                total += earlier[i + 1] * spill[i + 1]
            volts[i] += sign * total * beta / n
    loop = found["close_loop_offset_and_scale"]
    for i in range(n):
        volts[i] += loop["solution_to_adc_ratio"] * (loop["dc_offset"][i] + beta * loop["linear_offset"][i])
        volts[i] *= loop["scaling"][i]
    return volts
