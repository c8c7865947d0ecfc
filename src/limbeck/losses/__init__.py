"""Losses: tensors in, tensor out. The index of all of them."""

from __future__ import annotations

from .ab import ab
from .at import at
from .bickd import bickd, bickd_class, bickd_sample
from .cc import cc, cc_neighbours
from .ccc import ccc
from .chunked import Head, chunked_cross_entropy, chunked_divergence
from .cka import cka
from .comparative import comparative_kd
from .crd import crd, crd_batch
from .cross_attention import CrossAttended, cross_attention, cross_space
from .cskd import cosine_similarity_kd, cswt, cswt_temperatures
from .ctkd import ctkd, learned_temperature
from .cwd import cwd
from .darkrank import darkrank
from .dcd import dcd
from .dist import dist
from .dkd import dkd
from .dual_space import DualSpace, dual_space, projector_start
from .fitnets import fitnets
from .fsp import fsp
from .ft import ft
from .gold import gold
from .gram_ot import centroid, gram_ot
from .itrd import itrd_correlation, itrd_mutual
from .kd import kd
from .label_smoothing import label_smoothing
from .m2pkd import flat_cosine
from .mined import mined
from .mlkd import low_confidence, mlkd_batch, mlkd_class
from .mmd import mmd
from .nkd import nkd
from .nst import nst
from .ofd import ofd, ofd_margin
from .one import one, one_ensemble
from .ot import sinkhorn_divergence
from .pkt import pkt
from .reviewkd import hcl
from .rkd import rkd_angle, rkd_distance
from .rld import rld
from .rrd import rrd
from .sample_ckd import sample_ckd
from .sdd import regional_logits, regions, sdd
from .sp import sp
from .sparse import chunked_sparse_divergence, sampled_targets, sparse_divergence, top_k_targets
from .standardise import standardise
from .tf_kd import tf_kd
from .tokens import token_divergence
from .ttm import ttm, wttm
from .vid import vid
from .wsld import wsld

__all__ = [
    "CrossAttended",
    "DualSpace",
    "Head",
    "ab",
    "at",
    "bickd",
    "bickd_class",
    "bickd_sample",
    "cc",
    "cc_neighbours",
    "ccc",
    "centroid",
    "chunked_cross_entropy",
    "chunked_divergence",
    "chunked_sparse_divergence",
    "cka",
    "comparative_kd",
    "cosine_similarity_kd",
    "crd",
    "crd_batch",
    "cross_attention",
    "cross_space",
    "cswt",
    "cswt_temperatures",
    "ctkd",
    "cwd",
    "darkrank",
    "dcd",
    "dist",
    "dkd",
    "dual_space",
    "fitnets",
    "flat_cosine",
    "fsp",
    "ft",
    "gold",
    "gram_ot",
    "hcl",
    "itrd_correlation",
    "itrd_mutual",
    "kd",
    "label_smoothing",
    "learned_temperature",
    "low_confidence",
    "mined",
    "mlkd_batch",
    "mlkd_class",
    "mmd",
    "nkd",
    "nst",
    "ofd",
    "ofd_margin",
    "one",
    "one_ensemble",
    "pkt",
    "projector_start",
    "regional_logits",
    "regions",
    "rkd_angle",
    "rkd_distance",
    "rld",
    "rrd",
    "sample_ckd",
    "sampled_targets",
    "sdd",
    "sinkhorn_divergence",
    "sp",
    "sparse_divergence",
    "standardise",
    "tf_kd",
    "token_divergence",
    "top_k_targets",
    "ttm",
    "vid",
    "wsld",
    "wttm",
]
