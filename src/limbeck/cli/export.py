"""``limbeck export``: the student and nothing else."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from ..errors import DependencyError, ModelError
from .inspect import choose


def run(path: Path, output: Path | None, checkpoint: str, onnx: bool, allow_code: list[str]) -> None:
    """Write ``student.safetensors`` and ``model.json``, and ``student.onnx`` on request."""
    from ..bayes import Posterior
    from ..files import write_json
    from ..runs import Run
    from ..training.checkpoint import save_weights

    run = Run(path)
    student = run.student(choose(checkpoint), allow_code=allow_code)
    output = output or run.path / "export"
    save_weights(output / "student.safetensors", student.state_dict())
    write_json(output / "model.json", run.card())
    print(f"student: {output / 'student.safetensors'}")
    print(f"model:   {output / 'model.json'}")
    if onnx and isinstance(student, Posterior):
        raise ModelError(
            f"{run.path} is a distribution over networks, which draws as it answers and is no graph",
            fix="distil it and export the student",
        )
    if onnx:
        inputs = run.images("export to ONNX")
        error = write_onnx(student, (inputs.channels, *inputs.size), output / "student.onnx")
        print(f"onnx:    {output / 'student.onnx'} (largest difference of its logits: {error:.2e})")


def write_onnx(student: object, shape: tuple[int, ...], path: Path) -> float:
    """Write a network as ONNX with a free batch size, and measure how far its outputs are from PyTorch's.

    Args:
        student: the network, in evaluation mode.
        shape: of one input, without the batch.
        path: the file.

    Returns:
        Largest absolute difference of the logits on 16 random inputs.

    Raises:
        DependencyError: the export extra is not installed.
        ModelError: the network cannot be written as ONNX.
    """
    import torch

    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"ONNX export needs {error.name}", fix="pip install 'limbeck[export]'"
        ) from None
    from ..files import write_atomic

    assert isinstance(student, torch.nn.Module)
    model = student.to(memory_format=torch.contiguous_format).cpu().eval()  # type: ignore[call-overload]
    inputs = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0))
    with _hushed(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        batch = torch.export.Dim("batch")
        try:
            program = torch.onnx.export(
                model,
                (inputs,),
                dynamo=True,
                verbose=False,
                dynamic_shapes=({0: batch},),
                input_names=["images"],
                output_names=["logits"],
            )
        except torch.onnx.OnnxExporterError as error:
            cause = error.__cause__ or error
            raise ModelError(
                f"the network {type(model).__name__} cannot be written as ONNX",
                got=f"{type(cause).__name__}: {str(cause).splitlines()[0]}",
                fix="avoid decisions on the values of tensors in forward, and a fixed batch size",
            ) from error
        assert program is not None
        made = Path(folder) / "student.onnx"
        program.save(made)
        data = made.read_bytes()
        expected = model(inputs).numpy()
    write_atomic(path, lambda file: file.write(data))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    return float(abs(got - expected).max())


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep back what the exporter says on the way: its own deprecations, and graphs of what it cannot write."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
