"""Networks as people write them: what tests of calls of whole networks define, in the place of a script's own."""

from __future__ import annotations

LOSS = """
def softmax(x):
    if x.ndim == 2:
        x = x.T
        x = x - np.max(x, axis=0)
        y = np.exp(x) / np.sum(np.exp(x), axis=0)
        return y.T

    x = x - np.max(x)
    return np.exp(x) / np.sum(np.exp(x))

def cross_entropy_error(y, t):
    if y.ndim == 1:
        t = t.reshape(1, t.size)
        y = y.reshape(1, y.size)

    if t.size == y.size:
        t = t.argmax(axis=1)

    batch_size = y.shape[0]
    return -np.sum(np.log(y[np.arange(batch_size), t] + 1e-7)) / batch_size

class SoftmaxWithLoss:
    def __init__(self):
        self.loss = None
        self.y = None
        self.t = None

    def forward(self, x, t):
        self.t = t
        self.y = softmax(x)
        self.loss = cross_entropy_error(self.y, self.t)

        return self.loss

    def backward(self, dout=1):
        batch_size = self.t.shape[0]
        if self.t.size == self.y.size:
            dx = (self.y - self.t) / batch_size
        else:
            dx = self.y.copy()
            dx[np.arange(batch_size), self.t] -= 1
            dx = dx / batch_size

        return dx
"""
OTHER_LOSS = """
class Criterion:
    def forward(self, scores, labels):
        exps = np.exp(scores - scores.max(axis=1, keepdims=True))
        self.probabilities, self.labels = exps / exps.sum(axis=1, keepdims=True), labels
        return -np.mean(np.log(self.probabilities[np.arange(len(scores)), labels] + 1e-7))

    def backward(self):
        dx = self.probabilities.copy()
        dx[np.arange(len(dx)), self.labels] -= 1
        return dx / len(dx)
SoftmaxWithLoss = Criterion
"""
PREDICT = """
    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)

        return x
"""
BOOK = """
    def loss(self, x, t):
        y = self.predict(x)
        return self.last.forward(y, t)
"""
GRADIENT = """
    def gradient(self, x, t):
        # forward
        self.loss(x, t)

        # backward
        dout = 1
        dout = self.last.backward(dout)

        layers = list(self.layers.values())
        layers.reverse()
        for layer in layers:
            dout = layer.backward(dout)

        return {key: layer.dW for key, layer in self.layers.items() if hasattr(layer, "dW")}
"""
DECAY = """
    rate = 0.1

    def loss(self, x, t):
        y = self.predict(x)

        weight_decay = 0
        for place in range(0, len(self.layers), 2):
            W = self.layers[str(place)].W
            weight_decay += 0.5 * self.rate * np.sum(W ** 2)

        return self.last.forward(y, t) + weight_decay
"""
SUM = "self.last.forward(y, t) + weight_decay"
SCORES = "        y = self.predict(x)\n"
TEXTS = {
    "a weight decay": PREDICT + DECAY + GRADIENT,
    "a weight decay and a name": PREDICT
    + DECAY.replace(f"return {SUM}", "loss = self.last.forward(y, t)\n        return loss + weight_decay")
    + GRADIENT,
    "a weight decay first": PREDICT
    + DECAY.replace(SUM, "weight_decay + self.last.forward(self.predict(x), t)").replace(SCORES, "")
    + GRADIENT,
    "the book's": PREDICT + BOOK + GRADIENT,
    "a loss in one expression": PREDICT
    + '''
    def cost(self, x, t):
        """Of x and t."""
        return self.last.forward(self.predict(x), t)
'''
    + GRADIENT.replace("self.loss", "self.cost"),
    "a loss with a name": PREDICT
    + """
    def loss(self, x, t):
        scores = self.predict(x)
        value = self.last.forward(scores, t)
        return value
"""
    + GRADIENT,
    "the loop in the loss": """
    def loss(self, x, t):
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.last.forward(x, t)
"""
    + GRADIENT,
    "reversed": PREDICT
    + BOOK
    + """
    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last.backward(1)
        for layer in reversed(list(self.layers.values())):
            dout = layer.backward(dout)
        return {key: layer.dW for key, layer in self.layers.items() if hasattr(layer, "dW")}
""",
    "a list that is turned": PREDICT
    + BOOK
    + GRADIENT.replace(
        "list(self.layers.values())\n        layers.reverse()", "list(self.layers.values())[::-1]"
    ).replace("dout = 1\n        dout = self.last.backward(dout)", "dout = self.last.backward()"),
}
OTHERS = {
    "a predict that does more": PREDICT.replace("return x", "return 2 * x") + BOOK + GRADIENT,
    "a loss that keeps something": PREDICT
    + """
    def loss(self, x, t):
        y = self.predict(x)
        self.scores = y
        return self.last.forward(y, t)
"""
    + GRADIENT,
    "a decay of the scores": PREDICT + DECAY.replace("np.sum(W ** 2)", "np.sum(y ** 2)") + GRADIENT,
    "a decay that is kept": PREDICT
    + DECAY.replace("        return", "        self.decay = weight_decay\n        return")
    + GRADIENT,
    "a product with the loss": PREDICT + DECAY.replace(") + weight_decay", ") * weight_decay") + GRADIENT,
    "a loss of another object's": PREDICT.replace("    def", "    other = None\n\n    def")
    + BOOK.replace("self.last", "other.last").replace("y = ", "other = self.other or self\n        y = ")
    + GRADIENT,
    "a loss of a global's": PREDICT + BOOK.replace("self.last", "EVERYBODY.last") + GRADIENT,
    "a call on the way back": PREDICT.replace("    def", "    count = 0\n\n    def")
    + """
    def tick(self):
        self.count += 1
        return self.count
"""
    + BOOK
    + GRADIENT.replace("layers = list(self.layers.values())\n        layers.reverse()", "ticks = self.tick()").replace(
        "in layers:", "in reversed(list(self.layers.values())):"
    ),
    "another order of the arguments": PREDICT
    + """
    def loss(self, t, x):
        y = self.predict(x)
        return self.last.forward(y, t)
"""
    + GRADIENT.replace("self.loss(x, t)", "self.loss(t, x)"),
    "a gradient that goes on with dout": PREDICT
    + BOOK
    + GRADIENT.replace("        return {", "        self.dout = dout\n        return {"),
    "a gradient that is scaled": PREDICT + BOOK + GRADIENT.replace("dout = 1\n", "dout = 2\n"),
    "a gradient of a layer less": PREDICT
    + BOOK
    + GRADIENT.replace("list(self.layers.values())", "list(self.layers.values())[1:]"),
    "a gradient that asks after the loss": PREDICT
    + BOOK
    + GRADIENT.replace("self.loss(x, t)\n", "self.kept = self.loss(x, t)\n"),
    "layers that are read afterwards": PREDICT
    + BOOK
    + GRADIENT.replace("        return {", "        self.first = layers[0]\n        return {"),
    "an argument with a default": PREDICT + BOOK.replace("x, t):", "x, t=None):") + GRADIENT,
}  # fmt: skip


def network_of(text):
    return f"""
class Network:
    def __init__(self, layers, last):
        self.layers = OrderedDict((str(place), layer) for place, layer in enumerate(layers))
        self.last = last
{text}
"""


BOOK_NETWORK = network_of(TEXTS["the book's"])
