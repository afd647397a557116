"""Recorders of version 3: documented devices, electrode faults as in version 2, and every lead rounded by itself."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.leads import twelve_leads
from ecg_jax.data.synthetic.randomness.draws import cut
from ecg_jax.data.synthetic.recorder.acquisition import (
    LOWEST_LOWPASS_HZ,
    Acquisition,
    Settings,
    high_passed,
    lowpass_sigma_s,
    quantised,
    sample_acquisition,
)


@dataclasses.dataclass(frozen=True)
class Device:
    """What a recorder does to the leads. AHA: Kligfield et al., Circulation 115:1306, 2007 (0.05 to 150 Hz, ±5 mV)."""

    name: str
    lsb_mv: float  # one step of its numbers
    highpass_hz: float = 0.05
    lowpass_hz: tuple[float, ...] = (150.0, 100.0, 40.0)
    lowpass_shares: tuple[float, ...] = (0.5, 0.3, 0.2)  # how often each is set; design
    clip_mv: float = 5.0
    notch: float = 0.5  # share of recordings with the mains filter on; design
    notch_gain: float = 0.03  # what it leaves, -30 dB; design

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("lsb_mv", self.lsb_mv, 1e-5, 0.1),
            ("highpass_hz", self.highpass_hz, 0.0, 1.0),
            ("clip_mv", self.clip_mv, 1.0, 30.0),
            ("notch", self.notch, 0.0, 1.0),
            ("notch_gain", self.notch_gain, 0.0, 1.0),
            *(("a value of lowpass_hz", value, LOWEST_LOWPASS_HZ, 1000.0) for value in self.lowpass_hz),
        ):
            if not low <= value <= high:
                raise ValueError(f"{self.name}: {name} is {value}: it must lie from {low} to {high}")
        shares = self.lowpass_shares
        if not shares or len(shares) != len(self.lowpass_hz) or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
            raise ValueError(
                f"{self.name}: lowpass_shares are {shares}: one share >= 0 for each of the "
                f"{len(self.lowpass_hz)} values of lowpass_hz is needed, with sum 1"
            )


#: Where a step is "recalled", it is from memory of the maker's documents and is to be checked before it is cited.
PAGEWRITER = Device("Philips (HP) PageWriter M177xA", 0.005)  # its service manual, table 1-2: 5 µV
MAC_5500 = Device("GE MAC 5500", 0.00488, clip_mv=10.0)  # 4.88 µV: recalled
ELI_380 = Device("Welch Allyn (Mortara) ELI 380", 0.00117, lowpass_hz=(300.0, 150.0, 40.0))  # 1.17 µV: recalled
NIHON_KOHDEN = Device("Nihon Kohden, MFER files", 0.00125)  # 1.25 µV: recalled
PTB_RECORDER = Device("PTB prototype (Bousseljot et al. 1995)", 0.0005, 0.0, (500.0,), (1.0,), 16.0, 0.0)  # recalled
MONITOR = Device("bedside monitor (AHA 2007: 0.5 to 40 Hz)", 0.005, 0.5, (40.0,), (1.0,))  # its step: design
DEVICES = (PAGEWRITER, MAC_5500, ELI_380, NIHON_KOHDEN, MONITOR)
#: How often electrodes are at fault: as in version 2.
FAULTS = Acquisition()


@dataclasses.dataclass(frozen=True)
class Recorder:
    """Which devices record, in what shares, and how often electrodes are at fault (`faults`: version 2's)."""

    devices: tuple[Device, ...] = DEVICES
    shares: tuple[float, ...] = (0.225, 0.225, 0.225, 0.225, 0.1)  # design: the four electrocardiographs alike
    faults: Acquisition = FAULTS

    def __post_init__(self) -> None:
        if not self.devices or len(self.devices) != len(self.shares) or min(self.shares) < 0:
            raise ValueError(
                f"{len(self.devices)} devices with the shares {self.shares}: give at least one device, and one share "
                f">= 0 for each"
            )
        if abs(sum(self.shares) - 1.0) > 1e-6:
            raise ValueError(f"the shares of the devices sum to {sum(self.shares)}: they must sum to 1")

    def table(self) -> np.ndarray:
        """One row for each device and low-pass: share, low-pass SD (s), high-pass (Hz), notch, its gain, step, clip."""
        return np.array(
            [
                (share * part, lowpass_sigma_s(hz), d.highpass_hz, d.notch, d.notch_gain, d.lsb_mv, d.clip_mv)
                for d, share in zip(self.devices, self.shares)
                for hz, part in zip(d.lowpass_hz, d.lowpass_shares)
            ],
            np.float32,
        )


def sample_recorder(row: jax.Array, recorder: Recorder) -> Settings:
    """Draws the device and the electrode faults of one record from a row of uniform draws.

    The faults take the draws that they take in version 2; the device takes two more.
    """
    of_faults, (which, notch) = cut(row, (9,), (2,))
    faults = sample_acquisition(of_faults, recorder.faults)
    table = recorder.table()
    edges = np.cumsum(table[:, 0])[:-1]
    _, sigma_s, highpass_hz, notches, notch_gain, lsb_mv, clip_mv = jnp.asarray(table)[(which >= edges).sum()]
    return dataclasses.replace(
        faults,
        lowpass_sigma_s=sigma_s,
        highpass_hz=highpass_hz,
        powerline_gain=jnp.where(notch < notches, notch_gain, 1.0),
        lsb_mv=lsb_mv,
        clip_mv=clip_mv,
    )


def recorded(leads_mv_8xS: jax.Array, settings: Settings, sample_rate_hz: int) -> jax.Array:
    """What a device writes of leads I, II, V1–V6 `(8, samples)`: high-passed, and all twelve leads clipped and rounded.

    The four derived leads are formed before rounding, as every lead is rounded by itself: Einthoven's and Goldberger's
    sums hold to one step, not exactly. Returns `(samples, 12)` in mV.
    """
    slow = high_passed(leads_mv_8xS, settings.highpass_hz, sample_rate_hz)
    return quantised(twelve_leads(slow.T), settings)


declare(
    "devices",
    vars(),
    "PAGEWRITER MAC_5500 ELI_380 NIHON_KOHDEN PTB_RECORDER MONITOR DEVICES FAULTS",
    version=3,
)
