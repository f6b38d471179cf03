"""Every setting of an experiment: its type, its default and its meaning. There is no other place for a default.

A file in `configs/` returns an `Experiment` that names only what differs. `training.run` validates it once; nobody
writes to it afterwards (the classes are frozen).
"""

import dataclasses
from typing import Any


def setting(default: Any, meaning: str) -> Any:
  """A dataclass field with its default and the sentence that `--help` prints."""
  return dataclasses.field(default=default, metadata={"meaning": meaning})


def section(kind: type) -> Any:
  """A dataclass field that holds a nested group of settings."""
  return dataclasses.field(default_factory=kind)


@dataclasses.dataclass(frozen=True)
class Data:
  name: str = setting(
    "digits",
    "data set: 'digits' is embedded; 'folder': pictures in data.dir, a folder per class; or one that TFDS prepared",
  )
  dir: str = setting(
    "",
    "where prepared data lies; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets; of 'folder': what holds "
    "train/CLASS/*.jpg, validation/CLASS/*.jpg and perhaps test/CLASS/*.jpg",
  )
  classes: str = setting("", "labels to keep, such as '0-4' or '0,3,7', renumbered from 0 in this order; empty: all")
  images_per_class: int = setting(0, "training images to keep of each class; 0: all")
  subset_seed: int = setting(0, "which images those are")
  image_size: int = setting(0, "pixels per side that images are resized to; 0: as they come (of many sizes: 224)")
  broken: str = setting("stop", "a picture that cannot be read: 'stop', or 'skip' (the next one instead) and count it")
  workers: int = setting(0, "processes that decode and augment pictures; 0: this one, in threads")


@dataclasses.dataclass(frozen=True)
class Model:
  """A variant's name and what to change in its spec; None keeps the variant's own value (see models/spec.py).

  Every field of a spec but the layout itself (stages and stem), which is a row of models/variants.py.
  """

  name: str = setting("coatnet_mini_8", "a name of convattn.list_models()")
  stochastic_depth: float | None = setting(None, "rate of the last block; rises linearly from 0 at the first")
  pool: str | None = setting(None, "pooling in front of a strided stage: 'max', 'avg' or 'max3x3'")
  stem_bias: bool | None = setting(None, "biases in the stem's convolutions")
  conv_activation: str | None = setting(None, "of stem, MBConv, ConvNeXt: 'gelu' (exact), 'gelu_tanh', 'silu', 'relu'")
  conv_pre_norm_activation: bool | None = setting(None, "activation behind MBConv's first norm too")
  conv_stride: str | None = setting(
    None, "where MBConv strides: 'expand' (paper, eq. 5), 'depthwise' (Table 9) or 'pool' (a mean in front of it)"
  )
  conv_norm: str | None = setting(None, "norm of stem and convolution blocks: 'batch' or 'layer' (Table 8)")
  conv_norm_epsilon: float | None = setting(None, "added to the variance in stem and convolution blocks")
  conv_expansion: int | None = setting(None, "a convolution block's inner width over its outer width")
  conv_expand_from: str | None = setting(None, "that outer width is MBConv's 'output' or its 'input'")
  conv_bias: bool | None = setting(None, "biases in MBConv's shortcut and last product, and all of ConvNeXt's")
  conv_layer_scale: float | None = setting(None, "initial scale of ConvNeXt's branch; 0: no scale")
  squeeze_ratio: float | None = setting(None, "squeeze-and-excite's hidden width over MBConv's width")
  squeeze_from: str | None = setting(None, "that width is MBConv's 'output' or its 'expanded' one")
  squeeze_at: str | None = setting(None, "squeeze-and-excite 'after' or 'before' the depthwise convolution's norm")
  squeeze_activation: str | None = setting(None, "of squeeze-and-excite: 'gelu', 'gelu_tanh', 'silu' or 'relu'")
  relative_attention: str | None = setting(None, "'pre' or 'post' softmax (paper, section 2.1), or 'none'")
  relative_position: str | None = setting(None, "bias from a 'table', or an 'mlp' over log-spaced shifts")
  relative_hidden: int | None = setting(None, "hidden width of that MLP")
  relative_dropout: float | None = setting(None, "share of its hidden units dropped in training")
  table_resize: str | None = setting(None, "fit a table to the image in every call: 'none', 'bilinear' or 'timm'")
  head_size: int | None = setting(None, "width of one attention head")
  attention_width_from: str | None = setting(None, "attention is as wide as its block's 'output' or 'input'")
  attention_norm: str | None = setting(None, "norm of Transformer blocks and classifier: 'layer' or 'batch'")
  attention_norm_epsilon: float | None = setting(None, "added to the variance in Transformer blocks and classifier")
  attention_activation: str | None = setting(None, "of the feed-forward network, as conv_activation")
  attention_expansion: int | None = setting(None, "the feed-forward network's inner width over its output width")
  attention_shortcut_bias: bool | None = setting(None, "biases in a Transformer block's shortcut")
  attention_layer_scale: float | None = setting(None, "initial scale of a Transformer block's branches; 0: no scale")
  head: str | None = setting(
    None, "classifier: 'tanh' (mean, norm, dense, tanh, dense), 'plain' (mean, norm, dense) or 'norm_first'"
  )


@dataclasses.dataclass(frozen=True)
class Augmentation:
  crop_padding: int = setting(0, "pixels of zero padding before a random crop back to size; 0: no crop")
  flip: bool = setting(False, "mirror half of the images left to right")
  color_jitter: float = setting(0.0, "brightness, contrast, saturation times 1 - this to 1 + this, each; 0: as it is")
  mixup_alpha: float = setting(0.0, "mixing weight ~ Beta(alpha, alpha), one per batch; 0: no mixup")
  cutmix_alpha: float = setting(0.0, "so for rectangles pasted in; 0: no cutmix; with mixup a batch takes one of them")
  resized_crop_area: float = setting(1.0, "least share of a picture's area in a random resized crop; 1: no such crop")
  randaugment_layers: int = setting(0, "random operations on each picture, one after another; 0: no RandAugment")
  randaugment_magnitude: float = setting(15.0, "strength of each of them, 0 to 30 (CoAtNet: 2 layers of 15)")


@dataclasses.dataclass(frozen=True)
class Loss:
  kind: str = setting("softmax", "'softmax' cross-entropy, or 'sigmoid' (one binary cross-entropy per class, summed)")
  label_smoothing: float = setting(0.0, "share of the target that is spread evenly over all classes")


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """AdamW with global-norm clipping; norms, biases, bias tables and the networks that make them are not decayed."""

  peak_learning_rate: float = setting(1e-3, "learning rate at the end of the warm-up")
  end_learning_rate: float = setting(1e-5, "learning rate at num_steps, one past the last update ('constant': unused)")
  warmup_steps: int = setting(0, "steps of linear rise from 0 to the peak")
  schedule: str = setting("cosine", "after the warm-up: 'cosine', 'linear' or 'constant'")
  weight_decay: float = setting(0.05, "decoupled decay, times the learning rate")
  beta1: float = setting(0.9, "decay of the gradient's mean")
  beta2: float = setting(0.999, "decay of the gradient's second moment")
  epsilon: float = setting(1e-8, "added to the root of the second moment")
  clip_norm: float = setting(1.0, "largest global norm of a gradient; 0: no clipping")
  freeze: str = setting("", "parts that stay as they are, such as 'stem,stage_1,stage_2/block_0'; empty: none")
  layer_decay: float = setting(1.0, "learning rate times this per block between a layer and the classifier")


@dataclasses.dataclass(frozen=True)
class Compute:
  dtype: str = setting("float32", "computation: 'float32' or 'bfloat16'; parameters stay float32")
  matmul_precision: str = setting("default", "of float32 products: 'default', 'high' or 'highest'")
  remat: str = setting(
    "none", "recompute in the backward pass: 'none', 'block' (all but block inputs) or 'dots' (nor dense outputs)"
  )
  fsdp: int = setting(1, "devices that share one copy of parameters, averages and moments; divides their number")
  debug_nans: bool = setting(False, "stop at the operation that makes a nan (slow; with max_skipped_steps 0)")
  deterministic: bool = setting(False, "ask XLA for reproducible kernels on a GPU (slower)")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  every: int = setting(
    100, "steps between checkpoints, a multiple of eval_every or a part of it; the last is always saved"
  )
  keep_newest: int = setting(2, "newest checkpoints to keep")
  keep_best: int = setting(1, "best checkpoints by validation accuracy to keep as well")


@dataclasses.dataclass(frozen=True)
class Experiment:
  seed: int = setting(0, "initial parameters, dropout, augmentation and data order are functions of it and the step")
  num_steps: int = setting(1000, "updates to apply")
  batch_size: int = setting(64, "images per update, over all devices")
  eval_batch_size: int = setting(128, "images per evaluation batch, over all devices")
  micro_batches: int = setting(
    1, "equal parts of a batch, one after another, gradients averaged; BatchNorm sees one part at a time"
  )
  log_every: int = setting(10, "steps between lines of training metrics; each line averages the steps since the last")
  eval_every: int = setting(100, "steps between validations; the last step is always validated")
  ema_decay: float = setting(0.0, "decay of the running average of parameters and batch statistics; 0: none")
  max_skipped_steps: int = setting(
    0, "updates with a loss or gradient that is not finite to leave out before the run stops; 0: it stops at the first"
  )
  wandb_project: str = setting("", "project at Weights & Biases that gets the metrics too; empty: none")
  init_from: str = setting(
    "", "first weights: a run's workdir, a checkpoint, a timm tag or a .safetensors file for model.name; empty: drawn"
  )
  data: Data = section(Data)
  model: Model = section(Model)
  augmentation: Augmentation = section(Augmentation)
  loss: Loss = section(Loss)
  optimizer: Optimizer = section(Optimizer)
  compute: Compute = section(Compute)
  checkpoint: Checkpoint = section(Checkpoint)
