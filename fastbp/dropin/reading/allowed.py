"""What somebody's code may use to be looked through: functions of NumPy and of Python that do nothing but compute."""

NUMPY = frozenset(
    """
    abs absolute add all amax amin any arange argmax argmin array asarray ascontiguousarray average bool_ broadcast_to
    ceil clip concatenate copy count_nonzero cumsum diff divide dot dtype e einsum empty empty_like equal exp exp2
    expand_dims expm1 eye finfo float32 float64 floor full full_like greater greater_equal hstack identity inf inner
    int32 int64 invert isinf isnan less less_equal log log10 log1p log2 logical_and logical_not logical_or matmul max
    maximum mean min minimum moveaxis multiply nan nan_to_num ndim negative newaxis nonzero not_equal ones ones_like
    outer pad pi power prod ravel reciprocal repeat reshape rollaxis shape sign sinh size sqrt square squeeze stack std
    subtract sum swapaxes take tanh tensordot tile transpose true_divide uint8 unravel_index var vstack where zeros
    zeros_like lib stride_tricks as_strided sliding_window_view at ndarray intp float_ float int cosh split hsplit
    array_split
    """.split()  # noqa: SIM905
)
RANDOM = {f"random.{name}" for name in ("rand", "random", "random_sample", "uniform", "binomial", "randn", "normal")}
BUILTINS = {
    "abs", "bool", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min", "range", "reversed", "round",
    "slice", "sum", "tuple", "type", "zip",
}  # fmt: skip
METHODS = ("__init__", "forward", "backward")  # of a class of which a method makes objects
EXCEPTIONS = {"ValueError", "IndexError", "AttributeError", "Exception"}  # what NumPy raises of shapes
OF_ARRAYS = frozenset(
    """
    T all any argmax argmin astype clip copy cumsum dot dtype fill flatten max mean min ndim nonzero prod ravel repeat
    reshape round shape size squeeze std strides sum swapaxes take transpose var itemsize
    """.split()  # noqa: SIM905
)
