"""One run of a module, recorded: every operation on tensors, and which of them can depend on what the module is given.

What depends on the input, or on a place, is handed to the module's code as tensors without data. So nothing the code
does can depend on it: a branch, an index or a number taken from it ends the trace. What is made of parameters and
constants alone has its values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from ..sites import Site
from .calls import Call
from .operations import Operand, Operation, each, parts
from .rules import INDEXED, WEIGHTED, marked
from .tape import Step, Store, Tape, View

RESHAPING = ("squeeze", "unsqueeze", "t", "transpose", "swapdims", "swapaxes", "as_strided")
"""Operations that, in place, change what a tensor sees of its memory, and no number."""

HANDED_OUT = {
    *(torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__, torch.Tensor.data_ptr),
    *(torch.Tensor.storage, torch.Tensor.untyped_storage, torch.Tensor.share_memory_, torch.Tensor.set_),
    *(torch.Tensor.apply_, torch.Tensor.map_, torch.Tensor.map2_),  # type: ignore[attr-defined]
    torch.Tensor.data.__set__,  # type: ignore[attr-defined]
}
"""What gives out a tensor's memory, or exchanges it, so that what is done with it cannot be seen."""


class Refused(Exception):
    """What a run did cannot be told to hold of other inputs."""


@dataclass(eq=False)
class Cell:
    """What stands behind a traced tensor: its data in this run, where that lies, and the parameters it is made of."""

    real: Tensor
    store: Store
    names: frozenset[str]
    trace: Trace

    @property
    def view(self) -> View:
        """What the tensor sees of its store."""
        return View(self.store, tuple(self.real.shape), tuple(self.real.stride()), int(self.real.storage_offset()))


class Traced(Tensor):
    """A tensor in a trace: all but its data. After the trace it stands for the data it had."""

    cell: Cell

    @staticmethod
    def __new__(cls, cell: Cell) -> Traced:
        real = cell.real
        layout = {"strides": real.stride(), "storage_offset": real.storage_offset(), "layout": real.layout}
        made = torch.Tensor._make_wrapper_subclass  # type: ignore[attr-defined]
        self: Traced = made(cls, real.size(), dtype=real.dtype, device=real.device, **layout)
        torch._C._set_throw_on_mutable_data_ptr(self)
        self.cell = cell
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """During a trace nothing should come here: its mode is asked first."""
        cell = next(t.cell for t in parts((args, kwargs), Tensor) if isinstance(t, Traced))
        if not cell.trace.closed:
            cell.trace.refuse(f"{func} was called where it could not be followed")
        return func(*_real(args), **_real(kwargs or {}))


class Trace:
    """The recording of one run.

    tape: what was recorded. refusal: why it says nothing of other inputs, or None. conflicts: places whose tensors were
    written after they were set apart, so that setting them apart may have changed what the run does.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.tape = Tape()
        self.names = names  # of parameters and buffers, by id
        self.refusal: str | None = None
        self.conflicts: set[Site] = set()
        self.closed = False
        self.output: Any = None
        self._foreign: dict[int, tuple[Tensor, Cell]] = {}  # tensors are held, so that no other has the same id
        self._stores: dict[int, Store] = {}

    def refuse(self, reason: str) -> NoReturn:
        """End the trace. Whatever the module's code makes of the exception, the refusal stays."""
        self.refusal = self.refusal or reason
        raise Refused(self.refusal)

    def note(self, reason: str) -> None:
        """End the trace without an exception of its own."""
        self.refusal = self.refusal or reason

    @contextmanager
    def following(self) -> Iterator[None]:
        """All that is done with tensors, for the time of a run, goes through this trace."""
        with ExitStack() as stack:
            if "torch._dynamo" in sys.modules:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # attention as products and sums
            stack.callback(self._close)
            stack.enter_context(_Doors(self))
            stack.enter_context(_Operations(self))
            yield

    def _close(self) -> None:
        self.closed = True

    # -- tensors -----------------------------------------------------------------------------------

    def give(self, tensor: Tensor) -> Tensor:
        """An input, as a tensor of which nothing is known."""
        with _plain():
            self._check_kind(tensor)
            real = tensor.detach().clone()
            cell = Cell(real, Store.of(real, known=False), frozenset(), self)
            self.tape.given.append(cell.view)
            return Traced(cell)

    def come_by(self, tensor: Tensor, sites: Sequence[Site], *, apart: bool) -> Tensor:
        """A tensor that is at some places; apart: as one of which nothing is known, in memory of its own."""
        with _plain():
            cell = self.cell(tensor)
            inputs = () if cell.store.known else (cell.view,)
            if not apart:
                self.tape.steps.append(Step(inputs, (), lambda *_: [], sites=tuple(sites)))
                return tensor
            whole = cell.real if cell.store.foreign else cell.real.as_strided((cell.store.size,), (1,), 0)
            real = whole.clone()
            if not cell.store.foreign:  # as far as it goes like the one it stands for, down to its strides
                real = real.as_strided(cell.real.shape, cell.real.stride(), cell.real.storage_offset())
            store = cell.store.apart(real, sites)
            copy = Cell(real, store, frozenset(), self)
            relation = partial(_handed_on, real.shape, real.device)
            self.tape.steps.append(Step(inputs, (copy.view,), relation, (store,), sites=tuple(sites)))
            return Traced(copy)

    def cell(self, tensor: Tensor) -> Cell:
        """What stands behind a tensor; one that was there before the trace is known, and must not be written."""
        if isinstance(tensor, Traced):
            cell = tensor.cell
            if cell.trace is not self:
                self.refuse("a tensor of another trace was met")
        else:
            self._check_kind(tensor)
            if id(tensor) not in self._foreign:
                memory = tensor.untyped_storage()._cdata
                store = self._stores.setdefault(memory, Store.of(tensor, known=True, foreign=True))
                names = frozenset({self.names[id(tensor)]} if id(tensor) in self.names else ())
                self._foreign[id(tensor)] = tensor, Cell(tensor.detach(), store, names, self)
            cell = self._foreign[id(tensor)][1]
        self.conflicts |= cell.store.stale
        return cell

    def _check_kind(self, tensor: Tensor) -> None:
        own = getattr(type(tensor), "__torch_dispatch__", None)
        plain = own is Tensor.__torch_dispatch__ and tensor.layout == torch.strided and not tensor.is_quantized
        if not plain or tensor.is_conj() or tensor.is_neg():
            self.refuse(f"a tensor of another kind was met, {type(tensor).__name__} ({tensor.layout})")

    # -- operations --------------------------------------------------------------------------------

    def follow(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Do one operation, and record what its outputs depend on."""
        if self.refusal:
            raise Refused(self.refusal)
        asked = Call.of(func, args, kwargs)
        cells = {id(tensor): self.cell(tensor) for tensor in parts((args, kwargs), Tensor)}
        loose = [tensor for tensor in parts(asked.given, Tensor) if not cells[id(tensor)].store.known]
        targets = [cells[id(tensor)] for tensor in asked.written]
        if reason := asked.obstacle(loose):
            self.refuse(reason)
        if asked.name.startswith("as_strided"):  # sees what is beside a tensor, too, which was not set apart with it
            self.conflicts.update(*(cell.store.sites for cell in cells.values()))
        if any(target.store.foreign or target.store.frozen for target in targets):
            self.refuse(f"{func} overwrites a tensor that was there before the run")
        read = list(dict.fromkeys(cells[id(tensor)] for tensor in loose))
        known = asked.fills or not (read or asked.chance)
        operation = None if known else _operation(asked, cells, read)
        inputs, before = tuple(cell.view for cell in read), [cell.view for cell in targets]
        real = _real((args, kwargs))
        gave = func(*real[0], **real[1])
        if before != [cell.view for cell in targets]:
            return self._reshaped(asked)
        if read and parts([gave], bool | int | float | complex):
            self.refuse(f"{func} makes a number of what depends on the input")
        made: list[Cell] = []
        wrapped = each([gave], partial(self._wrapped, asked, cells, known, made), Tensor)[0]
        for target in targets:
            target.store.write(known)
        if operation is not None and (made or targets):
            if reason := asked.unknown_shape(real, gave):
                self.refuse(reason)
            self._record(operation, inputs, made, targets, asked.chance)
        return wrapped

    def _reshaped(self, asked: Call) -> Tensor:
        """What the module's code gets of a tensor that is turned in place: the same numbers, seen otherwise."""
        if asked.name not in RESHAPING:
            self.refuse(f"{asked.func} exchanges the memory of a tensor")
        with no_dispatch():
            asked.func(*asked.args, **asked.kwargs)
        tensor: Any = asked.written[0]
        real = tensor.cell.real
        if (tensor.shape, tensor.stride(), tensor.storage_offset()) != (
            real.shape,
            real.stride(),
            real.storage_offset(),
        ):
            self.refuse(f"{asked.func} cannot be followed")
        return tensor

    def _wrapped(self, asked: Call, cells: Mapping[int, Cell], known: bool, made: list[Cell], real: Tensor) -> Tensor:
        """What the module's code gets for a tensor that an operation gave."""
        for tensor in asked.written:
            if cells[id(tensor)].real is real:
                return tensor
        self._check_kind(real)
        memory = real.untyped_storage()._cdata
        shared = next((c.store for c in cells.values() if c.real.untyped_storage()._cdata == memory), None)
        shared = shared or next((c.store for c in made if c.real.untyped_storage()._cdata == memory), None)
        names = frozenset[str]().union(*(cell.names for cell in cells.values())) if known else frozenset[str]()
        if shared is not None and shared.itemsize == real.itemsize:
            return Traced(Cell(real, shared, names, self))
        cell = Cell(real, Store.of(real, known=known), names, self)
        if shared is not None:
            if not shared.known and asked.name not in ("view_as_real", "view_as_complex"):
                self.refuse(f"{asked.func} sees the same memory as numbers of another size")
            cell.store = Store.of(real, known=shared.known, foreign=shared.foreign)
            cell.store.frozen = shared.frozen = True
        made.append(cell)
        return Traced(cell)

    def _record(
        self, operation: Operation, inputs: tuple[View, ...], made: list[Cell], targets: list[Cell], chance: bool
    ) -> None:
        """Put one step on the tape, once its relation has shown that it fits."""
        outputs = tuple(cell.view for cell in (*made, *targets))
        relation = partial(marked, replace(operation, shapes=[view.shape for view in outputs]))
        zeros = [operand.names for operand in parts(operation.given) if operand.nonzero is not None]
        names = tuple(sorted(frozenset[str]().union(*zeros)))
        step = Step(inputs, outputs, relation, tuple(cell.store for cell in made), bool(zeros), names, chance)
        try:
            step.check()
        except Exception as error:  # noqa: BLE001 - a rule that does not fit means that it is not understood
            self.refuse(f"{operation.name} is not understood here: {error}")
        self.tape.steps.append(step)


class _Operations(TorchDispatchMode):
    """Every operation goes through a trace."""

    supports_higher_order_operators = True

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, so that the compiler need not be loaded to be told so

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            with torch._C.DisableTorchFunction():
                return self.trace.follow(func, args, kwargs or {})
        except BaseException as failure:
            self.trace.note(f"{func} failed: {failure}")
            raise


class _Doors(TorchFunctionMode):
    """Every call of torch's own functions and methods: those that give out a tensor's memory are refused.

    What a function raises may be taken by the module's code for a reason to go on differently; that ends the trace too.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in HANDED_OUT:
            self.trace.refuse(f"{getattr(func, '__name__', func)} gives out the memory of a tensor")
        try:
            if func is torch.Tensor.tolist and isinstance(args[0], Traced) and args[0].cell.store.known:
                with _plain():
                    return args[0].cell.real.tolist()
            return func(*args, **(kwargs or {}))
        except BaseException as failure:
            self.trace.note(f"{getattr(func, '__name__', func)} failed: {failure}")
            raise


@contextmanager
def _plain() -> Iterator[None]:
    """torch as it is outside a trace."""
    with no_dispatch(), torch._C.DisableTorchFunction():
        yield


def _real(structure: Any) -> Any:
    """The same arguments with the data of traced tensors."""
    return each(structure, lambda t: t.cell.real if isinstance(t, Traced) else t, Tensor)


def _operation(asked: Call, cells: Mapping[int, Cell], loose: Sequence[Cell]) -> Operation:
    """A call as its relation is told of it, as things stand before it is made."""
    numbers = {cell: number for number, cell in enumerate(loose)}

    def operand(name: str, tensor: Tensor) -> Operand:
        cell = cells[id(tensor)]
        if cell in numbers:
            return Operand(cell.real.shape, numbers[cell])
        nonzero = cell.real != 0 if name in WEIGHTED.get(asked.name, ()) else None
        if nonzero is not None and bool(nonzero.all()):
            nonzero = None
        whole = not (cell.real.is_floating_point() or cell.real.is_complex())
        value = cell.real.clone() if whole and asked.name in INDEXED else None
        return Operand(cell.real.shape, None, nonzero, value, cell.names)

    device = loose[0].store.device if loose else torch.device("cpu")
    given = {name: each(part, partial(operand, name), Tensor) for name, part in asked.given.items()}
    return Operation(asked.name, given, (), device, asked.pointwise)


def _handed_on(shape: tuple[int, ...], device: torch.device, masks: Sequence[Tensor], dense: bool) -> list[Tensor]:
    return list(masks) or [torch.zeros(shape, device=device)]
