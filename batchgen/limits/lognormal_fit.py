"""Fits a lognormal distribution to times of which some are censored: those of generations that are still at work.

The first generations of a batch to end are its fastest, so a mean of them alone is too low. That a generation is not
finished at some age enters the likelihood as the probability of a longer time (a Tobit model). In theta = 1/sigma and
gamma = mu/sigma the likelihood is concave (Olsen, Econometrica 46, 1978), so Newton's method finds its one maximum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from batchgen.jobtable.timings import Timing

PRIOR_SIGMA = 0.3  # of the times of one model and clip length: services document ranges such as 3 to 4 minutes
SIGMA_WEIGHT = 2.0  # generations that the prior of sigma counts for
MEDIAN_WEIGHT = 0.05  # the same for the first guess of the median, which may be wrong by a factor of ten
STEPS = 30  # of Newton's method, at most; about six suffice
LOWEST_Z = -35.0  # below it, the normal distribution function underflows


def fit(timing: Timing, unfinished: Mapping[float, int], guess: float) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of the next generation's time in seconds.

    `unfinished` counts running generations by the logarithm of their age, and `guess` is that of the first guess. The
    prior is Normal-inverse-gamma; the deviation is that of the next time, so it is wide while few have ended.
    """
    # Sums over the logarithms, from `guess` as their zero.
    number, weight = SIGMA_WEIGHT + timing.count, MEDIAN_WEIGHT + timing.count
    total = timing.count * (timing.log_mean - guess)
    squares = SIGMA_WEIGHT * PRIOR_SIGMA**2 + timing.log_m2 + total * (timing.log_mean - guess)
    theta = math.sqrt(number / (squares - total**2 / weight))
    gamma = theta * total / weight
    for _ in range(STEPS):
        slope_gamma, slope_theta = theta * total - weight * gamma, number / theta - theta * squares + gamma * total
        curve_gamma, curve_theta, curve_both = weight, number / theta**2 + squares, -total
        for log_age, count in unfinished.items():
            age = log_age - guess
            z = max(gamma - theta * age, LOWEST_Z)
            mills = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(-z / math.sqrt(2)))
            slope_gamma, slope_theta = slope_gamma + count * mills, slope_theta - count * age * mills
            information = count * mills * (mills + z)  # that of so many ended generations
            curve_gamma, curve_theta = curve_gamma + information, curve_theta + age * age * information
            curve_both -= age * information
        determinant = curve_gamma * curve_theta - curve_both**2
        step_gamma = (curve_theta * slope_gamma - curve_both * slope_theta) / determinant
        step_theta = (curve_gamma * slope_theta - curve_both * slope_gamma) / determinant
        damping = max(1.0, 2 * abs(step_theta) / theta)  # theta stays positive
        gamma, theta = gamma + step_gamma / damping, theta + step_theta / damping
        if max(abs(step_gamma), abs(step_theta)) < 1e-6 * theta:
            break
    return guess + gamma / theta, math.sqrt(1 + 1 / curve_gamma) / theta
