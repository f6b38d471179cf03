"""Laws that a mutant breaks beside its own: (group, mutant) -> (laws, why)."""

MEANS = "equal_keys_average large_logits_select zero_query_averages"
EXPECTED = {
  ("core", "adds a tenth to the weights"): (f"{MEANS} duplicates_cancel", "the weights no longer sum to one"),
  ("core", "a weight below zero"): ("large_logits_select", "the best key has more than all the weight"),
  ("core", "counts the last key twice"): (
    "duplicates_cancel source_permutation_invariant zero_query_averages",
    "the last key is not like the others",
  ),
  ("core", "position of a key as its logit"): (
    "equal_keys_average zero_query_averages",
    "weights are not uniform without content",
  ),
  ("core", "subtracts a key's norm"): ("query_key_gauge", "a norm is not kept by every matrix"),
  ("core", "one more in the denominator"): (
    "convex_hull equal_keys_average zero_query_averages",
    "a value of zero is among the values",
  ),
  ("core", "softmax over the queries"): ("large_logits_select", "another query"),
  ("core", "cosine"): (
    "large_logits_select not_affine zero_query_averages",
    "a query's length does not count, and zero has no direction: the result is not finite",
  ),
  ("core", "heads of different temperature"): (
    "equal_heads_merge large_logits_select",
    "the first head's queries are zero",
  ),
  ("core", "the wrong head's values"): (
    f"{MEANS} convex_hull head_permutation",
    "values are multiplied by the head's number",
  ),
  ("core", "keys centred over the batch"): ("large_logits_select", "other keys"),
  ("core", "squares the values"): (f"{MEANS} convex_hull homogeneous", "other values"),
  ("core", "adds one"): (f"{MEANS} convex_hull", "a bias moves the mean"),
  ("core", "linear in its queries"): (f"{MEANS} convex_hull duplicates_cancel", "there is no softmax"),
  ("core", "forgets the queries"): ("large_logits_select not_affine", "the weights are uniform, whatever the query"),
  ("transformed", "another path under jit"): ("checkpoint_agrees", "jax.checkpoint traces as jit does"),
  ("transformed", "another path where it is rematerialised"): ("jit_agrees", "jit traces as jax.checkpoint does"),
  ("transformed", "computes in bfloat16"): (
    "gradient_is_slope jit_agrees",
    "steps of bfloat16 in the differences; XLA fuses roundings away",
  ),
  ("transformed", "softmax in float16"): ("gradient_is_slope", "steps of float16 in the differences"),
  ("weights", "last key dropped after the softmax"): ("bias_before_softmax", "rows are not normalised"),
  ("weights", "bias after the softmax"): (
    "logit_shift_invariant rows_stochastic",
    "a number added to the bias is added to the weights",
  ),
  ("weights", "bias transposed"): ("logit_shift_invariant", "what is constant along a row is not along a column"),
  ("weights", "squares in place of exponentials"): ("bias_before_softmax", "a sum is not a product there"),
  ("layer", "constant"): ("not_affine", "a constant is affine"),
  ("biased", "causal too"): ("zero_is_neutral", "without bias it is still causal"),
  ("sanitised", "half cleaned"): ("mask_stops_nan", "what is hidden counts, but as NaN it is 0"),
  ("zeros", "another factor at each row"): ("zero_border", "the first row is another one"),
  ("zeros", "another factor at each column"): ("zero_border", "the first column is another one"),
  ("zeros", "five taps"): ("interior_translation", "the border is further away than the radius"),
  ("zeros", "padded in front"): ("interior_translation reach", "what is seen lies beside the centre"),
  ("kernels", "rows and columns of the kernel swapped"): (
    "flip_equivariant rotation_equivariant",
    "the kernel is mirrored along its other axis",
  ),
  ("kernels", "padded in front along columns"): (
    "cross_correlation rotation_equivariant transpose_equivariant",
    "the output is moved along columns alone",
  ),
  ("kernels", "rows weigh more"): ("cross_correlation rotation_equivariant", "it is another kernel"),
  ("kernels", "columns mirrored at the border"): ("transpose_equivariant", "rows and columns have other borders"),
  ("kernels", "kernel normalised"): ("cross_correlation", "it is another kernel"),
  ("positive", "gelu"): ("monotone", "it falls left of zero, and then rises"),
  ("strided", "starts one later"): ("local reach", "the centres are moved"),
  ("dilated", "blurred first"): ("local zero_border", "the blur sees one further"),
  ("dilated", "dilation three"): ("local reach", "the steps are longer"),
  ("normalised", "a large epsilon"): ("standardised", "the variance is smaller"),
  ("normalised", "mean not subtracted"): ("standardised", "the mean stays"),
  ("normalised", "absolute value"): ("standardised", "the mean is larger"),
  ("over_batch", "running averages"): ("scale_invariant shift_invariant", "the statistics are not the batch's"),
  ("mha_parameters", "values behind a stop_gradient"): ("gradient_is_slope", "they have an influence, but no gradient"),
  ("gated", "gate starts at one"): ("only_gate_learns", "the branch is open"),
  ("gridded", "a corner unread"): ("shift_sign", "the corner's entry is not the table's"),
  ("clipped_grid", "a grid clipped one too early"): ("shift_sign", "the entries beyond are others"),
  ("clipped_grid", "a grid clipped on one side"): ("shift_sign", "an entry is not the table's"),
  ("dropped", "a key of its own"): ("draws_per_example", "there are no draws"),
  ("lines", "absolute positions"): ("shift_sign", "the entries are no longer the table's"),
  ("resized", "divided by the size"): ("resize_keeps_centre", "the centre is divided too"),
  ("resized", "grows at the end"): ("flip_equivariant", "the ends differ"),
  ("resized", "one end left out"): ("resize_keeps_centre", "the centre moves"),
  ("grids", "content"): ("weights_separate", "content is no sum of rows and columns"),
  ("grids", "not normalised"): ("weights_separate", "rows times columns take the factor twice"),
  ("transformed", "remembers that it was called"): (
    "checkpoint_agrees gradient_is_slope jit_agrees precision vmap_agrees",
    "every law compares two calls",
  ),
  ("strided", "pools in place of a stride"): ("local zero_border", "the pool sees one further, and its padding counts"),
}
for _each in ("softmax over the queries", "softmax over the heads"):
  EXPECTED["weights", _each] = ("bias_before_softmax logit_shift_invariant", "the law is about rows over keys")
for _each in (
  "sees one ahead",
  "a soft mask",
  "masked after the softmax",
  "convolution padded alike",
  "mask transposed",
  "scaled by the sequence's mean",
):
  EXPECTED["causal", _each] = ("causal_jacobian", "a value has a slope")
for _each in ("mask forgotten", "mask of the first sample", "statistics over the padding"):
  EXPECTED["masked", _each] = ("mask_is_truncation", "what is hidden counts")
for _each in ("over the batch", "over the tokens"):
  EXPECTED["normalised", _each] = ("scale_invariant shift_invariant standardised", "other axes")
