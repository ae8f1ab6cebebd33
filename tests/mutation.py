"""Small faults, one at a time: do the tests find each of them?

    python tests/mutation.py                  all faults, some minutes each for those in kernels
    python tests/mutation.py --sample 4       some of them, chosen by the date: what CI does
    python tests/mutation.py --only relu      those whose file or text contains a word

A copy of the tree is changed, and the tests that are named for the fault are run on it. A fault that no test finds is a
survivor: the program lists them, and ends with 1.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Fault(NamedTuple):
    """In `file`, the first `old` becomes `new`; one of `tests` is to fail: names of test files, and "-k WORD"."""

    file: str
    old: str
    new: str
    tests: str


FAULTS = [
    # the reference: what everything else is held to
    Fault("fastbp/_reference_layers.py", "copy=False) @ W + b", "copy=False) @ W", "layers networks"),
    Fault("fastbp/_reference_layers.py", "dout @ W.T if needs_dx", "dout @ W if needs_dx", "layers networks"),
    Fault("fastbp/_reference_layers.py", ".T @ dout, dout.sum(axis=0)", ".T @ dout, dout.mean(axis=0)", "layers networks"),
    Fault("fastbp/_reference_layers.py", "mask = x < 0 if strict else x <= 0", "mask = x < 0", "layers kernels"),
    Fault("fastbp/_reference_layers.py", "dx[np.arange(len(y)), t] -= 1", "dx[np.arange(len(y)), t] -= 2", "layers networks"),
    Fault("fastbp/_reference_layers.py", "return dx / y.dtype.type(len(y) or 1)", "return dx", "layers networks"),
    Fault("fastbp/_reference_layers.py", "mask = draws > ratio\n", "mask = draws >= ratio\n", "kernels -k draw"),
    Fault("fastbp/_reference_engine.py", "divisor = divisor or 1.0", "divisor = divisor", "terms"),
    Fault("fastbp/_reference_engine.py", "saved * saved.dtype.type(keep)", "saved", "terms"),
    Fault("fastbp/_reference_engine.py", "l2 / 2 * float", "l2 * float", "terms"),
    # losses
    Fault("fastbp/_losses.py", "y[np.arange(len(y)), labels] -= 1", "y[np.arange(len(y)), labels] += 1", "terms networks"),
    Fault("fastbp/_losses.py", "EPSILON = 1e-7", "EPSILON = 1e-5", "kernels layers networks"),
    Fault("fastbp/_losses.py", "(x - t) * (x - t) / 2", "(x - t) * (x - t)", "terms kernels"),
    Fault("fastbp/_losses.py", "np.clip(y - t, -1, 1)", "np.clip(y - t, 0, 1)", "terms"),
    Fault("fastbp/_losses.py", "size <= 1, size * size / 2, size - 0.5", "size <= 1, size * size / 2, size", "terms"),
    Fault("fastbp/_losses.py", "return first - t +", "return first +", "terms"),
    # checks
    Fault("fastbp/_checks.py", "weights.min() < 0", "weights.min() < -9", "callbacks"),
    Fault("fastbp/_checks.py", "t.min() >= 0 and t.max() <= 1", "t.min() >= 0", "losses inputs"),
    Fault("fastbp/_checks.py", "if t.size and not t.min() >= 0:", "if t.size and not t.min() >= -9:", "terms"),
    # layers, networks
    Fault("fastbp/_losses.py", "lambda y, t: np.sign(y - t)", "lambda y, t: y - t", "terms"),
    Fault("fastbp/layers/_losses.py", "return len(y) if self.reduction", "return 1 if self.reduction", "losses"),
    Fault("fastbp/nn.py", "math.sqrt(2 / inputs)", "math.sqrt(1 / inputs)", "networks"),
    Fault("fastbp/networks/_network.py", ".argmax(axis=1) == labels[rows]", ".argmin(axis=1) == labels[rows]", "networks training"),
    Fault("fastbp/networks/_network.py", "hits / len(x)", "hits / (len(x) + 1)", "networks training"),
    Fault("fastbp/networks/_engines.py", "loss * len(scores), delta", "loss, delta", "distributed sequential"),
    Fault("fastbp/networks/_engines.py", "rows + terms.first_row", "rows", "distributed"),
    Fault("fastbp/networks/_engines.py", "weights * row_losses", "row_losses", "sequential"),
    Fault("fastbp/networks/_network.py", "        finally:\n            self.statistics[...] = before", "        finally:\n            pass", "sequential"),
    Fault("fastbp/networks/_network.py", "setattr(layer, name, self._statistic_views[key])", "pass", "sequential"),
    Fault("fastbp/networks/_network.py", "x = x.copy()  # which", "pass  # which", "own_layers"),
    Fault("fastbp/networks/_planning.py", "if key in self.taken:", "if False:", "own_layers"),
    Fault("fastbp/networks/_engines.py", "network.statistics[...] = statistics", "pass", "sequential"),
    Fault("fastbp/networks/_engines.py", "noted_interrupts(patient=True)", "noted_interrupts()", "sequential"),
    Fault("fastbp/training/_run.py", "network.data_loss(x, t)", "network.loss(x, t)", "sequential"),
    Fault("fastbp/networks/_planning.py", "or not dropout.inverted", "", "sequential"),
    Fault("fastbp/networks/_planning.py", "or len(set(ratios[:-1])) > 1", "", "sequential"),
    Fault("fastbp/networks/_onnx.py", "x if layer.inverted else", "x if True else", "interchange"),
    Fault("fastbp/training/_distributed.py", "statistics /= statistics.dtype.type(self.communicator.Get_size())", "pass", "distributed"),
    Fault("fastbp/training/_run.py", "network.parameters[...], network.statistics[...], self.state[...], self.optimizer.steps = self.snapshot", "network.parameters[...], _, self.state[...], self.optimizer.steps = self.snapshot", "sequential"),
    Fault("fastbp/training/_run.py", "self.network.statistics[...] = saved.statistics", "pass", "sequential"),
    Fault("fastbp/training/_callbacks.py", "run.network.statistics[...] = self._best_statistics", "pass", "sequential"),
    Fault("kernels/layers/pooling.py", "part = load_scalar(dout, source + top * steps[2] + left * steps[3]) / dx", "part = load_scalar(dout, source + top * steps[2] + left * steps[3]) * dx", "image_layers"),
    Fault("kernels/runtime/arrays.py", "return sys.getrefcount(self.memory) == self.alone", "return True", "memory_pool sequential"),
    Fault("kernels/runtime/arrays.py", "self._drop(lambda block: block.used < self._times - TIMES_KEPT)", "pass", "memory_pool"),
    Fault("fastbp/training/_optimizers.py", "self.steps += 1", "self.steps += 2", "optimizers"),
    # runs, checkpoints, callbacks
    Fault("fastbp/training/_run.py", "done % self.evaluate_every == 0", "done % self.evaluate_every == 1", "training"),
    Fault("fastbp/training/_run.py", "self.optimizer.steps = saved.optimizer_steps", "self.optimizer.steps = 0", "checkpoints"),
    Fault("fastbp/training/_run.py", "self.state[...] = saved.parameters, saved.state", "self.state[...] = saved.parameters, 0", "checkpoints"),
    Fault("fastbp/training/_run.py", "max(0, self.iteration - passed)", "max(0, self.iteration - passed - 1)", "checkpoints"),
    Fault("fastbp/training/_run.py", "np.isfinite(losses).all()", "np.isfinite(losses).any()", "training"),
    Fault("fastbp/training/_callbacks.py", "sign * (value - self.best) > self.min_delta", "sign * (value - self.best) >= self.min_delta", "callbacks"),
    Fault("fastbp/training/_callbacks.py", "self._waited >= self.patience", "self._waited > self.patience", "callbacks"),
    Fault("fastbp/training/_callbacks.py", "run.optimizer.learning_rate = self._first", "pass", "callbacks"),
    Fault("fastbp/training/_callbacks.py", "run.losses[self._last :]", "run.losses", "callbacks"),
    # files
    Fault("fastbp/networks/_tensor_files.py", "!= _checksum(tensors, metadata)", "is None", "saving"),
    Fault("fastbp/networks/_saving.py", "if not np.isfinite(value).all():", "if False:", "saving"),
    Fault("fastbp/networks/_saving.py", "(module, name) not in self.ALLOWED", "False", "saving"),
    Fault("fastbp/_files.py", "os.replace(temporary, path)", "path.write_bytes(content)", "saving interchange"),
    Fault("fastbp/datasets/pictures.py", "CENTRE = 14.5", "CENTRE = 13.5", "predicting"),
    Fault("fastbp/datasets/idx.py", "len(content) < header", "len(content) < 0", "datasets"),
    # estimators, several processes
    Fault("fastbp/sklearn.py", "l2_divided=True", "l2_divided=False", "sklearn"),
    Fault("fastbp/_sklearn_epochs.py", "/ (one.t_ + 1) ** one.power_t", "/ one.t_ ** one.power_t", "sklearn"),
    Fault("fastbp/sklearn.py", "self._random_state.shuffle(places)", "np.random.RandomState(0).shuffle(places)", "sklearn"),
    Fault("fastbp/training/_distributed.py", "batch < self.first_row + self.samples", "batch <= self.first_row + self.samples", "distributed"),
    Fault("fastbp/training/_distributed.py", "gradient /= parameters.dtype.type(divisor)", "gradient /= 1", "distributed"),
    # kernels
    Fault("kernels/runtime/sums.py", "load_scalar(sums, (LEVELS - 1) * columns + j) + number", "number", "kernels -k affine"),
    Fault("kernels/runtime/sums.py", "if i % BLOCK == BLOCK - 1:\n        _carry", "if i % BLOCK == BLOCK:\n        _carry", "sums"),
    Fault("kernels/gemm/nonzeros.py", "place += np.intp(load_scalar(bits, start + k) != 0)", "place += 1 - np.intp(load_scalar(bits, start + k) != 0)", "sparse_products -k not_zero"),
    Fault("kernels/gemm/nonzero_columns.py", "like if is_first else load_vectors", "like if True else load_vectors", "sparse_products -k gradient"),
    Fault("kernels/gemm/nonzero_columns.py", "which = left + column - first_column(x, top + left)", "which = k", "sparse_products -k gradient"),
    Fault("kernels/gemm/nonzero_columns.py", "return exchange_bits(square, np.uint64(28), np.uint64(0x00000000F0F0F0F0))", "return square", "sparse_products -k gradient"),
    Fault("kernels/gemm/nonzeros.py", "return out if not zeros_times_W.any() else None", "return out", "sparse_products -k not_zero"),
    Fault("fastbp/dropin/beginning/idling.py", "            self._watch_for_objects()\n", "", "dropin_small_calls -k small_calls_gets"),
    Fault("kernels/runtime/sums.py", "store_scalar(sums, columns + j, 0)", "store_scalar(sums, columns + j, 1)", "kernels -k affine"),
    Fault("kernels/runtime/sums.py", "        lower = 0.0", "        lower = lower", "sums"),
    Fault("kernels/runtime/sums.py", "if i % BLOCK == BLOCK - 1:\n        upper", "if i % BLOCK == BLOCK:\n        upper", "sums"),
    Fault("kernels/layers/batch_normalization.py", "store_scalar(mean, j, load_scalar(sums, j) / rows)", "store_scalar(mean, j, load_scalar(sums, j))", "kernels image_layers"),
    Fault("kernels/layers/batch_normalization.py", "two / rows * (half", "two * (half", "kernels image_layers"),
    Fault("kernels/layers/convolution.py", "store(array, total, add(load(array, total), left))", "store(array, total, left)", "kernels image_layers"),
    Fault("kernels/gemm/transposing.py", "else count + k - distance", "else count + k", "simd -k transposed"),
    Fault("kernels/runtime/simd.py", "if config.BOUNDSCHECK and count:", "if config.BOUNDSCHECK and count > 9:", "simd"),
    Fault("kernels/runtime/magnitude.py", "maximum(multiply(minus, left), even)", "even", "magnitude"),
    Fault("fastbp/networks/_network.py", "self.parameters, self.statistics = self.parameters.copy()", "self.parameters, self.statistics = self.parameters", "networks -k copies"),
    Fault("kernels/layers/softmax_cross_entropy.py", "EPSILON = 1e-7", "EPSILON = 1e-6", "kernels -k softmax"),
    Fault("kernels/gemm/product.py", "gate if k + deep >= depth else np.intp(AS_IT_IS)", "gate", "kernels -k wide"),
    Fault("kernels/gemm/product.py", "bias if k == 0 else np.intp(-1)", "bias if k < 0 else np.intp(-1)", "kernels -k network"),
    Fault("kernels/gemm/microkernel.py", "sums[i] if is_first else add(sums[i], load(c.array, place))", "sums[i]", "kernels -k affine"),
    Fault("kernels/gemm/shared_product.py", "if below > 0:", "if False:", "kernels -k more_than_one_block"),
    Fault("kernels/gemm/shared_product.py", "if not is_whole or not is_packed:", "if not is_packed:", "kernels -k more_than_one_block"),
    Fault("kernels/gemm/shared_product.py", "load_scalar(bias, right - rest + j) if j < rest else 0", "load_scalar(bias, j) if j < rest else 0", "kernels -k affine"),
    Fault("kernels/gemm/microkernel.py", "z = place + epilogue.z_offset", "z = place", "kernels -k network"),
    Fault("kernels/gemm/microkernel.py", "    for i in range(rows):\n        finish_row(c, i", "    for i in range(rows - 1):\n        finish_row(c, i", "kernels -k network"),
    Fault("kernels/layers/tanh.py", "near = x if x == kind(0) else near", "near = near", "kernels -k zeros"),
    Fault("kernels/layers/leaky_relu.py", "SLOPE = 0.01", "SLOPE = 0.02", "terms networks"),
    Fault("kernels/layers/target_losses.py", "else abs(difference) - 0.5", "else abs(difference)", "terms"),
    Fault("kernels/engine/loss.py", "scale = arena.dtype.type(weight / divisor)", "scale = arena.dtype.type(1 / divisor)", "terms"),
    Fault("kernels/engine/loss.py", "y[label] = probability - kind(1)", "y[label] = probability - kind(2)", "terms kernels -k network"),
    Fault("kernels/engine/loss.py", "return total if total != 0 else 1.0", "return total", "terms"),
    Fault("kernels/engine/update.py", "            parameter += after", "            parameter -= after", "optimizers"),
    Fault("kernels/engine/update.py", "1 - settings[DECAY2] ** rule.step", "1 - settings[DECAY2]", "optimizers"),
    Fault("kernels/layers/weight_decay.py", "for i in range(whole, x.size):", "for i in range(whole, x.size - 1):", "kernels -k weight_decay"),
    Fault("fastbp/dropin/networks/expressions.py", "getattr(self._names.get(module), name, None) is NUMPYS[name]", "True", "dropin_products -k numpys"),
    Fault("kernels/engine/dropout.py", "scale if kept else arena.dtype.type(0)", "scale if kept else load_scalar(arena, numbers + j)", "terms"),
    Fault("kernels/layers/dropout.py", "np.uint64(11) < bound", "np.uint64(11) > bound", "terms"),
    Fault("kernels/engine/layer.py", "total += reduce_add(squares)", "total = reduce_add(squares)", "terms"),
    Fault("kernels/layers/activations.py", "load_scalar(delta, d0 + i) * (one - y) * y)", "load_scalar(delta, d0 + i) * y)", "terms"),
    Fault("kernels/layers/activations.py", "load_scalar(delta, d0 + i) * (one - y * y))", "load_scalar(delta, d0 + i) * (one - y))", "terms"),
    Fault("fastbp/dropin/reading/sizes.py", "and is_sure_index(node.slice, names)", "and True", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/sizes.py", "(called in _BY_NUMBERS or (", "((", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/sizes.py", "(verdict := names.reader.each_result(node, names, test)) is not None", "False", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/sizes.py", "        return has_sure_dimensions(node.value, names) if", "        return True if", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/screening.py", "            self.loop(node.iter)\n", "", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/resolving.py", "settings, those(is_shape, True), those(is_flag, True)", "settings, those(is_shape, True), None", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/lists.py", "- arguments - _looked_at(function)", "- arguments", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/sizes.py", "        for name in also_called(changed, assigned):\n            assigned.setdefault(name, []).append(value)", "        pass", "dropin_variants -k more_than_compute"),
    Fault("fastbp/dropin/reading/lists.py", "if isinstance(value, ast.Name)}", "if False}", "dropin_variants -k more_than_compute"),
    Fault("kernels/engine/layout.py", "(BACK, back_address)", "(BACK, forward_address)", "activations"),
    Fault("kernels/engine/evaluation.py", "hits[8 * chunk] +=", "hits[8 * chunk] =", "training networks"),
    Fault("kernels/engine/layout.py", "np.where(np.array(inputs) > 0, layout[:, INPUT], layout[:, Z])", "layout[:, Z]", "activations"),
    Fault("kernels/engine/step.py", "while order[first + count - 1] < 0:", "while order[first + count - 1] < -1:", "training"),
    Fault("kernels/engine/sparse_layer.py", "bias = partial_sums(call.network, place.chunk, batch.count), np.intp(-1)", "bias = partial_sums(call.network, place.chunk, batch.count), layout[0, B]", "sparse_steps"),
    Fault("kernels/engine/sparse_layer.py", "add(load(arena, out + i), load(arena, partial + i))", "load(arena, partial + i)", "sparse_steps"),
    Fault("kernels/engine/sparse_layer.py", "min(high, call.network.layout[0, SIZE])", "low", "sparse_steps"),
    Fault("kernels/engine/sharing.py", "bounds[-1] = len(pairs_before) - 1", "pass", "sparse_steps"),
    Fault("kernels/engine/sharing.py", "largest * threads <= UNEVEN", "0 * threads <= UNEVEN", "sparse_steps -k one_place"),
    Fault("kernels/gemm/sparse_rows.py", "bounds, ahead = ahead, bounds_ahead(data, rows, r + 1, block)\n                out", "bounds = ahead\n                out", "sparse_steps"),
    Fault("kernels/engine/evaluation.py", "value > best or", "value >= best or", "kernels -k equal_scores"),
    Fault("kernels/engine/layout.py", "store_scalar(arena, target + offset + j, load_scalar(vector, start + k * columns + left + j))", "store_scalar(arena, target + offset + j, load_scalar(vector, start + k * columns + j))", "kernels -k network"),
    Fault("kernels/runtime/chunks.py", "yield count * chunk // threads, count * (chunk + 1) // threads", "yield count * chunk // threads, count * (chunk + 1) // threads - (chunk == 1)", "threads"),
    Fault("kernels/runtime/chunks.py", "return count * chunk // chunk_count, count * (chunk + 1) // chunk_count", "return count * chunk // chunk_count, count * (chunk + 1) // chunk_count - (chunk == 1)", "threads kernels"),
    Fault("kernels/runtime/chunks.py", "atomic_load(control, DONE) < phase * chunk_count and", "atomic_load(control, DONE) < phase * chunk_count - 1 and", "threads"),
    Fault("kernels/runtime/threads.py", "        self.control = control_of(len(self.workers) + 1)\n\n", "\n", "threads -k left_out"),
    Fault("kernels/runtime/mailbox.py", "if not compare_exchange(mailboxes, line + STATE, OPEN, FREE):", "if True:", "threads -k keeps_nothing or comes_late"),
    Fault("kernels/runtime/threads.py", "        self.control[CANCELLED] = 1\n", "", "threads -k give_up"),
    Fault("kernels/runtime/threads.py", "self.held.append((self.control, arguments))", "pass", "threads -k left_out"),
    Fault("kernels/engine/step.py", "total += summed[8 * other + which]", "total += summed[8 * other]", "terms"),
    Fault("kernels/runtime/cache.py", "if _checksum(path, payload) != digest:", "if False:", "compiler kernel_cache"),
    Fault("kernels/runtime/cache.py", "status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)", "False", "compiler"),
    # the drop-in
    Fault("fastbp/dropin/beginning/calls.py", "self.work += counted", "self.work += __import__('random').random() / 300", "dropin_reproducible -k five"),
    Fault("fastbp/dropin/operations/layers.py", "return labels if is_tame(x) else None", "return labels", "dropin_reproducible -k warnings"),
    Fault("fastbp/dropin/beginning/calls.py", "self.work - self.SMALL * self.small + coming", "self.work", "dropin_reproducible -k before_a_call"),
    Fault("fastbp/dropin/beginning/calls.py", "if self._is_due and not self.over:", "if False:", "dropin_first_run -k begin_with_a_loop"),
    Fault("fastbp/dropin/beginning/calls.py", "not (may_wait and worth < self.OVERDUE * self.SECONDS)", "True", "dropin_first_run -k begin_with_a_loop"),
    Fault("fastbp/dropin/beginning/ahead.py", "available_threads() < 2", "False", "dropin_first_run -k does_not_repay"),
    Fault("kernels/runtime/cache.py", "not self.count() and is_at_it()", "is_at_it()", "dropin_first_run -k waited_for"),
    Fault("kernels/layers/stack_chunks.py", "if zero == 0 else", "if True else", "affine_stack -k finite"),
    Fault("kernels/layers/affine_stack.py", "each, sparse, needs_dx, products, drops), (space", "each, sparse, False, products, drops), (space", "affine_stack -k numpy_backend"),
    Fault("kernels/layers/affine_network.py", "here = space_back, zeros", "here = space, zeros", "affine_network -k last_bit"),
    Fault("kernels/layers/affine_network.py", "largest.fill(0)", "pass", "affine_network -k not_finite"),
    Fault("kernels/layers/affine_network.py", "(kept.rows, kept.threads, kept.dtype) != (len(x), threads, x.dtype)", "kept.rows != len(x)", "affine_network -k sizes_may_change"),
    Fault("kernels/layers/softmax_cross_entropy.py", "is_class = 0 <= label < classes", "is_class = True", "affine_network -k no_class"),
    Fault("kernels/layers/softmax_cross_entropy.py", " or (number != number and largest == largest)", "", "affine_network -k first_maximum"),
    Fault("fastbp/dropin/networks/steps.py", " or found.loss in own", "", "dropin_network_calls -k another_now"),
    Fault("fastbp/dropin/networks/steps.py", " or loss.predict in own", "", "dropin_network_calls -k another_now"),
    Fault("fastbp/dropin/networks/steps.py", "if made.__dict__.get(name) not in functions:", "if False:", "dropin_network_calls -k another_now"),
    Fault("fastbp/dropin/reading/network_methods.py", "if any(is_read_in(after, name) for name in set_names):", "if False:", "dropin_network_calls -k other_networks"),
    Fault("fastbp/dropin/networks/written_networks.py", "if {kept}_{a} is not {kept}_{b}: {PASS_ON}", "pass", "dropin_network_calls -k twice"),
    Fault("fastbp/dropin/operations/network_stacks.py", "if math.isnan(loss):", "if False:", "dropin_network_calls -k no_class"),
    Fault("fastbp/dropin/operations/network_stacks.py", "if not largest < TAME[weights[0].itemsize]:", "if False:", "dropin_network_calls -k hide"),
    Fault("kernels/layers/stack_chunks.py", "one, largest = dout.dtype.type(1), largest_in(dout, start, start + count)", "one, largest = dout.dtype.type(1), dout.dtype.type(0)", "dropin_stack_calls -k mask_would_hide"),
    Fault("kernels/layers/stack_chunks.py", "sparse = sparse and largest[other * LINE] < math.inf", "pass", "affine_stack -k not_finite"),
    Fault("kernels/layers/stack_chunks.py", "largest = max(largest, largest_in(dout, start, start + count))", "pass", "affine_stack -k sigmoid_that"),
    Fault("kernels/layers/stack_chunks.py", "here = largest_in(db, 0, columns)", "pass", "affine_stack -k overflows"),
    Fault("fastbp/__main__.py", "        import_numpy()\n        from .dropin import command\n", "        from .dropin import command\n\n        import_numpy()\n", "import -k timeout"),
    Fault("fastbp/dropin/reading/statements.py", "if numbers.issuperset(reads) and all(one[0].isdisjoint(sets) for one in groups):", "if False:", "dropin_fusing_parts -k two_shapes"),
    Fault("fastbp/dropin/networks/fusing.py", "are_apart = len(set().union(*owners)) == sum(map(len, owners))", "are_apart = True", "dropin_fusing_parts -k share_memory"),
    Fault("fastbp/dropin/objects/kept.py", " and key not in self", "", "dropin_stack_calls -k kept_begins"),
    Fault("fastbp/dropin/networks/fusing.py", " or not are_programs", "", "dropin_fusing_parts -k two_programs"),
    Fault("fastbp/dropin/beginning/estimates.py", "is_dense = _is_dense.get(weights.shape, False)", "is_dense = False", "dropin_reproducible -k dense"),
    Fault("fastbp/dropin/trials/prospects.py", " or not family.may_give(result, arguments)", "", "dropin_prospects -k channels"),
    Fault("fastbp/dropin/operations/stacks.py", " or array.shape != shape or array.dtype is not dtype", "", "dropin_stack_calls -k changed_in_place"),
    Fault("fastbp/dropin/networks/stacking.py", "layers = list(copy.copy(iterable))", "layers = list(iterable)", "dropin_stacks -k iterator"),
    Fault("fastbp/dropin/auditing.py", "    if id(argument) in doubles:\n        return doubles[id(argument)]\n", "", "dropin_stack_calls -k twice"),
    Fault("fastbp/dropin/reading/loops.py", "_is_read_outside(node, name) for name", "False for name", "dropin_stacks -k other_loops"),
    Fault("fastbp/dropin/networks/stacking.py", "return _Listed(layers, flagged) if has_flag else None", "return _Listed(layers, ())", "dropin_stacks -k other_loops"),
    Fault("fastbp/dropin/beginning/idling.py", "self._init is not None and vars", "vars", "dropin_small_calls -k no_kernel"),
    Fault("fastbp/dropin/networks/stacking.py", "    loop.statement.iter = ast.copy_location(ast.Name(LAYERS, ast.Load()), loop.statement.iter)\n", "", "dropin_stacks -k one_by_one"),
    Fault("fastbp/dropin/networks/expressions.py", "if LOOKING.isdisjoint(code.co_names):", "if True:", "dropin_stacks -k other_loops"),
    Fault("fastbp/dropin/networks/stacking.py", "        one.decide(layer, arguments)\n", "", "dropin_stacks -k its_layers_would"),
    Fault("fastbp/dropin/operations/stacks.py", "                return WASTED\n", "                pass\n", "dropin_stack_calls -k warnings"),
    Fault("fastbp/dropin/operations/stacks.py", 'if name == "relu" and not is_matrix(value, _BOOL, following.shape):', "if False:", "dropin_stack_calls -k another_batch"),
    Fault("kernels/runtime/tuning.py", "second < MARGIN * first if is_found", "second > MARGIN * first if is_found", "tuning"),
    Fault("kernels/runtime/tuning.py", "min(self._shortest[self.is_second], now - self._start)", "now - self._start", "tuning -k now_and_then"),
    Fault("kernels/runtime/tuning.py", "self._tried, self._shortest = 0, [math.inf] * 2", "self._tried = 0", "tuning -k again"),
    Fault("kernels/layers/normalized_stack.py", "share * off * off", "off * 0", "normalized_stack -k numpy_backend"),
    Fault("kernels/layers/normalized_stack.py", "(i % 2 * sums.chunk_count + chunk)", "chunk", "normalized_stack -k numpy_backend"),
    Fault("kernels/layers/normalized_stack.py", "(2 * sums.chunk_count + thread)", "(sums.chunk_count + thread)", "normalized_stack -k numpy_backend"),
    Fault("kernels/layers/normalized_stack.py", "(direct * load_scalar(array, j) + centred", "(0 * load_scalar(array, j) + centred", "normalized_stack -k numpy_backend"),
    Fault("kernels/layers/normalized_stack.py", "min(rows, max(LEAST_CHUNKS, min(threads_for(1, 0), rows // ROWS_OF_CHUNK)))", "threads_for(1, 0)", "normalized_stack -k bits"),
    Fault("kernels/layers/normalized_stack.py", "for which in (GAMMAS, BETAS, MEANS, VARIANCES):", "for which in (GAMMAS, MEANS, VARIANCES):", "normalized_stack -k not_finite"),
    Fault("kernels/layers/normalized_stack.py", "max(largest_in(dgamma, 0, columns), largest_in(dbeta, 0, columns))", "dgamma.dtype.type(0)", "normalized_stack -k gradients_that"),
    Fault("kernels/layers/normalized_stack.py", "max(largest[place], largest_in(at(ys, i - 1), first * depth, end * depth))", "largest[place]", "normalized_stack -k sigmoid"),
    Fault("fastbp/dropin/operations/normalized_stacks.py", "count != len(dout) or ", "", "dropin_normalized_stacks"),
    Fault("fastbp/dropin/operations/normalized_stacks.py", "not _are_vectors((gamma, beta, mean, variance), b.shape)", "False", "dropin_normalized_stacks -k does_not_fit"),
    Fault("fastbp/dropin/operations/normalized_stacks.py", "not is_matrix(xc, FLOAT, expected) or ", "", "dropin_normalized_stacks -k changed_before"),
    Fault("fastbp/dropin/networks/written_stacks.py", 'yield f"if len({{{', 'yield f"if False and len({{{', "dropin_normalized_stacks -k twice"),
    Fault("fastbp/dropin/networks/written_stacks.py", "if form.train is value:", "if form.train:", "dropin_normalized_stacks -k passed_on"),
    Fault("fastbp/dropin/networks/written_stacks.py", "if parts.norms[-1] is not None:", "if False:", "dropin_normalized_stacks -k no_stack"),
    Fault("kernels/layers/stack_chunks.py", "factor = scale if load_scalar(keep, j) else", "factor = scale if True else", "affine_stack -k dropout"),
    Fault("kernels/layers/stack_chunks.py", "elif scale != 1:", "elif False:", "affine_stack -k dropout"),
    Fault("kernels/layers/stack_chunks.py", "largest[MISSED] = 1", "pass", "affine_stack -k then_are_not"),
    Fault("kernels/layers/affine_stack.py", "if not largest[MISSED]:", "if True:", "affine_stack -k then_are_not"),
    Fault("fastbp/dropin/operations/network_stacks.py", "len(rows) < MANY_ROWS and ", "", "dropin_network_calls -k large_enough"),
    Fault("fastbp/dropin/operations/network_stacks.py", "weights, biases, LEAST_OF_STEP)", "weights, biases, LEAST_PRODUCT)", "dropin_network_calls -k large_enough"),
    Fault("kernels/layers/affine_network.py", "vars(self._of_thread).clear()", "pass", "affine_network -k then_are_not"),
    Fault("kernels/layers/normalized_stack.py", "OF_RUNNING if one[4] is None else OF_BATCH", "OF_BATCH", "normalized_stack -k running_means"),
    Fault("fastbp/dropin/operations/stacks.py", "drawn.undo()", "pass", "dropin_dropout_stacks -k drawn"),
    Fault("fastbp/dropin/operations/stacks.py", "abs(scale) <= LARGEST_SCALE", "True", "dropin_dropout_stacks -k is_kept"),
    Fault("fastbp/dropin/operations/stacks.py", "not is_matrix(mask, _BOOL, following.shape):", "False:", "dropin_dropout_stacks -k changed_before"),
    Fault("fastbp/dropin/networks/written_stacks.py", '"out" in given or "x" in values', "False", "dropin_dropout_stacks -k keeps"),
    Fault("fastbp/dropin/networks/stacking.py", "flagged = tuple([bool(test(one)) for one in given])", "flagged = (False,) * len(layers)", "dropin_dropout_stacks -k called_otherwise"),
    Fault("fastbp/dropin/reading/screening.py", "names[name.id] is not is_negated", "True", "dropin_attributes -k of_the_module"),
    Fault("fastbp/dropin/reading/screening.py", "type(names.get(name.id)) is not bool", "False", "dropin_attributes -k of_the_module"),
    Fault("fastbp/dropin/reading/loops.py", "if _is_read_outside(statement, name):", "if False:", "dropin_stacks -k other_loops"),
    Fault("fastbp/dropin/reading/loops.py", "if _is_known(loop.flag, is_set):", "if True:", "dropin_normalized_stacks -k left"),
    Fault("fastbp/dropin/networks/stacking.py", "if flagged and type(flag) is not bool:", "if False:", "dropin_normalized_stacks -k passed_on"),
    Fault("fastbp/dropin/networks/written_stacks.py", ' and values.isdisjoint({"dx", "dout"})', "", "dropin_stacks -k something_else"),
    Fault("fastbp/dropin/networks/written_stacks.py", 'f"if {name!r} in vars(self): {PASS_ON}"', '"pass"', "dropin_stack_calls -k put_into"),
    Fault("fastbp/dropin/auditing.py", "for prefix, layer, double in _layers_in(argument, copy):", "for prefix, layer, double in ():", "dropin_stack_calls -k audit_compares"),
    Fault("fastbp/dropin/reading/screening.py", "if not is_of_shapes(node, self.shapes, self.given.settings):", "if False:", "dropin_variants -k more"),
    Fault("fastbp/dropin/trials/functions.py", "if not same(in_arrays(random_state()), before):", "if False:", "dropin_functions -k something_else"),
    Fault("fastbp/dropin/trials/functions.py", "and fits(shape, window)", "", "dropin_functions -k some_windows"),
    Fault("fastbp/dropin/trials/functions.py", "(self._own.__defaults__ or ())[-missing:]", "(1, 0)[-missing:]", "dropin_functions -k own_defaults"),
    Fault("fastbp/dropin/trials/functions.py", "one.module.get(one.name) is not one.function for one in self._helpers", "False for one in self._helpers", "dropin_functions -k changes_later"),
    Fault("fastbp/dropin/trials/functions.py", "not same(given[0], arguments[0], exactly=True) or ", "", "dropin_functions -k something_else"),
    Fault("fastbp/dropin/networks/stacking.py", " or not self.takes(layers, flagged, flag):", ":", "dropin_diverged -k put_there_later"),
    Fault("fastbp/dropin/networks/stacking.py", "or any(self.method in vars(layer) for layer in layers)", "", "dropin_diverged -k put_there_later"),
    Fault("fastbp/dropin/trials/guesses.py", "{path: OLD.get(role, role) for", "{path: role for", "dropin_choices -k any_formula"),
    Fault("fastbp/dropin/trials/families.py", "(1, 1.0, 2.5)[place % 3]", "(1, 1.0, 2.5)[place % 2]", "dropin_choices -k multiplies"),
    Fault("fastbp/dropin/trials/classes.py", "paths = list(dict.fromkeys([*screened.reads, *trial.kept]))", "paths = [*screened.reads, *trial.kept]", "dropin_choices -k keeps_its_input"),
    Fault("fastbp/dropin/trials/verification.py", "kinds.setdefault(kind, []).append(not difference)", "kinds.setdefault(_kind(form, subject, given[0], layers[0], binding), []).append(not difference)", "dropin_choices -k reduction"),
    Fault("fastbp/dropin/trials/verification.py", "if not same(states[0], states[1]):", "if False:", "dropin_variants -k more"),
    Fault("fastbp/dropin/trials/subjects.py", "elif attribute_name(path) in self.sets or not is_constant(value):", "elif attribute_name(path) in self.sets:", "dropin_attributes -k plain_number"),
    Fault("fastbp/dropin/trials/subjects.py", 'conditions.append(f"{path}.__class__ is {type(value).__name__} and {path} == {value!r}")', "pass", "dropin_attributes"),
    Fault("fastbp/dropin/operations/writing.py", "if {'' if form.train else 'not '}{form.flag}:", "if {'' if form.train else 'not '}True:", "dropin_attributes -k trains"),
    Fault("fastbp/dropin/trials/remembering.py", "seen.update(repr((name, _of_value(value))).encode()", "seen.update(repr((name, 0)).encode()", "dropin_remembering -k depends"),
    Fault("fastbp/dropin/trials/prospects.py", "largest = np.max(np.abs(some), initial=0)", "largest = np.inf", "dropin_prospects -k none"),
    Fault("fastbp/dropin/networks/expressions.py", "return out if is_tame(out) or is_silent(b, a) else PASS\n\n\ndef sum_of_squares", "return out\n\n\ndef sum_of_squares", "dropin_products -k stay"),
    Fault("fastbp/dropin/rounding.py", 'yield from parts_of(f"{name}[{key!r}]", part)', "yield from parts_of(name, part)", "dropin_audit -k each_part"),
    Fault("fastbp/dropin/trials/guesses.py", "unexplained = [target for target, found in sets.items() if not found]", "unexplained = []", "dropin_variants"),
    Fault("fastbp/dropin/operations/recurrent.py", "if not (largest < LARGEST", "if not (largest < 1e9 * LARGEST", "dropin_recurrent -k warns"),
    Fault("fastbp/dropin/operations/recurrent.py", "if is_tame(x, h, db, dx, dh_prev) else WASTED", "if True else WASTED", "dropin_recurrent -k warns"),
    Fault("fastbp/dropin/operations/recurrent.py", "or not all(one is other for one, other in zip((Wx, Wh)", "or not all(True for one, other in zip((Wx, Wh)", "dropin_in_time -k replaced_in_between"),
    Fault("fastbp/dropin/objects/cells.py", "if not all(vars(made).get(name) in", "if False and not all(vars(made).get(name) in", "dropin_in_time -k class_of_steps"),
    Fault("fastbp/dropin/objects/cells.py", "            except Exception:\n", "            except ImportError:\n", "dropin_in_time -k made_or_called"),
    Fault("fastbp/dropin/trials/subjects.py", "first_rows(values[role]) for role in STATES", "values[role] for role in STATES", "dropin_in_time -k state_already"),
    Fault("fastbp/dropin/trials/classes.py", "            takes_its_steps(method, made)\n", "            pass\n", "dropin_in_time -k otherwise"),
    Fault("fastbp/dropin/objects/cells.py", "if any(form[0].where for form in forms)", "if any([])", "dropin_in_time"),
    Fault("fastbp/dropin/rounding.py", "if names & _RECURRENT:", "if names & set():", "dropin_in_time -k cancelled"),
    Fault("kernels/layers/lstm.py", "* (one - candidate * candidate)", "* (one - candidate)", "lstm"),
    Fault("fastbp/dropin/trials/drawing.py", "SCALES = (1.0, 1e60,", "SCALES = (1.0, 1.0,", "dropin_variants -k else"),
    Fault("fastbp/dropin/operations/writing.py", "        return self.calls % self.AGAIN != 0", "        return False", "dropin_variants -k diverged"),
    Fault("fastbp/dropin/reading/dropped_gradient.py", "for part in (*after, *inner)", "for part in ()", "dropin_networks -k gradient_of_their"),
    Fault("fastbp/dropin/operations/optimizers.py", "np.ascontiguousarray(one)", "one.T.reshape(one.shape)", "dropin_networks -k last_bit"),
    Fault("fastbp/dropin/operations/optimizers.py", "if len(owners) < len(parameters) * len(found):", "if False:", "dropin_networks -k one_memory"),
    Fault("kernels/runtime/tables.py", "length = builder.mul(length, ", "length = builder.add(length, ", "simd -k offsets"),
    Fault("kernels/runtime/threads.py", "_pool.hold((arguments, kept))", "_pool.hold(arguments)", "threads -k earlier"),
    Fault("kernels/runtime/tables.py", "builder.add(first, arguments[1])", "arguments[1]", "tables exact_update -k array_code"),
    Fault("kernels/engine/exact_update.py", "return 0, size if chunk == 0 else 0", "return 0, size", "exact_update -k array_code"),
    Fault("kernels/engine/exact_update.py", "slots = Table(addresses, 2 * count, largest)", "slots = Table(addresses, count, largest)", "exact_update -k array_code"),
    Fault("kernels/engine/exact_update.py", "is_tame and largest[thread * LINE] < tame", "not largest[thread * LINE] >= tame", "exact_update -k tame"),
    Fault("fastbp/dropin/trials/restrictions.py", '    return f"{rests[0]} == {rests[1]} == 0"', '    return "True"', "dropin_images -k index"),
    Fault("fastbp/dropin/operations/layers.py", "is_silent(b, W, rows) else WASTED", "True else WASTED", "dropin_diverged -k warns"),
    Fault("fastbp/dropin/operations/layers.py", "not is_silent(dout, W, rows)", "not is_silent(W, rows)", "dropin_diverged -k warns"),
    Fault("kernels/runtime/magnitude.py", "if ignore_nan or zero == 0", "if zero == 0", "magnitude"),
    Fault("fastbp/dropin/objects/global_random.py", "            np.random.set_state(state)\n", "            pass\n", "dropin_prospects -k before"),
    Fault("fastbp/dropin/objects/global_random.py", "        put(before)\n", "        pass\n", "dropin_surroundings -k generator"),
    Fault("fastbp/dropin/objects/marks.py", "isinstance(mark, Mark) and mark.function is function", "isinstance(mark, Mark)", "dropin_surroundings -k as_often"),
    Fault("fastbp/dropin/reading/dropped_gradient.py", 'vars(owner)["backward"] in accelerated', "True or accelerated", "dropin_surroundings -k subclass"),
    Fault("fastbp/dropin/reading/dropped_gradient.py", "if gradient in outer_names(node):", "if False:", "dropin_surroundings -k global_variable"),
    Fault("fastbp/dropin/patching.py", "forms.only_for(None, tuple(helpers))", "forms", "dropin_surroundings -k anew"),
    Fault("fastbp/dropin/operations/optimizers.py", "if not hold_values(self, attributes):", "if False:", "dropin_surroundings -k as_often"),
    Fault("fastbp/dropin/ending.py", "if not _may_act(gc.get_objects()):", "if True:", "dropin_ending -k acts"),
    Fault("fastbp/dropin/trials/prospects.py", "None if is_large else copied(value)", "value", "dropin_prospects -k before"),
    Fault("fastbp/dropin/beginning/idling.py", "2 * self._wakes_at", "1 + self._wakes_at", "dropin_small_calls -k seldom"),
    Fault("fastbp/dropin/operations/images.py", "dx = dx[:, :, pad:-pad, pad:-pad] if is_framed else dx", "dx = dx[:, :, :-2 * pad, :-2 * pad] if is_framed else dx", "dropin_images -k frame"),
    Fault("fastbp/dropin/objects/arguments.py", "x.transpose(0, 2, 3, 1)).reshape(-1, x.shape[1])", "x.transpose(0, 3, 2, 1)).reshape(-1, x.shape[1])", "dropin_images -k channel"),
    Fault("fastbp/dropin/reading/statements.py", "if any(_is_part(place, node)", "if False and any(_is_part(place, node)", "dropin_fusing"),
    Fault("fastbp/dropin/reading/programs.py", "if last[one] == place and one >= inputs]", "if one >= inputs]", "dropin_fusing -k bits"),
    Fault("fastbp/dropin/reading/programs.py", "before.row, before.is_changed = made.row, True", "before.row = made.row", "dropin_fusing"),
    Fault("fastbp/dropin/networks/fusing.py", "owners.count(owners[one]) == 1", "True", "dropin_fusing -k share"),
    Fault("fastbp/dropin/networks/fusing.py", "            self._finish(plan, values, fresh, left)", "            pass", "dropin_fusing -k line"),
    Fault("kernels/layers/elementwise.py", "finite = finite and is_finite(scratch, b)", "pass", "elementwise_programs"),
    Fault("fastbp/dropin/rounding.py", "return {name: largest(part) for key, value in results.items() for name, part in parts_of(key, value)}", "return {}", "dropin_audit -k cancelled"),
    Fault("fastbp/dropin/auditing.py", "            audit.left_out += 1", "            pass", "dropin_audit -k drops"),
]  # fmt: skip


def killed(fault: Fault | None, cache: str, timeout: float) -> bool:
    """Whether the tests fail on a copy of the tree that has the fault; None: all those that are named, without one."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".git", ".ci", "*.egg-info", "__pycache__", ".*_cache")
        )
        if fault:
            path = tree / fault.file
            text = path.read_text("utf-8")
            assert text.count(fault.old) == 1, f"{fault.file} has {fault.old!r} {text.count(fault.old)} times, not once"
            path.write_text(text.replace(fault.old, fault.new, 1), "utf-8")
        (tree / "fastbp" / "kernels").symlink_to(tree / "kernels")  # as the package has it where it is installed
        (tree / "fastbp" / "bench").symlink_to(tree / "bench")
        environment = {**os.environ, "PYTHONPATH": str(tree), "FASTBP_CACHE_DIR": cache, "PYTHONDONTWRITEBYTECODE": "1"}
        every = " ".join(sorted({name for fault in FAULTS for name in fault.tests.partition(" -k ")[0].split()}))
        names, _, word = (fault.tests if fault else every).partition(" -k ")
        files = [f"tests/test_{name}.py" for name in names.split()]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-n",
            "0",
            "-m",
            "",
            "-p",
            "no:cacheprovider",
            *files,
            "-k",
            word,
        ]
        try:
            done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return True  # it hangs: found
        assert done.returncode in (0, 1), done.stdout.decode() + done.stderr.decode()
        return done.returncode == 1


def main() -> int:
    parser = argparse.ArgumentParser("python tests/mutation.py", description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many, chosen by the date")
    parser.add_argument("--only", default="", help="those with this in their file or text")
    parser.add_argument("--timeout", type=float, default=900, help="seconds; a fault that takes longer is found")
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if options.only in f"{fault.file} {fault.old}"]
    if options.sample:
        faults = random.Random(datetime.date.today().toordinal()).sample(faults, min(options.sample, len(faults)))
    survivors = []
    with tempfile.TemporaryDirectory() as cache:
        if faults == FAULTS and killed(None, cache, 4 * options.timeout):
            sys.exit("the tests fail without any fault: what they find says nothing")
        for number, fault in enumerate(faults, 1):
            start = time.monotonic()
            found = killed(fault, cache, options.timeout)
            survivors += [] if found else [fault]
            verdict = "killed  " if found else "SURVIVED"
            seconds = time.monotonic() - start
            print(
                f"{verdict} {number}/{len(faults)} {seconds:4.0f} s  {fault.file}: {fault.old} -> {fault.new}",
                flush=True,
            )
    print(f"{len(faults) - len(survivors)} of {len(faults)} faults were found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
