"""One step of each cell in NumPy, column vectors, as the papers write them. Nothing of the package is used here.

W is a dict of matrices, vectors and biases under the papers' names.
"""

import numpy as np


def sigm(a):
    return 1 / (1 + np.exp(-a))


def relu(a):
    return np.maximum(a, 0)


def layer_norm(a, gain, shift, eps=1e-5):
    """Ba et al. 2016, eq. 4."""
    return gain * (a - a.mean()) / np.sqrt(a.var() + eps) + shift


def elman(W, h, x, phi=np.tanh):
    """Goodfellow et al. 2016, eq. 10.8-10.9."""
    a = W["b"] + W["W"] @ h + W["U"] @ x
    return phi(a)


def vanilla_lstm(W, y, c, x, without=(), coupled=False, peepholes=True):
    """Greff et al. 2017, section II.A, and its ablations (section III)."""
    p = {k: W.get(f"p_{k}", 0.0) for k in "ifo"} if peepholes else dict.fromkeys("ifo", 0.0)

    def g(a):
        return a if "NIAF" in without else np.tanh(a)

    def h(a):
        return a if "NOAF" in without else np.tanh(a)

    z = g(W["W_z"] @ x + W["R_z"] @ y + W["b_z"])
    i = 1.0 if "NIG" in without else sigm(W["W_i"] @ x + W["R_i"] @ y + p["i"] * c + W["b_i"])
    if coupled:
        f = 1 - i
    else:
        f = 1.0 if "NFG" in without else sigm(W["W_f"] @ x + W["R_f"] @ y + p["f"] * c + W["b_f"])
    c = z * i + c * f
    o = 1.0 if "NOG" in without else sigm(W["W_o"] @ x + W["R_o"] @ y + p["o"] * c + W["b_o"])
    return h(c) * o, c


def full_gate_lstm(W, y, c, i, f, o, x):
    """Greff et al. 2017, FGR: nine more matrices, R_ab from gate b to gate a."""
    z = np.tanh(W["W_z"] @ x + W["R_z"] @ y + W["b_z"])

    def recurrent(a):
        return W[f"R_{a}i"] @ i + W[f"R_{a}f"] @ f + W[f"R_{a}o"] @ o

    new_i = sigm(W["W_i"] @ x + W["R_i"] @ y + W["p_i"] * c + recurrent("i") + W["b_i"])
    new_f = sigm(W["W_f"] @ x + W["R_f"] @ y + W["p_f"] * c + recurrent("f") + W["b_f"])
    c = new_i * z + new_f * c
    new_o = sigm(W["W_o"] @ x + W["R_o"] @ y + W["p_o"] * c + recurrent("o") + W["b_o"])
    return new_o * np.tanh(c), c, new_i, new_f, new_o


def projected_lstm(W, r, c, x):
    """Sak et al. 2014, without peepholes: r is the projection W_rm m."""
    i = sigm(W["W_i"] @ x + W["R_i"] @ r + W["b_i"])
    f = sigm(W["W_f"] @ x + W["R_f"] @ r + W["b_f"])
    c = f * c + i * np.tanh(W["W_z"] @ x + W["R_z"] @ r + W["b_z"])
    o = sigm(W["W_o"] @ x + W["R_o"] @ r + W["b_o"])
    return W["W_rm"] @ (o * np.tanh(c)), c


def layer_norm_lstm(W, h, c, x):
    """Ba et al. 2016, eq. 20-22; all four pre-activations are one vector to the normalisation."""
    a = layer_norm(W["W_h"] @ h, W["gain_h"], 0.0) + layer_norm(W["W_x"] @ x, W["gain_x"], 0.0) + W["b"]
    i, f, g, o = np.split(a, 4)
    c = sigm(f) * c + sigm(i) * np.tanh(g)
    return sigm(o) * np.tanh(layer_norm(c, W["gain_c"], W["shift_c"])), c


def dropped_lstm(W, h, c, x, mask):
    """Semeniuta et al. 2016: c = f * c + i * d(g), d with inverted scaling."""
    i = sigm(W["W_i"] @ x + W["R_i"] @ h + W["b_i"])
    f = sigm(W["W_f"] @ x + W["R_f"] @ h + W["b_f"])
    g = np.tanh(W["W_z"] @ x + W["R_z"] @ h + W["b_z"])
    o = sigm(W["W_o"] @ x + W["R_o"] @ h + W["b_o"])
    c = f * c + i * (mask * g)
    return o * np.tanh(c), c


def gru(W, h, x):
    """Cho et al. 2014, arXiv:1406.1078v3, eq. 5-8: the reset gate before the product; z keeps the old state."""
    r = sigm(W["W_r"] @ x + W["U_r"] @ h + W["b_r"])
    z = sigm(W["W_z"] @ x + W["U_z"] @ h + W["b_z"])
    new = np.tanh(W["W"] @ x + W["U"] @ (r * h) + W["b"])
    return z * h + (1 - z) * new


def gru_of_the_book(W, h, u, r, x):
    """Goodfellow et al. 2016, eq. 10.45, from h, u, r, x at t-1 to h at t."""
    return u * h + (1 - u) * sigm(W["b"] + W["U"] @ x + W["W"] @ (r * h))


def gates_of_the_book(W, h, x):
    """Eq. 10.46 and 10.47: u and r at t from h and x at t."""
    return sigm(W["b_u"] + W["U_u"] @ x + W["W_u"] @ h), sigm(W["b_r"] + W["U_r"] @ x + W["W_r"] @ h)


def leaky(W, h, x, leak):
    """Jaeger et al. 2007, with a unit time step: x(n+1) = (1 - a) x(n) + a f(W_in u + W x)."""
    return (1 - leak) * h + leak * np.tanh(W["U"] @ x + W["W"] @ h + W["b"])


def indrnn(W, h, x):
    """Li et al. 2018."""
    return relu(W["W"] @ x + W["u"] * h + W["b"])


def mgu(W, h, x):
    """Zhou et al. 2016; matrices act on the joined vector [h, x]."""
    f = sigm(W["W_f"] @ np.concatenate([h, x]) + W["b_f"])
    new = np.tanh(W["W_h"] @ np.concatenate([f * h, x]) + W["b_h"])
    return (1 - f) * h + f * new


def mut1(W, h, x):
    """Jozefowicz et al. 2015, MUT1."""
    z = sigm(W["W_xz"] @ x + W["b_z"])
    r = sigm(W["W_xr"] @ x + W["W_hr"] @ h + W["b_r"])
    return np.tanh(W["W_hh"] @ (r * h) + np.tanh(x) + W["b_h"]) * z + h * (1 - z)


def mut2(W, h, x):
    """Jozefowicz et al. 2015, MUT2."""
    z = sigm(W["W_xz"] @ x + W["W_hz"] @ h + W["b_z"])
    r = sigm(x + W["W_hr"] @ h + W["b_r"])
    return np.tanh(W["W_hh"] @ (r * h) + W["W_xh"] @ x + W["b_h"]) * z + h * (1 - z)


def mut3(W, h, x):
    """Jozefowicz et al. 2015, MUT3."""
    z = sigm(W["W_xz"] @ x + W["W_hz"] @ np.tanh(h) + W["b_z"])
    r = sigm(W["W_xr"] @ x + W["W_hr"] @ h + W["b_r"])
    return np.tanh(W["W_hh"] @ (r * h) + W["W_xh"] @ x + W["b_h"]) * z + h * (1 - z)
