"""The losses inside PyTorch: compiled, exported, checkpointed, distributed, transformed, in threads and forks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from processes import gloo, shards
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

import labelsmooth as ls

LOGITS = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, -100, 3, 4, 2])
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.0, 1.5])


def smoothed(logits: torch.Tensor, labels: torch.Tensor, **options):
    return ls.cross_entropy(logits, labels, label_smoothing=0.1, **options)


def loss_and_gradient(function, logits=LOGITS, labels=LABELS, **options):
    leaf = logits.clone().requires_grad_()
    loss = function(leaf, labels, **options)
    loss.sum().backward()
    return loss.detach(), leaf.grad


CALLS = {
    "mean": {},
    "each": dict(reduction="none"),
    "weights": dict(weight=WEIGHT),
    "mask": dict(class_mask=torch.tensor([True, True, True, True, True])),
    "z-loss": dict(z_loss=1e-2),
}


class TestCompiled:
    @pytest.mark.parametrize("call", CALLS)
    def test_one_graph_with_the_same_numbers(self, call: str) -> None:
        torch._dynamo.reset()
        compiled = torch.compile(smoothed, fullgraph=True, backend="aot_eager")
        for mine, plain in zip(
            loss_and_gradient(compiled, **CALLS[call]), loss_and_gradient(smoothed, **CALLS[call]), strict=True
        ):
            torch.testing.assert_close(mine, plain)
        with torch.no_grad():
            torch.testing.assert_close(compiled(LOGITS, LABELS, **CALLS[call]), smoothed(LOGITS, LABELS, **CALLS[call]))

    def test_dense_prediction_and_policies(self) -> None:
        torch._dynamo.reset()
        policy = ls.smoothing.Prior(0.2, WEIGHT / WEIGHT.sum())

        def loss(logits, labels):
            return ls.cross_entropy(logits, labels, label_smoothing=policy)

        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        logits, labels = LOGITS.reshape(2, 3, 5).movedim(-1, 1), LABELS.reshape(2, 3)
        for mine, plain in zip(
            loss_and_gradient(compiled, logits, labels), loss_and_gradient(loss, logits, labels), strict=True
        ):
            torch.testing.assert_close(mine, plain)

    def test_epsilon_is_no_reason_to_compile_again(self) -> None:
        torch._dynamo.reset()
        graphs = 0

        def backend(graph, inputs):
            nonlocal graphs
            graphs += 1
            return graph.forward

        compiled = torch.compile(smoothed_by_tensor, fullgraph=True, backend=backend)
        for value in (0.1, 0.2, 0.3):
            epsilon = torch.full((6,), value)
            torch.testing.assert_close(
                compiled(LOGITS, LABELS, epsilon), F.cross_entropy(LOGITS, LABELS, label_smoothing=value)
            )
        assert graphs == 1

    @pytest.mark.parametrize("kind", ["argument", "over others", "policy", "module", "linear"])
    def test_a_new_epsilon_does_not_compile_again(self, kind: str) -> None:
        """After the second value; 0 and 1 may have graphs of their own."""
        torch._dynamo.reset()
        graphs = 0

        def backend(graph, inputs):
            nonlocal graphs
            graphs += 1
            return graph.forward

        policy, module = ls.smoothing.Uniform(0.0), ls.LabelSmoothingCrossEntropy(0.0)

        def loss(epsilon):
            if kind == "policy":
                return ls.cross_entropy(LOGITS, LABELS, label_smoothing=policy)
            if kind == "module":
                return module(LOGITS, LABELS)
            if kind == "linear":
                return ls.linear_cross_entropy(LOGITS, torch.eye(5), LABELS, label_smoothing=epsilon)
            smoothing = ls.smoothing.Uniform(epsilon, "others") if kind == "over others" else epsilon
            return ls.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)

        compiled = torch.compile(loss, fullgraph=True, backend=backend)
        for value in (0.1, 0.2, 0.3, 0.15, 0.25):
            policy.epsilon = module.epsilon = value
            torch.testing.assert_close(compiled(value), loss(value))
        assert graphs <= 2

    def test_a_new_z_loss_is_compiled_in_one_graph(self) -> None:
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda z_loss: smoothed(LOGITS, LABELS, z_loss=z_loss), fullgraph=True, backend="eager"
        )
        for value in (0.1, 0.2, 0.3):
            torch.testing.assert_close(compiled(value), smoothed(LOGITS, LABELS, z_loss=value))

    @pytest.mark.parametrize("name", ["mean", "each", "weights", "mask", "prior", "mixture", "linear", "linear, each"])
    def test_export_with_a_dynamic_batch(self, name: str) -> None:
        prior = ls.smoothing.Prior(0.2, WEIGHT)
        calls = {
            "prior": lambda z, y: ls.cross_entropy(z, y, label_smoothing=prior),
            "mixture": lambda z, y: ls.cross_entropy(z, ls.smoothing.mix(y, y.flip(0), 0.3)),
            "linear": lambda z, y: ls.linear_cross_entropy(z, torch.eye(5), y, label_smoothing=0.1),
            "linear, each": lambda z, y: ls.linear_cross_entropy(z, torch.eye(5), y, reduction="none"),
        }
        call = calls.get(name, lambda z, y: smoothed(z, y, **CALLS[name]))

        class Model(torch.nn.Module):
            def forward(self, logits, labels):
                return call(logits, labels)

        batch = torch.export.Dim("batch", min=2, max=1024)
        program = torch.export.export(Model(), (LOGITS, LABELS), dynamic_shapes=({0: batch}, {0: batch}))
        logits, labels = torch.randn(31, 5), torch.randint(5, (31,))
        torch.testing.assert_close(program.module()(logits, labels), call(logits, labels))

    def test_export_of_a_dense_prediction_with_dynamic_sizes(self) -> None:
        class Model(torch.nn.Module):
            def forward(self, logits, labels):
                return smoothed(logits, labels)

        batch, height = torch.export.Dim("batch", min=2, max=64), torch.export.Dim("height", min=2, max=64)
        logits, labels = torch.randn(3, 5, 4, 4), torch.randint(5, (3, 4, 4))
        shapes = ({0: batch, 2: height}, {0: batch, 1: height})
        program = torch.export.export(Model(), (logits, labels), dynamic_shapes=shapes)
        logits, labels = torch.randn(7, 5, 9, 4), torch.randint(5, (7, 9, 4))
        torch.testing.assert_close(program.module()(logits, labels), smoothed(logits, labels))

    def test_a_label_out_of_range_is_nan_in_its_row(self) -> None:
        torch._dynamo.reset()
        compiled = torch.compile(smoothed, fullgraph=True, backend="aot_eager")
        labels = torch.tensor([0, 9, 1, -5, 2, 3])
        loss, gradient = loss_and_gradient(compiled, LOGITS, labels, reduction="none")
        assert loss.isnan().tolist() == [False, True, False, True, False, False]
        assert gradient.isnan().any(-1).tolist() == [False, True, False, True, False, False]

    def test_export(self) -> None:
        class Model(torch.nn.Module):
            def forward(self, logits, labels):
                return smoothed(logits, labels)

        program = torch.export.export(Model(), (LOGITS, LABELS))
        torch.testing.assert_close(program.module()(LOGITS, LABELS), smoothed(LOGITS, LABELS))

    def test_the_operator_keeps_pytorchs_rules(self) -> None:
        from labelsmooth.kernels import operators

        one = torch.ones((), dtype=torch.float64)
        for logits in (LOGITS, LOGITS.reshape(2, 3, 5).movedim(-1, 1), LOGITS.bfloat16()):
            arguments = (logits.clone().requires_grad_(), LABELS.clamp(min=-1), 0.9 * one, 0.1 * one)
            torch.library.opcheck(
                operators.row_losses,
                (*arguments, None, None, False, 0.0, True),
                test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
            )


def smoothed_by_tensor(logits, labels, epsilon):
    return ls.cross_entropy(logits, labels, label_smoothing=epsilon)


class TestAutograd:
    def test_upstream_gradients_and_a_second_backward(self) -> None:
        for reduction in ("mean", "none"):
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                leaf = LOGITS.clone().to(dtype).requires_grad_()
                loss = smoothed(leaf, LABELS, reduction=reduction).sum() * 3
                (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
                again = first.clone()
                first.zero_()  # what was handed out is the caller's
                (second,) = torch.autograd.grad(loss, leaf, retain_graph=True)
                (third,) = torch.autograd.grad(loss, leaf)
                assert torch.equal(again, third)
                assert torch.equal(second, third) or second.data_ptr() != third.data_ptr()

    def test_backward_twice_accumulates(self) -> None:
        leaf = LOGITS.clone().requires_grad_()
        loss = smoothed(leaf, LABELS)
        loss.backward(retain_graph=True)
        loss.backward()
        torch.testing.assert_close(leaf.grad, 2 * loss_and_gradient(smoothed)[1])

    def test_the_whole_graph_is_freed(self) -> None:
        leaf = LOGITS.clone().requires_grad_()
        loss = smoothed(leaf, LABELS)
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()

    def test_no_gradient_is_made_where_none_is_wanted(self, monkeypatch) -> None:
        from labelsmooth.kernels import launch_cpu
        from labelsmooth.kernels.choose import Kernel

        asked = []
        run, few = launch_cpu.run, launch_cpu.few
        monkeypatch.setattr("labelsmooth.kernels.rows.row_kernel", lambda *_: Kernel(launch_cpu.run, launch_cpu.scale))
        monkeypatch.setattr(launch_cpu, "run", lambda *a, **k: asked.append(k["gradient"] is not None) or run(*a, **k))
        monkeypatch.setattr(launch_cpu, "few", lambda *a: asked.append(a[1] is not None) or few(*a))
        for reduction in ("mean", "none"):  # by the short way of small batches, and by that of all the others
            asked.clear()
            smoothed(LOGITS, LABELS, reduction=reduction)
            leaf = LOGITS.clone().requires_grad_()
            with torch.no_grad():
                smoothed(leaf, LABELS, reduction=reduction)
            smoothed(leaf, LABELS, reduction=reduction)
            assert asked == [False, False, True]

    def test_second_derivatives(self) -> None:
        leaf = LOGITS.double().requires_grad_()
        for reduction in ("mean", "none"):
            assert torch.autograd.gradgradcheck(lambda z: smoothed(z, LABELS, reduction=reduction), leaf)  # noqa: B023

    def test_transforms(self) -> None:
        gradient = loss_and_gradient(smoothed)[1]
        torch.testing.assert_close(torch.func.grad(lambda z: smoothed(z, LABELS))(LOGITS), gradient)
        rows = torch.func.vmap(lambda z, y: smoothed(z, y))(LOGITS[[0, 1, 3]], LABELS[[0, 1, 3]])
        torch.testing.assert_close(rows, smoothed(LOGITS[[0, 1, 3]], LABELS[[0, 1, 3]], reduction="none"))
        with warnings.catch_warnings():  # PyTorch's forward mode uses its own deprecated torch.jit.script
            warnings.simplefilter("ignore", DeprecationWarning)
            _, tangent = torch.func.jvp(lambda z: smoothed(z, LABELS), (LOGITS,), (torch.ones_like(LOGITS),))
        torch.testing.assert_close(tangent, gradient.sum(), atol=1e-6, rtol=0)
        hessian = torch.func.hessian(lambda z: smoothed(z, LABELS[:1]))(LOGITS[:1]).reshape(5, 5)
        p = LOGITS[0].softmax(-1)
        torch.testing.assert_close(hessian, p.diag() - p.outer(p))

    @pytest.mark.parametrize("use_reentrant", [False, True])
    def test_checkpointing(self, use_reentrant: bool) -> None:
        leaf = LOGITS.clone().requires_grad_()
        checkpoint(lambda z: smoothed(z * 1.0, LABELS), leaf, use_reentrant=use_reentrant).backward()
        torch.testing.assert_close(leaf.grad, loss_and_gradient(smoothed)[1])

    def test_a_checkpoint_does_not_hold_the_gradient(self) -> None:
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t.clone(), lambda t: t):
            smoothed(LOGITS.clone().requires_grad_(), LABELS)
        assert sum(tensor.shape == LOGITS.shape for tensor in held) == 2  # the gradient and the logits

    def test_autocast(self) -> None:
        model = torch.nn.Linear(4, 5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(torch.randn(6, 4))
            loss = smoothed(logits, LABELS)
        assert logits.dtype == torch.bfloat16
        assert loss.dtype == torch.float32
        loss.backward()
        assert model.weight.grad is not None

    def test_a_scaler_saves_float16_gradients_from_vanishing(self) -> None:
        leaf = torch.zeros(4096, 32, dtype=torch.float16, requires_grad=True)
        labels = torch.zeros(4096).long()
        scale = 2.0**14
        (smoothed(leaf, labels) * scale).backward()
        wide = leaf.detach().double().requires_grad_()
        (F.cross_entropy(wide, labels, label_smoothing=0.1) * scale).backward()
        torch.testing.assert_close(leaf.grad.double(), wide.grad, rtol=2**-11, atol=0)

    def test_float16_in_place(self) -> None:
        leaf = LOGITS.half().requires_grad_()
        logits = leaf * 1
        (2 * smoothed(logits, LABELS, inplace=True)).backward()
        (expected,) = torch.autograd.grad(2 * smoothed(leaf, LABELS), leaf)
        assert torch.equal(leaf.grad, expected)
        assert torch.equal(logits, expected)

    def test_other_devices_have_the_reference(self) -> None:
        loss = smoothed(LOGITS.to("meta").requires_grad_(), LABELS.to("meta"))
        assert loss.device.type == "meta"


class TestThreads:
    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_any_number_of_threads_is_the_same_sum(self, threads: int) -> None:
        logits, labels = torch.randn(301, 5000), torch.randint(5000, (301,))
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            loss, gradient = loss_and_gradient(smoothed, logits, labels)
        finally:
            torch.set_num_threads(before)
        expected = F.cross_entropy(logits.double(), labels, label_smoothing=0.1).float()
        torch.testing.assert_close(loss, expected)
        assert torch.equal(gradient, loss_and_gradient(smoothed, logits, labels)[1])

    def test_several_python_threads_at_once(self) -> None:
        logits, labels = torch.randn(320, 4000), torch.randint(4000, (320,))  # enough for a second thread
        expected = loss_and_gradient(smoothed, logits, labels)
        results = []

        def work() -> None:
            results.extend(loss_and_gradient(smoothed, logits, labels) for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(results) == 30
        for loss, gradient in results:
            torch.testing.assert_close(loss, expected[0])
            assert torch.equal(gradient, expected[1])

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_after_a_fork(self) -> None:
        program = """
            import os, torch, labelsmooth as ls
            logits, labels = torch.randn(160, 8000), torch.randint(8000, (160,))
            before = ls.cross_entropy(logits, labels, label_smoothing=0.1)
            child = os.fork()
            if child == 0:
                torch.set_num_threads(2)
                same = torch.allclose(ls.cross_entropy(logits, labels, label_smoothing=0.1), before)
                os._exit(0 if same else 1)
            raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
        assert subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=120).returncode == 0


class TestInstallation:
    def test_numba_comes_with_the_first_call(self) -> None:
        program = """
            import sys, torch, labelsmooth as ls
            ls.cross_entropy(torch.zeros(2, 3, device="meta"), torch.zeros(2, device="meta").long())
            assert "numba" not in sys.modules
            ls.cross_entropy(torch.zeros(2, 3), torch.zeros(2).long())
            assert "numba" in sys.modules and "labelsmooth.kernels.rows_triton" not in sys.modules
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=120)

    def test_a_read_only_installation_without_a_home(self, tmp_path: Path) -> None:
        """Neither the package's folder nor the user's takes the cache: the kernel is compiled all the same."""
        shutil.copytree(
            Path(ls.__file__).parent, tmp_path / "labelsmooth", ignore=shutil.ignore_patterns("__pycache__")
        )
        program = """
            import numba.core.caching as caching
            def refuse(self):
                raise OSError("read-only file system")
            for name in dir(caching):
                if name.endswith("Locator"):
                    getattr(caching, name).ensure_cache_path = refuse
            import torch, labelsmooth as ls
            from labelsmooth.kernels import rows_cpu
            assert "{folder}" in ls.__file__
            print(ls.cross_entropy(torch.zeros(2, 4), torch.zeros(2).long()).item())
        """.replace("{folder}", str(tmp_path))
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("NUMBA_CACHE_DIR", None)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) == pytest.approx(1.3862943611)
        assert not list(tmp_path.rglob("*.nbi"))


def _train(rank: int, size: int, rendezvous: str, sharded: bool) -> None:
    """One step of training on a share of the batch; the gradients are those of the whole batch."""
    with gloo(rank, size, rendezvous):
        torch.manual_seed(0)
        model, inputs, labels = torch.nn.Linear(8, 5), torch.randn(4 * size, 8), torch.arange(4 * size) % 5
        (expected,) = torch.autograd.grad(F.cross_entropy(model(inputs), labels, label_smoothing=0.1), model.weight)
        mesh = init_device_mesh("cpu", (size,))
        parallel = fully_shard(model, mesh=mesh) if sharded else torch.nn.parallel.DistributedDataParallel(model)
        part = slice(4 * rank, 4 * rank + 4)
        smoothed(parallel(inputs[part]), labels[part]).backward()
        gradient = model.weight.grad.full_tensor() if sharded else model.weight.grad
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("sharded", [False, pytest.param(True, marks=shards)])
def test_data_parallel(tmp_path: Path, sharded: bool) -> None:
    torch.multiprocessing.spawn(_train, args=(2, str(tmp_path / "rendezvous"), sharded), nprocs=2)
