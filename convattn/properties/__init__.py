"""Laws of attention and convolution as functions that any project can call in its own tests.

Every check is `check_x(fn, *arrays, key=None, tolerance=None, ...)`. It calls `fn` on the arrays and on arrays changed
in some way, returns None where the law holds, and raises LawBroken, an AssertionError, where it does not: with the law,
the worst place, the size of the violation and the tolerance. `fn` may be jitted or not; results may be trees of arrays.

Draws come from `key` (jax.random.key(0) if None), so a check always does the same. `tolerance` is relative to the
largest number of the result; if None, it is TOLERANCES of the coarsest dtype in sight, and 0 where a law holds exactly.
A check that could not fail on what is given (zeros, one token, a radius as large as the image) raises a ValueError, as
it does for a function that returns nothing. `laws()` lists all, and docs/laws.md is that table. It needs jax and numpy,
and nothing else of this package.
"""

from __future__ import annotations

from convattn.properties.averages import (
  check_convex_hull,
  check_duplicates_cancel,
  check_equal_heads_merge,
  check_equal_keys_average,
  check_large_logits_select,
  check_zero_query_averages,
)
from convattn.properties.causality import (
  check_batch_independent,
  check_causal,
  check_causal_jacobian,
  check_sees_itself,
  check_windows_isolated,
)
from convattn.properties.chance import (
  check_draws_per_example,
  check_expectation,
  check_key_decides,
  check_key_ignored,
)
from convattn.properties.comparison import TOLERANCES
from convattn.properties.convolution import (
  check_depthwise,
  check_dilated,
  check_local,
  check_pointwise,
  check_reach,
)
from convattn.properties.equivariance import (
  check_bias_permutes_along,
  check_permutation_equivariant,
  check_permutation_invariant,
  check_positions_matter,
  check_source_permutation_invariant,
)
from convattn.properties.gradients import (
  check_checkpoint_agrees,
  check_every_parameter_used,
  check_jvp_is_vjp,
  check_only_gate_learns,
)
from convattn.properties.heads import (
  check_head_permutation,
  check_heads_add_up,
  check_query_key_gauge,
  check_value_output_gauge,
)
from convattn.properties.kernels import check_cross_correlation, check_stride_subsamples
from convattn.properties.laws import LAWS, Law, LawBroken, laws
from convattn.properties.linearity import (
  check_affine,
  check_homogeneous,
  check_monotone,
  check_not_affine,
  check_odd,
  check_rank_at_most,
  check_scale_invariant,
  check_shift_invariant,
  check_spectral_norm_one,
  check_standardised,
)
from convattn.properties.logits import (
  check_bias_adds,
  check_bias_before_softmax,
  check_bounded,
  check_copies_add_log_bias,
  check_logit_shift_invariant,
  check_logit_variance,
  check_positive_semidefinite,
  check_symmetric,
)
from convattn.properties.masks import (
  check_fully_masked_row,
  check_mask_is_truncation,
  check_mask_isolates,
  check_mask_stops_nan,
)
from convattn.properties.positions import (
  check_block_toeplitz,
  check_clipped,
  check_inverse,
  check_only_reached_shifts_learn,
  check_shift_sign,
  check_zero_is_neutral,
)
from convattn.properties.resizing import (
  check_resize_keeps_centre,
  check_resize_keeps_constants,
  check_resize_keeps_ramps,
  check_resize_to_same_size,
)
from convattn.properties.slopes import check_gradient_is_slope
from convattn.properties.training import check_every_row_read, check_running_average
from convattn.properties.transformations import (
  check_agrees,
  check_deterministic,
  check_dtype_kept,
  check_gate_limits,
  check_jit_agrees,
  check_precision,
  check_vmap_agrees,
  check_zero_branch_is_identity,
)
from convattn.properties.translation import (
  check_circular_translation,
  check_edge_border,
  check_flip_equivariant,
  check_interior_translation,
  check_rotation_equivariant,
  check_transpose_equivariant,
  check_zero_border,
)
from convattn.properties.weights import (
  check_content_independent,
  check_content_matters,
  check_detailed_balance,
  check_rows_stochastic,
  check_weights_separate,
)

__all__ = [
  "LAWS",
  "TOLERANCES",
  "Law",
  "LawBroken",
  "check_affine",
  "check_agrees",
  "check_batch_independent",
  "check_bias_adds",
  "check_bias_before_softmax",
  "check_bias_permutes_along",
  "check_block_toeplitz",
  "check_bounded",
  "check_causal",
  "check_causal_jacobian",
  "check_checkpoint_agrees",
  "check_circular_translation",
  "check_clipped",
  "check_content_independent",
  "check_content_matters",
  "check_convex_hull",
  "check_copies_add_log_bias",
  "check_cross_correlation",
  "check_depthwise",
  "check_detailed_balance",
  "check_deterministic",
  "check_dilated",
  "check_draws_per_example",
  "check_dtype_kept",
  "check_duplicates_cancel",
  "check_edge_border",
  "check_equal_heads_merge",
  "check_equal_keys_average",
  "check_every_parameter_used",
  "check_every_row_read",
  "check_expectation",
  "check_flip_equivariant",
  "check_fully_masked_row",
  "check_gate_limits",
  "check_gradient_is_slope",
  "check_head_permutation",
  "check_heads_add_up",
  "check_homogeneous",
  "check_interior_translation",
  "check_inverse",
  "check_jit_agrees",
  "check_jvp_is_vjp",
  "check_key_decides",
  "check_key_ignored",
  "check_large_logits_select",
  "check_local",
  "check_logit_shift_invariant",
  "check_logit_variance",
  "check_mask_is_truncation",
  "check_mask_isolates",
  "check_mask_stops_nan",
  "check_monotone",
  "check_not_affine",
  "check_odd",
  "check_only_gate_learns",
  "check_only_reached_shifts_learn",
  "check_permutation_equivariant",
  "check_permutation_invariant",
  "check_pointwise",
  "check_positions_matter",
  "check_positive_semidefinite",
  "check_precision",
  "check_query_key_gauge",
  "check_rank_at_most",
  "check_reach",
  "check_resize_keeps_centre",
  "check_resize_keeps_constants",
  "check_resize_keeps_ramps",
  "check_resize_to_same_size",
  "check_rotation_equivariant",
  "check_rows_stochastic",
  "check_running_average",
  "check_scale_invariant",
  "check_sees_itself",
  "check_shift_invariant",
  "check_shift_sign",
  "check_source_permutation_invariant",
  "check_spectral_norm_one",
  "check_standardised",
  "check_stride_subsamples",
  "check_symmetric",
  "check_transpose_equivariant",
  "check_value_output_gauge",
  "check_vmap_agrees",
  "check_weights_separate",
  "check_windows_isolated",
  "check_zero_border",
  "check_zero_branch_is_identity",
  "check_zero_is_neutral",
  "check_zero_query_averages",
  "laws",
]
