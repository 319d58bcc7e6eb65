"""Drop-in modules: encoders, decoders, the auto-encoder, losses, and import of published models.

``convention="paper"`` (default) or ``"code"`` chooses between the papers and their published code
wherever a user can feel the difference.
"""

from rlsv_fast.nn.decoders import ConvDecoder, Decoder, ModulatedCosineDecoder
from rlsv_fast.nn.diagnosis import SinkhornDiagnosis
from rlsv_fast.nn.discriminator import Discriminator
from rlsv_fast.nn.encoders import ConvEncoder, CosineEncoder, Encoder, SincEncoder
from rlsv_fast.nn.initial import Convention, mel_frequencies
from rlsv_fast.nn.losses import NegSNRLoss, SinkhornLoss, TotalVariationLoss
from rlsv_fast.nn.model import RepresentationModel
from rlsv_fast.nn.original import load_original_state
from rlsv_fast.nn.padding import frame_count, padding
from rlsv_fast.nn.sorting import sort_components
from rlsv_fast.nn.spectral import SpectralLoss

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "Convention",
    "CosineEncoder",
    "Decoder",
    "Discriminator",
    "Encoder",
    "ModulatedCosineDecoder",
    "NegSNRLoss",
    "RepresentationModel",
    "SincEncoder",
    "SinkhornDiagnosis",
    "SinkhornLoss",
    "SpectralLoss",
    "TotalVariationLoss",
    "frame_count",
    "load_original_state",
    "mel_frequencies",
    "padding",
    "sort_components",
]
