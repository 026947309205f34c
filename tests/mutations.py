"""Deliberate bugs that the tests of the core must catch.

    python tests/mutations.py            every mutation (minutes)
    python tests/mutations.py alpha      those whose name contains a word

Each is applied alone to a copy of the source in a temporary folder; the tests run against the copy and have to fail.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"
PARTS = [
    "test_contracts.py",
    "rule",
    "energy",
    "relax",
    "network",
    "audit",
    "test_loss.py",
    "test_activation.py",
    "hopfield",
    "lrrn",
    "hardware",
]
CORE = [TESTS / part for part in PARTS]


@dataclass(frozen=True)
class Mutation:
    """One text of one file, which occurs there once, and what a bug would put in its place."""

    name: str
    file: str
    old: str
    new: str


DUAL, BASE = "rule/dual_propagation.py", "rule/base.py"
LAGRANGIAN, PROPAGATE = "rule/lagrangian.py", "relax/propagate.py"
LINEARISE, LAYERED, WIRING = "network/linearise.py", "network/layered.py", "network/wiring.py"
LINEARISATION, CLOSED = "network/linearisation.py", "network/closed_forms.py"
LOSS, ACTIVATION, SCHEDULE = "loss.py", "activation.py", "relax/schedule.py"
SPECTRAL, ALIGNMENT = "relax/spectral.py", "audit/alignment.py"
LIFTED, AUTOENCODER, QUADRATIC = "network/lifted.py", "network/autoencoder.py", "network/quadratic.py"
LRRN, LRRN_ENERGY, LIPSCHITZ = "rule/lrrn.py", "energy/lrrn.py", "audit/lipschitz.py"
ATTACK, SENSITIVITY = "audit/attack.py", "audit/sensitivity.py"
MOMENTUM = "relax/momentum.py"
LIFTED_ENERGY, GAPS, DESCENT, POTENTIAL = (
    "energy/lifted.py",
    "energy/gaps.py",
    "energy/descent.py",
    "energy/potential.py",
)
LIFTED_RULES, PROXIMAL, EXACT_CODING = "rule/lifted.py", "rule/lifted_proximal.py", "rule/exact_coding.py"
PACKING, PRODUCT, KERNEL, PACKED = ("binary/packing.py", "binary/product.py", "binary/product.c", "binary/packed.py")
PACKED_FILE, GGUF_FILE, ARCHITECTURE = "binary/packed_file.py", "binary/gguf_file.py", "binary/architecture.py"
OWN = dict.fromkeys((LIFTED, AUTOENCODER, QUADRATIC, LRRN, LRRN_ENERGY, LIPSCHITZ), TESTS / "lrrn")
OWN |= {KERNEL: TESTS / "binary" / "test_product.py", ARCHITECTURE: TESTS / "binary"}
OWN |= dict.fromkeys((GAPS, DESCENT), TESTS / "energy" / "test_lifted.py")
OBSERVED = ("messages", "spatial", "temporal", "derivative", "transport", "cost", "order")
OWN |= {f"audit/{name}.py": TESTS / "audit" / "test_observe.py" for name in OBSERVED}
OWN |= dict.fromkeys((LIFTED_RULES, EXACT_CODING), TESTS / "rule" / "test_predictive_coding.py")
"""The tests of files that are not tested in one of their own name."""
FEEDBACK, ANGLES, RANDOM_CHL = "network/feedback.py", "audit/feedback_angles.py", "rule/random_feedback_chl.py"
MODULES, STATE, NUDGE = "network/modules.py", "network/state.py", "rule/nudge.py"
OWN |= dict.fromkeys((MODULES, STATE, NUDGE), TESTS / "rule" / "test_relaxing_rules.py")
ADASTE, AUTHORS, OPTIMIZER = "binary/adaste.py", "binary/authors.py", "binary/optimizer.py"
BAYES, MIRROR, STATISTICS = "binary/bayes.py", "binary/mirror_descent.py", "binary/statistics.py"
WELLS, PASS = "binary/wells.py", "binary/wells.c"
OWN |= dict.fromkeys((ADASTE, AUTHORS, OPTIMIZER, BAYES, MIRROR, STATISTICS), TESTS / "binary")
OWN |= {PASS: TESTS / "binary" / "test_wells.py"}
CIRCUITS = ("hardware/resistive.py", "hardware/power.py", "hardware/passivity.py", "hardware/netlist.py")
RESISTIVE, POWER, PASSIVITY, NETLIST = CIRCUITS
OWN |= dict.fromkeys(CIRCUITS, TESTS / "hardware")

DEVICES = ("hardware/synapses.py", "hardware/units.py", "hardware/updates.py", "hardware/teaching.py")
SYNAPSES, UNITS, UPDATES, TEACHING = DEVICES
OWN |= {SYNAPSES: TESTS / "hardware" / "test_synapses.py", UPDATES: TESTS / "hardware" / "test_updates.py"}
OWN |= dict.fromkeys((UNITS, TEACHING), TESTS / "hardware" / "test_chip.py")

MUTATIONS = [
    # devices
    Mutation("devices: no device is off", SYNAPSES, "1.0, g * self.gain)", "1.0, g)"),
    Mutation("devices: drift the other way", SYNAPSES, "s.age**-self.nu", "s.age**self.nu"),
    Mutation("devices: an offset is scaled away", SYNAPSES, "g[1]) / (1 - 1 / self", "g[1]) * (1 - 1 / self"),
    Mutation("devices: agitation grows with the step", UNITS, "sqrt(share * (2 - share))", "sqrt(share)"),
    Mutation("devices: averages fall with the number", UNITS, "spread / sqrt(r.reads)", "spread / r.reads"),
    Mutation("devices: bounds push outwards", UPDATES, "(1 - u.asymmetry * wanted", "(1 + u.asymmetry * wanted"),
    Mutation("devices: a pulse is one too many", UPDATES, "torch.floor(wanted", "torch.ceil(wanted"),
    Mutation("devices: towards for away", TEACHING, "torch.where(strength > 0", "torch.where(strength < 0"),
    # circuits
    Mutation("circuits: the discount upside down", RESISTIVE, "discount(k - self.depth)", "discount(self.depth - k)"),
    Mutation("circuits: a source and its negative add up", RESISTIVE, ".inputs] - g[self", ".inputs] + g[self"),
    Mutation("circuits: currents are not amplified", RESISTIVE, "alpha=self.circuit.current_gain * ", "alpha="),
    Mutation("circuits: inhibitory diodes turned round", RESISTIVE, "clamp(max=threshold)", "clamp(min=-threshold)"),
    Mutation(
        "circuits: sources of current learn the other way", POWER, "return dg, -sum_v.sum(0)", "return dg, sum_v.sum(0)"
    ),
    Mutation("circuits: a phase counts twice", POWER, "(weights * du)[1:]", "2 * (weights * du)[1:]"),
    Mutation("circuits: hidden nodes hold without feedback", PASSIVITY, "alpha=-feedback", "alpha=-1.0"),
    Mutation("circuits: any nudge is borne", PASSIVITY, "-lowest >= bound", "lowest >= bound"),
    Mutation("circuits: a nudge for its resistance", NETLIST, "{1 / (nudge.beta * scale)}", "{nudge.beta * scale}"),
    Mutation("circuits: the way back is the way up", NETLIST, "{float(down[j, i])}", "{float(up[j, i])}"),
    Mutation(
        "circuits: mismatch forgets the weights", "network/feedback.py", "module.weight.detach() * getattr", "getattr"
    ),
    # binary weights
    Mutation("binary: no jump in the multiplier", ADASTE, "size.add_(min(1.0, mu * (1 + alpha) / (1 + mu)))", "size"),
    Mutation("binary: the derivative beyond saturation", ADASTE, "(size < 1).to", "(size <= 1).to"),
    Mutation(
        "binary: the short way keeps opposite signs",
        ADASTE,
        "hardtanh_backward.grad_input(grad.sub_(towards)",
        "hardtanh_backward.grad_input(grad",
    ),
    Mutation("binary: the published sign slip put right", AUTHORS, "(1 + alpha) - theta)", "(1 + alpha) + size)"),
    Mutation("binary: gradients times N once", AUTHORS, ".mul_(often).mul_(often)", ".mul_(often)"),
    Mutation("binary: weights of the place before", OPTIMIZER, "self.course = self.course.onward()", "pass"),
    Mutation("binary: gradients not scaled", OPTIMIZER, "self.parameter.grad.mul_(self.scale)", "pass"),
    Mutation("binary: no prior", BAYES, ".mul_(10 * course.samples).add_(theta)", ".mul_(10 * course.samples)"),
    Mutation(
        "binary: the dual step not sharpened",
        MIRROR,
        "theta.sub_(before).mul_(self.sharpness(course))",
        "theta.sub_(before)",
    ),
    Mutation("binary: statistics that stay", STATISTICS, "buffer.copy_(buffers[name])", "pass"),
    Mutation("binary: one pass keeps all gradients", PASS, "? ahead : 0", "? ahead : ahead"),
    Mutation("binary: one pass writes the weights of before", PASS, "(theta[i] + copysignf", "(w[i] + copysignf"),
    Mutation("binary: one pass with the wells of before", ADASTE, "self.depth(course.onward())", "self.depth(course)"),
    Mutation("binary: one pass for whatever Adam", WELLS, 'group["weight_decay"])', "False)"),
    Mutation("binary: one pass moves twice", OPTIMIZER, "if one not in ready])", "])"),
    # dual propagation
    Mutation(
        "alpha not swapped in the transposed form", DUAL, "plus, minus = minus, plus", "plus, minus = plus, minus"
    ),
    Mutation("alpha swapped in the original form too", DUAL, 'if self.variant == "transposed":', "if True:"),
    Mutation("scale without the batch", DUAL, "scale = self.beta * batch\n", "scale = self.beta\n"),
    Mutation(
        "sign of the feedback of s+",
        DUAL,
        "self.drives[0], -self.split.plus)\n\n    def minus",
        "self.drives[0], self.split.plus)\n\n    def minus",
    ),
    Mutation(
        "sign of the feedback of s-",
        DUAL,
        "self.drives[1], self.split.minus)\n\n    def mean",
        "self.drives[1], -self.split.minus)\n\n    def mean",
    ),
    Mutation(
        "mean with alpha and 1 - alpha swapped",
        DUAL,
        "torch.lerp(self.minus(), self.plus(), alpha)",
        "torch.lerp(self.plus(), self.minus(), alpha)",
    ),
    Mutation(
        "mean at alpha 1 is the wrong state",
        DUAL,
        "return self.plus() if alpha == 1",
        "return self.minus() if alpha == 1",
    ),
    Mutation("error not divided by the scale", DUAL, ".div_(self.split.scale)", ".div_(1.0)"),
    Mutation(
        "sign of the exact step away from the target", DUAL, "loss.proximal(a, y, -minus)", "loss.proximal(a, y, minus)"
    ),
    Mutation(
        "exact steps scaled with the batch",
        DUAL,
        "loss.applied(split.plus / batch)",
        "loss.applied(split.plus)",
    ),
    Mutation(
        "adversarial step at the wrong point",
        DUAL,
        "shift = self.alpha * plus - (1 - self.alpha) * minus",
        "shift = self.alpha * plus + (1 - self.alpha) * minus",
    ),
    Mutation("mean loss forgotten at the output", DUAL, "loss.gradient(point, y) / batch", "loss.gradient(point, y)"),
    Mutation("damping forgets the feedback", DUAL, "feedback / (1 + gain)", "feedback"),
    Mutation("damping of the wrong layer", DUAL, "lowest=2", "lowest=1"),
    Mutation("damping without the factor 1/2", DUAL, "abs(1 - 2 * self.alpha) / 2", "abs(1 - 2 * self.alpha)"),
    Mutation("damping by the norm, not its square", DUAL, "norm.square() - 1", "norm - 1"),
    Mutation(
        "damping takes the state for its drive",
        DUAL,
        "(activation.inverse(before.plus()), activation.inverse(before.minus()))",
        "(before.plus(), before.minus())",
    ),
    Mutation("straddling compares one side", DUAL, "(plus > kink) != (minus > kink)", "(plus > kink) & (minus > kink)"),
    # rules
    Mutation("backward overwrites", BASE, "parameter.grad.add_(grad)", "grad"),
    Mutation("backward keeps what is there", BASE, "parameter.grad.add_(grad)", "parameter.grad"),
    Mutation("multiplier without the mean loss", LAGRANGIAN, "rows(s)) / len(x)", "rows(s))"),
    Mutation(
        "multiplier at the drive, not at the state",
        LAGRANGIAN,
        "loss.gradient(s, rows(s))",
        "loss.gradient(drive, rows(s))",
    ),
    Mutation(
        "derivative of the activation forgotten",
        LAGRANGIAN,
        "activation.derivative(drive, s) * multiplier,",
        "multiplier,",
    ),
    # message passing
    Mutation("gradients of a stage replace those before", PROPAGATE, "merge(grads, found)", "grads.update(found)"),
    Mutation(
        "drive from where the mean once was",
        WIRING,
        "at = self.stage(k, renew=True)\n        value = at.value",
        "at = self.stage(k, renew=False)\n        value = at.value",
    ),
    Mutation(
        "feedback renews the stage above",
        WIRING,
        "at = self.stage(k, renew=False)\n        if not above.is_complex():",
        "at = self.stage(k, renew=True)\n        if not above.is_complex():",
    ),
    Mutation(
        "a group updates one by one",
        PROPAGATE,
        "neuron(k, *messages.pop(k), wiring",
        "neuron(k, wiring.drive(k), arrived[k] if k in arrived else wiring.feedback(k), wiring",
    ),
    Mutation(
        "a prediction of means that the error has moved", PROPAGATE, "predicted = not again or ", "predicted = True or "
    ),
    Mutation(
        "a prediction from given states", PROPAGATE, "not again or (states is None and order", "not again or (order"
    ),
    Mutation(
        "changing maps are not refused", PROPAGATE, "if again:\n        net.check", "if False:\n        net.check"
    ),
    Mutation(
        "states stay in half precision",
        WIRING,
        "value.float() if value.dtype in _HALF else value ",
        "value ",
    ),
    Mutation("first states are forgotten", LAYERED, "dict(enumerate(states or (), 1))", "{}"),
    Mutation(
        "affine maps are not asked again", WIRING, "if held is not None and held[0] is below:", "if held is not None:"
    ),
    Mutation(
        "phases forget their copies", WIRING, "_repeat(self.sent(1)[: len(inputs.mean())], copies)", "self.sent(1)"
    ),
    Mutation(
        "tilts of the wrong sign", "rule/dyadic.py", "net.tilted(drive, -half), net", "net.tilted(drive, half), net"
    ),
    Mutation("guard of acceleration", "relax/anderson.py", "known.where(lengths[:, -1] <= shortest, 1)", "known"),
    Mutation(
        "random orders seem settled",
        "relax/relaxation.py",
        "moved if schedule.complete else residuals(wiring, neuron)",
        "moved or {1: torch.zeros(len(wiring.states[0].mean()))}",
    ),
    # maps
    Mutation(
        "bias of a linear map does not learn",
        CLOSED,
        "delta.flatten(0, -2).sum(0)",
        "delta.flatten(0, -2).sum(0) * 0",
    ),
    Mutation(
        "gradients of a convolution are halved",
        CLOSED,
        "grads[parameter] = grad\n        return below",
        "grads[parameter] = grad / 2\n        return below",
    ),
    Mutation(
        "geometry of a convolution without dilation",
        CLOSED,
        "self.module.padding, self.module.dilation",
        "self.module.padding, 1",
    ),
    Mutation("switches shared by overlapping windows lose one", CLOSED, "planes.scatter_add_(2,", "planes.scatter_(2,"),
    Mutation(
        "pooling forgets its padding",
        LINEARISE,
        "                module.padding,\n                module.dilation,\n                module.ceil_mode",
        "                0,\n                module.dilation,\n                module.ceil_mode",
    ),
    Mutation("hooks are forgotten", LINEARISE, "return not hooked(module) and", "return"),
    Mutation("reflecting padding taken for zeros", MODULES, 'conv.padding_mode == "zeros" and', "True and"),
    Mutation(
        "merging forgets the first use",
        LINEARISATION,
        "grads[parameter] + grad if parameter in grads else grad",
        "grad",
    ),
    Mutation(
        "push-forward leaves out the first link",
        LINEARISE,
        "for link in self.links:\n            direction",
        "for link in self.links[1:]:\n            direction",
    ),
    Mutation(
        "push-forward of a convolution adds its bias",
        CLOSED,
        "self.weight, None,",
        "self.weight, self.module.bias,",
    ),
    Mutation(
        "a chain stops learning too early", LINEARISE, "needed = down or i > lowest", "needed = down or i > lowest + 1"
    ),
    # networks, schedules
    Mutation(
        "the second place of a module is lost",
        LAYERED,
        "zip(model._modules, model, strict=True)",
        "model.named_children()",
    ),
    Mutation("maps that change are let through when damped", DUAL, "        net.check_steady()\n", ""),
    Mutation("Newton's steps are never halved", LOSS, "share / 2, share", "share, share"),
    Mutation(
        "forward forgets the activation",
        LAYERED,
        "x = stage.activation.f(stage.map(x))\n        return x",
        "x = stage.map(x)\n        return x",
    ),
    Mutation(
        "dropout of rate zero counts as changing",
        MODULES,
        "return module.training and module.p > 0",
        "return module.training",
    ),
    Mutation(
        "statistics of a batch pass for a map while they are not kept",
        MODULES,
        "return module.training or module.running_mean is None",
        "return module.training",
    ),
    Mutation(
        "strengths of phases belong to places of an image",
        NUDGE,
        "each.view(-1, *[1] * (dimensions - 1))",
        "each[:, None]",
    ),
    Mutation("small errors pass for settled", STATE, ".clamp(min=unit)", ".clamp(min=1)"),
    Mutation(
        "bottom-up leaves out the output",
        SCHEDULE,
        "return _single(range(1, depth + 1))",
        "return _single(range(1, depth))",
    ),
    Mutation(
        "parallel with a pass too few",
        SCHEDULE,
        '"""2L - 1."""\n        return 2 * depth - 1',
        '"""2L - 1."""\n        return 2 * depth - 2',
    ),
    Mutation(
        "random orders never reach the output",
        SCHEDULE,
        "torch.randint(1, depth + 1,",
        "torch.randint(1, max(depth, 2),",
    ),
    # losses and activations
    Mutation("squared error without its half", LOSS, ".flatten(1).sum(1) / 2", ".flatten(1).sum(1)"),
    Mutation(
        "exact step of squared error",
        LOSS,
        "share = strength / (1 + strength)",
        "share = strength / (1 - strength)",
    ),
    Mutation("Hessian of cross-entropy with the wrong sign", LOSS, "torch.addcmul(a, b, u)", "torch.addcmul(a, -b, u)"),
    Mutation("curvature of cross-entropy", LOSS, "curvature = 0.5", "curvature = 0.25"),
    Mutation("sign of the targets in the gradient of cross-entropy", LOSS, "torch.addcmul(-y,", "torch.addcmul(y,"),
    Mutation("labels are not checked", LOSS, "not y.is_cuda and y.numel()", "False and y.numel()"),
    Mutation("slope of the sigmoid", ACTIVATION, "slope=0.25", "slope=1.0"),
    Mutation("inverse of the unit sigmoid", ACTIVATION, "_sigmoid_inverse(s) / 4", "_sigmoid_inverse(s)"),
    Mutation("kinks of the hard sigmoid", ACTIVATION, "kinks=(lower, upper)", "kinks=(0.0,)"),
    # feedback paths
    Mutation(
        "path: the transpose is taken after all",
        LINEARISE,
        "LinearAt(module, weight, None, point, []), module",
        "at, module",
    ),
    Mutation("path: learned weights share a gradient", LINEARISE, "grads[self.weight].clone()", "grads[self.weight]"),
    Mutation(
        "path: what is sent down forgets what it is added to",
        LINEARISE,
        "self.back.feedback(delta, onto, gain)",
        "self.back.feedback(delta)",
    ),
    Mutation(
        "path: not taken along by another lam", LAYERED, "self.relaxation, self.feedback)", "self.relaxation, None)"
    ),
    Mutation("path: signs of the square", FEEDBACK, "m.weight.detach().sign()", "m.weight.detach().square().sign()"),
    Mutation(
        "path: every layer draws the same weights",
        FEEDBACK,
        "_drawn(like.shape, scale, generator, like)",
        "_drawn(like.shape, scale, torch.Generator(), like)",
    ),
    Mutation("path: bound by the fan-out", FEEDBACK, "prod(shape[1:])", "shape[0]"),
    Mutation("path: the lowest map of a stage is passed over", FEEDBACK, "if below or within:", "if within:"),
    Mutation(
        "path: direct errors reach the lowest layers only",
        WIRING,
        "straight.send(j, error) for j in range(1, k)",
        "straight.send(j, error) for j in range(1, k - 1)",
    ),
    Mutation("path: direct feedback within a map goes unnoticed", FEEDBACK, "if crossing.within:", "if False:"),
    Mutation(
        "angle to the next map alone",
        ANGLES,
        "sent = at.feedback(sent.view_as(at.value))",
        "sent = at.feedback(torch.eye(len(sent)).to(sent).view_as(at.value))",
    ),
    Mutation(
        "random feedback CHL: phases swapped", RANDOM_CHL, "[-1 / len(x), 1 / len(x)]", "[1 / len(x), -1 / len(x)]"
    ),
    Mutation("random feedback CHL: no batch mean", RANDOM_CHL, "[-1 / len(x), 1 / len(x)]", "[-1.0, 1.0]"),
    Mutation(
        "random feedback CHL: gamma taken for lam",
        RANDOM_CHL,
        "net.with_lam((1 + self.gamma) / 2)",
        "net.with_lam(self.gamma)",
    ),
    # audit
    Mutation("spectral norm not rooted", SPECTRAL, "_norm(v).sqrt()", "_norm(v)"),
    Mutation("length of the wrong vector", ALIGNMENT, "float(sizes[0] / sizes[1])", "float(sizes[1] / sizes[0])"),
    Mutation(
        "audit takes transposed products for natural ones",
        "audit/messages.py",
        "gone, stays = axes[contracted], axes[left]",
        "gone, stays = axes[left], axes[contracted]",
    ),
    Mutation(
        "audit lets an update read its whole layer",
        "audit/spatial.py",
        "if bool((entries[:, axes] == unit).any(1).all()):",
        "if True:",
    ),
    Mutation(
        "audit sees no free phase",
        "audit/temporal.py",
        "free = any(where.output in m.sent and",
        "free = any(False and",
    ),
    Mutation(
        "audit takes all nudges for one",
        "audit/temporal.py",
        "if spans and not (apart and any(number > start for number in sent)):",
        "if spans:",
    ),
    Mutation(
        "audit does not look for formulas",
        "audit/derivative.py",
        "self.found += bool(((marks",
        "self.found += 0 * bool(((marks",
    ),
    Mutation(
        "audit takes every weight for a transported one",
        "audit/transport.py",
        "if 0 in axes and len(axes) > 1",
        "if 0 in axes",
    ),
    Mutation("audit counts half of a convolution", "audit/cost.py", "(below + weights) *", "weights *"),
    # lifted networks
    Mutation(
        "lifted: biases of the reconstruction pull the wrong way",
        AUTOENCODER,
        "sent - self.rho * (self.V.T @ self.c)",
        "sent + self.rho * (self.V.T @ self.c)",
    ),
    Mutation(
        "lifted: biases of the regression are forgotten below",
        AUTOENCODER,
        "sent if self.b is None else sent - self.kappa * (self.W.T @ self.b)",
        "sent",
    ),
    Mutation("lifted: feedback is not discounted", LIFTED, "hessian + self.terms.gamma * part[0]", "hessian + part[0]"),
    Mutation("lifted: the discount upside down", LIFTED, "(k - self.depth)", "(self.depth - k)"),
    Mutation("lifted: decoded layers leave their boxes", LIFTED, ".f(z) if k > 1 else z", ".f(z) if k > 2 else z"),
    Mutation(
        "lifted: noise reaches where units are",
        QUADRATIC,
        "return None if within is None else 1 - within.diagonal()",
        "return None",
    ),
    Mutation("lifted: units in turn hear where others were", QUADRATIC, "weights @ units", "weights @ z.T"),
    Mutation(
        "lifted: the bound of a norm is not one", QUADRATIC, "power.norm() ** (1 /", "power.diagonal().norm() ** (1 /"
    ),
    Mutation("lifted: targets are not those of the prediction", LRRN_ENERGY, "/ self.net.output_gain", "/ 1"),
    Mutation(
        "lifted: the nudge forgets the gain once",
        LRRN_ENERGY,
        "loss.applied(beta) * gain**2",
        "loss.applied(beta) * gain",
    ),
    Mutation("lifted: the contrast forgets the gain once", LRRN, "energy.net.output_gain**2", "energy.net.output_gain"),
    Mutation("lifted: faint feedback is let through", LRRN, "signal < 10 * tolerance", "signal < 0"),
    Mutation(
        "lifted: the Lipschitz constant of large weights shrinks",
        LIPSCHITZ,
        "min(_norm(pair.W), sqrt(kappa / rho))",
        "_norm(pair.W)",
    ),
    Mutation("lifted: reconstruction learns without its weight", AUTOENCODER, "self.rho * weights\n", "weights\n"),
    Mutation("lifted: regression learns without its weight", AUTOENCODER, "self.kappa * e.un", "e.un"),
    Mutation("lifted: the reconstruction forgets that it is tied", LIFTED, "{map_.weight: dV.T} if", "{} if"),
    Mutation(
        "attack: the worst input is the last one", ATTACK, "higher = values > highest", "higher = values == values"
    ),
    Mutation("attack: samples leave the box", ATTACK, "return x.clamp(low, high)", "return x"),
    Mutation("attack: samples leave the ball", ATTACK, "moved.clamp(-self.epsilon, self.epsilon)", "moved"),
    Mutation("attack: the right class counts as a wrong one", ATTACK, "output.scatter(1, y[:, None], -inf)", "output"),
    Mutation("sensitivity: the gradient of a mean", SENSITIVITY, "samples * loss(output, y)", "loss(output, y)"),
    Mutation("sensitivity: equal samples are a pair", SENSITIVITY, "[apart > 0]", ""),
    Mutation(
        "momentum is kept uphill", MOMENTUM, ".real.sum(1, keepdim=True) > 0", ".real.sum(1, keepdim=True) > torch.inf"
    ),
    Mutation("momentum runs ahead from the start", MOMENTUM, "((t - 1) / ahead)", "(t / ahead)"),
    # lifted energies and their rules
    Mutation(
        "gaps go down undiscounted",
        GAPS,
        "return self.gamma * self.heard(k, self.sent(k + 1))",
        "return self.heard(k, self.sent(k + 1))",
    ),
    Mutation("weights learn with another discount", GAPS, "self.gamma ** (k - 1)", "self.gamma**k"),
    Mutation("gaps stop above the lowest layer", DESCENT, "max(self.lowest - 1, 1)", "max(self.lowest - 1, 2)"),
    Mutation("simultaneous steps overwrite drives", DESCENT, "if k not in self.owned:", "if False:"),
    Mutation("simultaneous steps go back", DESCENT, "1 + self.momentum", "1 - self.momentum"),
    Mutation("steps longer than the curvature allows", LIFTED_ENERGY, "self.gamma * (1.05", "self.gamma * (0.3"),
    Mutation(
        "lifted proximal operators send what projections lose",
        POTENTIAL,
        "return s - self.activation.f(a)",
        "return s - a",
    ),
    Mutation(
        "auxiliary coordinates without a derivative",
        POTENTIAL,
        "return self.activation.derivative(a, rest) * (s - rest)",
        "return s - rest",
    ),
    Mutation("predictive coding takes full steps", POTENTIAL, "slope, value=step", "slope, value=1.0"),
    Mutation("outputs are pulled away", LIFTED_RULES, "return output - loss.gradient", "return output + loss.gradient"),
    Mutation("the free phase is added", PROXIMAL, "free_weight=-scale", "free_weight=scale"),
    Mutation("packed bits are read backwards", PACKING, ">> torch.arange(8)", ">> torch.arange(7, -1, -1)"),
    Mutation(
        "packed rows are filled up with ones", PACKING, "-values.shape[-1] % 8))", "-values.shape[-1] % 8), value=True)"
    ),
    Mutation("a packed scale of one output serves all", PACKING, "size == scale[:, None]", "size == size"),
    Mutation(
        "packed products forget the last rows",
        KERNEL,
        "outputs - row < ROWS ? outputs - row",
        "outputs - row < ROWS ? 0",
    ),
    Mutation("packed products mix samples up", KERNEL, "y[s * outputs + r]", "y[r * outputs + s]"),
    Mutation("packed products lose gradients", PRODUCT, "not (x.requires_grad and torch.is_grad_enabled())", "True"),
    Mutation("packed convolutions forget the scale", PACKED, " * self.scale[:, None, None]", " * 1"),
    Mutation("packed layers unpack all", PRODUCT, "max(1, TILE // inputs)", "len(bits)"),
    Mutation(
        "packed files forget where a layer stands again",
        ARCHITECTURE,
        "module._modules.items()",
        "module.named_children()",
    ),
    Mutation("packed files go unchecked", PACKED_FILE, "if not _sealed(data):", "if False:"),
    Mutation(
        "packed scales of gguf are in single precision",
        GGUF_FILE,
        "scale = _half(layer.scale.cpu())",
        "scale = layer.scale.cpu().double()",
    ),
    Mutation(
        "packed architectures take any class of a known name",
        ARCHITECTURE,
        "LAYERS.get(kind.__name__) is not kind",
        "kind.__name__ not in LAYERS",
    ),
    Mutation(
        "predictions are fixed but activations linear",
        EXACT_CODING,
        "torch.lerp(errors[k], felt, step)",
        "torch.lerp(errors[k], heard, step)",
    ),
]


def passes(source: Path, tests: list[Path]) -> bool:
    """Whether tests pass on a source, without the type checks and doctests that the settings of the project add."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *map(str, tests)],
        env=os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def survives(mutation: Mutation) -> bool:
    """Whether the tests pass on a copy of the source with that bug; the file's own tests come first."""
    file = TESTS / mutation.file
    own = OWN.get(mutation.file, file.with_name(f"test_{file.name}"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
        file = source / "dyadnet" / mutation.file
        file.write_text(file.read_text().replace(mutation.old, mutation.new))
        return (not own.exists() or passes(source, [own])) and passes(source, CORE)


def main(words: list[str]) -> int:
    """Run the mutations whose name contains one of the words, all without words; return how many survived."""
    survivors = []
    for mutation in MUTATIONS:
        if words and not any(word in mutation.name for word in words):
            continue
        alive = survives(mutation)
        print(f"{'SURVIVED' if alive else 'caught':<9} {mutation.name}", flush=True)
        survivors += [mutation] * alive
    print(f"{len(survivors)} survived")
    return len(survivors)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
