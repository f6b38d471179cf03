"""Every public op with arguments of good shapes, for the tests that hold for all of them."""

IMAGE, TABLE = (2, 5, 6, 3), (2, 3, 5)
DEPTHWISE = {"x": IMAGE, "kernel": (3, 3, 1, 3)}
QUERY_KEY = {"query": (2, 3, 2, 4), "key": (2, 5, 2, 4)}
OTHER_KEY = QUERY_KEY | {"key": (2, 5, 2, 6)}  # of another width
ROW_COLUMN = {"rows": (2, 3, 4, 5), "columns": (2, 3, 6, 7)}  # heads, terms, outputs, keys
GOOD = {
  "additive": OTHER_KEY | {"query_weight": (2, 4, 3), "key_weight": (2, 6, 3), "vector": (2, 3)},
  "attend": {
    "query": (2, 3, 2, 4),
    "key": (2, 5, 2, 4),
    "value": (2, 5, 2, 7),
    "bias": (2, 3, 5),
    "static_weights": (2, 3, 5),
    "mask": (2, 1, 3, 5),
  },
  "attend_pairs": {"weights": (2, 3, 5), "x": (2, 5, 3)},
  "attend_row_column": ROW_COLUMN | {"x": (2, 5, 7, 3)},
  "attention_weights": {"logits": (2, 2, 3, 5), "bias": (2, 3, 5), "mask": (1, 2, 1, 5)},
  "avg_pool": {"x": IMAGE},
  "bilinear": OTHER_KEY | {"weight": (2, 4, 6)},
  "causal_conv": {"x": (2, 5, 3), "kernel": (2, 3, 4)},
  "centred_bias": {"centre": (2, 5, 3, 2)},
  "clipped_logits": {"query": (2, 5, 3, 4), "table": (3, 4)},
  "clipped_values": {"weights": (2, 3, 5, 5), "table": (3, 4)},
  "conv": {"x": IMAGE, "kernel": (3, 3, 3, 4)},
  "cosine": QUERY_KEY,
  "depthwise_conv": DEPTHWISE,
  "depthwise_conv_grouped": DEPTHWISE,
  "depthwise_conv_shifted": DEPTHWISE,
  "dot": QUERY_KEY,
  "exact_match": QUERY_KEY,
  "max_pool": {"x": IMAGE},
  "neighbourhoods": {"x": IMAGE},
  "padding_mask": {"lengths": (3,)},
  "pair_weights": ROW_COLUMN,
  "parameter_free_attention": {"x": (2, 5, 3)},
  "quadratic_table": {"centre": (3, 2), "alpha": (3,)},
  "quadratic_table_general": {"centre": (3, 2), "root": (3, 2, 2)},
  "relative_bias": {"table": TABLE},
  "resize_table": {"table": TABLE},
  "relative_bias_gather": {"table": TABLE},
  "relative_bias_one_hot": {"table": TABLE},
  "row_column_logits": {"query": (2, 6, 3, 4), "rows": (3, 4), "columns": (5, 4)},
  "scaled_dot": QUERY_KEY,
  "skew": {"shifts": TABLE},
  "unskew": {"pairs": (2, 3, 3)},
  "weighted_sum": {"weights": (2, 2, 3, 5), "value": (2, 5, 2, 7)},
  "window_partition": {"x": (2, 4, 6, 3)},
  "window_reverse": {"windows": (8, 6, 3)},
}
OTHER = {
  "avg_pool": {"window": 2, "stride": 2},
  "centred_bias": {"grid": (2, 3), "deviation": 1.0},
  "max_pool": {"window": 2, "stride": 2},
  "neighbourhoods": {"window": 3},
  "padding_mask": {"keys": 4},
  "quadratic_table": {"grid": (2, 3)},
  "quadratic_table_general": {"grid": (2, 3)},
  "resize_table": {"grid": (4, 2)},
  "window_partition": {"window": (2, 3)},
  "window_reverse": {"window": (2, 3), "grid": (4, 6)},
}
NOT_ARRAYS = {
  "RESIZE_METHODS",
  "causal_mask",
  "log_shifts",
  "neighbour_mask",
  "relative_offsets",
  "shifted_window_mask",
  "sinusoids",
}
OF_ANY_SHAPE = {"dense_dot", "gelu"}  # what dense_dot refuses is in test_dense.py
